//! Running a write: attempts under one writer each, until one is not disturbed.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use futures::StreamExt;
use storage::{
    Datum, Table,
    datum::datum_at,
    table::{ReadView, WriteMode, Writer},
};

use crate::{
    Error, OutputColumn, Result, Session, SqlType,
    catalog::provider::{StatementView, visible_schema},
    context::Context,
    keyed::ConflictUpdate,
    plan::ModifyOutcome,
    query::{BoundQuery, PreparedQuery},
};

/// How often a statement of its own writer starts again after a conflict.
const ATTEMPTS_MAX: usize = 16;

/// Most bytes of changed rows that an UPDATE or DELETE holds before it writes them: it must have
/// read all of its input first.
const HELD_BYTES_MAX: usize = 4 << 30;

/// A write whose names and types are known.
#[derive(Debug)]
pub struct PreparedModify {
    /// What is written.
    pub table: Arc<Table>,
    /// How.
    pub action: Action,
    /// RETURNING over the rows written.
    pub returning: Option<PreparedQuery>,
}

/// What is done with the rows of the source.
#[derive(Debug)]
pub enum Action {
    /// Rows of the visible columns.
    Insert {
        /// Gives them.
        source: PreparedQuery,
        /// What to do with a key that is there.
        conflict: Conflict,
    },
    /// Keys, then new rows of the visible columns.
    Update {
        /// Gives them.
        source: PreparedQuery,
        /// Whether SET names a column of the key.
        changes_key: bool,
    },
    /// Keys, then the visible columns if RETURNING wants them.
    Delete {
        /// Gives them.
        source: PreparedQuery,
    },
}

/// What INSERT does with a key that is there.
#[derive(Debug, Clone)]
pub enum Conflict {
    /// 23505.
    Fail,
    /// ON CONFLICT DO NOTHING.
    Skip,
    /// SINK INTO.
    Replace,
    /// ON CONFLICT DO UPDATE.
    Update(Arc<ConflictUpdate>),
}

/// A write with its values, ready to run.
pub struct Modify {
    /// What plans it.
    pub context: Arc<Context>,
    /// What it does.
    pub prepared: Arc<PreparedModify>,
    /// Values of `$1 …`.
    pub values: Vec<Datum>,
}

impl PreparedModify {
    /// The query that gives the rows.
    pub fn source(&self) -> &PreparedQuery {
        match &self.action {
            Action::Insert { source, .. }
            | Action::Update { source, .. }
            | Action::Delete { source } => source,
        }
    }

    /// Types of `$1 …`.
    pub fn parameters(&self) -> &[SqlType] {
        &self.source().parameters
    }

    /// Columns of RETURNING.
    pub fn columns(&self) -> Option<Vec<OutputColumn>> {
        self.returning.as_ref().map(|returning| returning.columns.clone())
    }
}

/// What one attempt did.
#[derive(Default)]
struct Attempt {
    changed: u64,
    returned: Vec<RecordBatch>,
}

impl Modify {
    /// Runs it; see [`crate::plan::ModifyPlan::execute`].
    pub async fn execute(self, session: &mut Session) -> Result<ModifyOutcome> {
        if session.in_transaction {
            let grid = &self.context.parts.grid;
            let writer = Arc::clone(session.writer.get_or_insert_with(|| Arc::new(grid.begin())));
            return self.outcome(session, &writer).await;
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let writer = self.context.parts.grid.begin();
            match self.outcome(session, &writer).await {
                Ok(outcome) => {
                    writer.commit()?;
                    return Ok(outcome);
                }
                Err(error) => {
                    writer.abort();
                    if error.code != "40001" || attempt == ATTEMPTS_MAX {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The plan as text: what is written, and below it the query that gives the rows.
    pub fn explain(&self, session: &Session, is_verbose: bool) -> Result<Vec<String>> {
        let verb = match &self.prepared.action {
            Action::Insert { .. } => "Insert",
            Action::Update { .. } => "Update",
            Action::Delete { .. } => "Delete",
        };
        let bound = self.prepared.source().bind(&self.context, session, &self.values)?;
        let mut lines = vec![format!("{verb}: table={}", self.prepared.table.record().name.name)];
        lines.extend(bound.explain(is_verbose).into_iter().map(|line| format!("  {line}")));
        Ok(lines)
    }

    async fn outcome(&self, session: &Session, writer: &Writer) -> Result<ModifyOutcome> {
        let view = writer.read_view();
        let attempt = match &self.prepared.action {
            Action::Insert { source, conflict } => {
                self.insert(session, writer, &view, source, conflict).await?
            }
            Action::Update { source, changes_key } => {
                self.update(session, writer, &view, source, *changes_key).await?
            }
            Action::Delete { source } => self.delete(session, writer, &view, source).await?,
        };
        let verb = match &self.prepared.action {
            Action::Insert { .. } => "INSERT 0",
            Action::Update { .. } => "UPDATE",
            Action::Delete { .. } => "DELETE",
        };
        let batches = match &self.prepared.returning {
            None => Vec::new(),
            Some(returning) => {
                let bound = returning.bind(&self.context, session, &self.values)?;
                let view = StatementView { view, returned: attempt.returned };
                collect(bound, view).await?
            }
        };
        Ok(ModifyOutcome { tag: format!("{verb} {}", attempt.changed), batches })
    }

    fn is_returning(&self) -> bool {
        self.prepared.returning.is_some()
    }

    async fn insert(
        &self,
        session: &Session,
        writer: &Writer,
        view: &ReadView,
        source: &PreparedQuery,
        conflict: &Conflict,
    ) -> Result<Attempt> {
        let table = &self.prepared.table;
        let schema = visible_schema(table.record());
        let bound = source.bind(&self.context, session, &self.values)?;
        let mut rows =
            bound.execute_with(StatementView { view: view.clone(), returned: Vec::new() })?;
        let mut done = Attempt::default();
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            check_not_null(table, batch.columns())?;
            let batch = RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec())?;
            self.insert_batch(writer, conflict, batch, &mut done)?;
        }
        Ok(done)
    }

    fn insert_batch(
        &self,
        writer: &Writer,
        conflict: &Conflict,
        batch: RecordBatch,
        done: &mut Attempt,
    ) -> Result<()> {
        let table = &self.prepared.table;
        let mode = match conflict {
            Conflict::Fail => WriteMode::Insert,
            Conflict::Skip => WriteMode::InsertIgnore,
            Conflict::Replace => WriteMode::Upsert,
            Conflict::Update(update) => {
                let rows = update.write(table, writer, &batch, &self.values)?;
                done.changed += rows.num_rows() as u64;
                if self.is_returning() {
                    done.returned.push(rows);
                }
                return Ok(());
            }
        };
        if mode == WriteMode::InsertIgnore && self.is_returning() {
            // Row by row: which of them were written is what RETURNING answers.
            for row in 0..batch.num_rows() {
                let row = batch.slice(row, 1);
                if table.write_batch(writer, mode, &row)?.inserted > 0 {
                    done.changed += 1;
                    done.returned.push(row);
                }
            }
            return Ok(());
        }
        let summary = table.write_batch(writer, mode, &batch)?;
        done.changed += summary.inserted + summary.updated;
        if self.is_returning() {
            done.returned.push(batch);
        }
        Ok(())
    }

    async fn update(
        &self,
        session: &Session,
        writer: &Writer,
        view: &ReadView,
        source: &PreparedQuery,
        changes_key: bool,
    ) -> Result<Attempt> {
        let table = &self.prepared.table;
        let record = table.record();
        let key_count = record.key.len();
        let schema = visible_schema(record);
        let mut done = Attempt::default();
        let batches = self.read(session, view, source).await?;
        if changes_key {
            for batch in &batches {
                table.modify_batch(writer, view, &batch.columns()[..key_count], None)?;
            }
        }
        for batch in batches {
            let (keys, values) = batch.columns().split_at(key_count);
            check_not_null(table, values)?;
            let visible = RecordBatch::try_new(Arc::clone(&schema), values.to_vec())?;
            if changes_key {
                table.write_batch(writer, WriteMode::Insert, &visible)?;
            } else {
                let mut columns = values.to_vec();
                if record.has_hidden_key {
                    columns.extend(keys.iter().cloned());
                }
                let rows = RecordBatch::try_new(Arc::clone(table.schema()), columns)?;
                table.modify_batch(writer, view, keys, Some(&rows))?;
            }
            done.changed += batch.num_rows() as u64;
            if self.is_returning() {
                done.returned.push(visible);
            }
        }
        Ok(done)
    }

    async fn delete(
        &self,
        session: &Session,
        writer: &Writer,
        view: &ReadView,
        source: &PreparedQuery,
    ) -> Result<Attempt> {
        let table = &self.prepared.table;
        let key_count = table.record().key.len();
        let schema = visible_schema(table.record());
        let mut done = Attempt::default();
        for batch in self.read(session, view, source).await? {
            let (keys, values) = batch.columns().split_at(key_count);
            table.modify_batch(writer, view, keys, None)?;
            done.changed += batch.num_rows() as u64;
            if self.is_returning() {
                done.returned.push(RecordBatch::try_new(Arc::clone(&schema), values.to_vec())?);
            }
        }
        Ok(done)
    }

    /// All rows of the source, before anything is written.
    async fn read(
        &self,
        session: &Session,
        view: &ReadView,
        source: &PreparedQuery,
    ) -> Result<Vec<RecordBatch>> {
        let bound = source.bind(&self.context, session, &self.values)?;
        collect(bound, StatementView { view: view.clone(), returned: Vec::new() }).await
    }
}

/// Runs a query to its end; 53200 if its rows take too much memory.
async fn collect(bound: BoundQuery, view: StatementView) -> Result<Vec<RecordBatch>> {
    let mut rows = bound.execute_with(view)?;
    let mut batches = Vec::new();
    let mut bytes = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        bytes += batch.get_array_memory_size();
        if bytes > HELD_BYTES_MAX {
            return Err(Error::new("53200", "out of memory")
                .with_detail("The statement changes too many rows at once."));
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// 23502 for a NULL in a NOT NULL column; `columns` are the visible ones.
pub fn check_not_null(table: &Table, columns: &[ArrayRef]) -> Result<()> {
    let record = table.record();
    for (declared, values) in record.columns.iter().zip(columns) {
        if declared.is_not_null && values.null_count() > 0 {
            return Err(null_value(&declared.name, &record.name.name));
        }
    }
    Ok(())
}

/// 23502 in PostgreSQL's words.
pub fn null_value(column: &str, table: &str) -> Error {
    storage::Error::NullValue { table: table.to_owned(), column: column.to_owned() }.into()
}

/// Row `index` of a batch as datums.
pub fn row_of(batch: &RecordBatch, index: usize) -> Result<Vec<Datum>> {
    batch.columns().iter().map(|column| Ok(datum_at(column, index)?)).collect()
}
