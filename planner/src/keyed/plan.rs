//! `KeyedPlan`: one key, one operation, no planning left to do.

use std::sync::Arc;

use storage::{
    Datum, Grid, Row, Table,
    datum::{array_of, batch_of},
    table::{KeyedWrite, ReadView, WriteMode, Writer},
};

use super::{
    attempts::Attempts,
    conflict::{ConflictUpdate, apply},
    value::{Column, Scope, Value, fits},
};
use crate::{
    Error, OutputColumn, Result, Session, SqlType, catalog::provider::visible_schema,
    text::TimeZone,
};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A statement about one full key, found at prepare time.
#[derive(Debug)]
pub struct KeyedPlan {
    /// Result columns, for SELECT and RETURNING.
    pub columns: Option<Vec<OutputColumn>>,
    /// Types of `$1 …`.
    pub(crate) parameters: Vec<SqlType>,
    pub(crate) grid: Arc<Grid>,
    pub(crate) table: Arc<Table>,
    /// Visible columns.
    pub(crate) target: Vec<Column>,
    pub(crate) operation: Operation,
    /// Columns that SELECT and RETURNING answer.
    pub(crate) projection: Vec<usize>,
}

/// What is done with the key.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Reads the row.
    Select { key: Vec<Value> },
    /// Writes a row of all visible columns.
    Insert { row: Vec<Given>, conflict: Conflict },
    /// Changes the row.
    Update { key: Vec<Value>, assignments: Vec<(usize, Value)> },
    /// Removes the row.
    Delete { key: Vec<Value> },
}

/// What INSERT writes into a column.
#[derive(Debug)]
pub(crate) enum Given {
    /// A constant or a parameter.
    Value(Value),
    /// The moment of `now()`, as an instant or as what the session's clock shows.
    Now,
}

/// What INSERT does with a key that is there.
#[derive(Debug)]
pub(crate) enum Conflict {
    Fail,
    Skip,
    Replace,
    Update(ConflictUpdate),
}

/// What a keyed statement did.
#[derive(Debug)]
pub struct KeyedOutcome {
    /// Rows to send; at most one.
    pub rows: Vec<Row>,
    /// Command tag, complete (`SELECT 1`, `INSERT 0 1`, `UPDATE 0`).
    pub tag: String,
}

impl KeyedPlan {
    /// Types of `$1 …`, as [`crate::Prepared::parameters`].
    pub fn parameters(&self) -> &[SqlType] {
        &self.parameters
    }

    /// What EXPLAIN says of it.
    pub(crate) fn explain(&self) -> Vec<String> {
        let record = self.table.record();
        let verb = match &self.operation {
            Operation::Select { .. } => "KeyedGet",
            Operation::Insert { .. } => "KeyedPut",
            Operation::Update { .. } => "KeyedUpdate",
            Operation::Delete { .. } => "KeyedDelete",
        };
        let key = record.key.iter().filter_map(|column| self.target.get(*column));
        let key: Vec<_> = key.map(|column| column.name.as_str()).collect();
        vec![format!("{verb}: table={}, key=[{}]", record.name.name, key.join(", "))]
    }

    /// Runs it. Inside a transaction block it writes under the block's writer.
    pub fn run(&self, session: &mut Session, values: &[Datum]) -> Result<KeyedOutcome> {
        if values.len() != self.parameters.len() {
            return Err(Error::new(
                "08P01",
                format!(
                    "{} parameters are needed, {} were given",
                    self.parameters.len(),
                    values.len()
                ),
            ));
        }
        match &self.operation {
            Operation::Select { key } => self.select(session, key, values),
            Operation::Insert { row, conflict } => self.insert(session, row, conflict, values),
            Operation::Update { key, assignments } => {
                self.update(session, key, assignments, values)
            }
            Operation::Delete { key } => self.delete(session, key, values),
        }
    }

    /// The key's values; `None` if no row can have them.
    fn key(&self, key: &[Value], values: &[Datum]) -> Result<Option<Vec<Datum>>> {
        let scope = Scope { values, row: &[], excluded: &[] };
        let mut datums = Vec::with_capacity(key.len());
        for (value, column) in key.iter().zip(&self.table.record().key) {
            let datum = value.evaluate(&scope)?;
            match &datum {
                Datum::Null => return Ok(None),
                Datum::Int(value) if !fits(*value, &self.target[*column].sql_type) => {
                    return Ok(None);
                }
                _ => datums.push(datum),
            }
        }
        Ok(Some(datums))
    }

    fn select(&self, session: &Session, key: &[Value], values: &[Datum]) -> Result<KeyedOutcome> {
        let Some(key) = self.key(key, values)? else {
            return Ok(KeyedOutcome { rows: Vec::new(), tag: "SELECT 0".to_owned() });
        };
        let found = match &session.writer {
            Some(_) => {
                let view = session.read_view(&self.grid);
                self.table.get(&key, &self.projection, Some(&view))?
            }
            None => self.table.get_newest(&key, &self.projection, session.read_mode)?,
        };
        Ok(match found {
            Some((_, row)) => KeyedOutcome { rows: vec![row], tag: "SELECT 1".to_owned() },
            None => KeyedOutcome { rows: Vec::new(), tag: "SELECT 0".to_owned() },
        })
    }

    fn insert(
        &self,
        session: &mut Session,
        row: &[Given],
        conflict: &Conflict,
        values: &[Datum],
    ) -> Result<KeyedOutcome> {
        let scope = Scope { values, row: &[], excluded: &[] };
        let name = &self.table.record().name.name;
        let row: Row = row
            .iter()
            .zip(&self.target)
            .map(|(given, column)| match given {
                Given::Value(value) => column.check(value.evaluate(&scope)?, name),
                Given::Now => Ok(Datum::Int(self.moment(session, &column.sql_type))),
            })
            .collect::<Result<_>>()?;
        let mode = match conflict {
            Conflict::Fail => WriteMode::Insert,
            Conflict::Skip => WriteMode::InsertIgnore,
            Conflict::Replace => WriteMode::Upsert,
            Conflict::Update(update) => return self.upsert(session, update, row, values),
        };
        let changed = match self.block_writer(session) {
            Some(writer) => {
                let batch = batch_of(std::slice::from_ref(&row), &self.schema())?;
                let summary = self.table.write_batch(&writer, mode, &batch)?;
                summary.inserted + summary.updated
            }
            None if self.is_returning() => {
                self.table.write(&KeyedWrite::Put { mode, row: row.clone() })?
            }
            None => {
                let changed = self.table.write(&KeyedWrite::Put { mode, row })?;
                return Ok(tagged("INSERT 0", changed));
            }
        };
        Ok(self.outcome("INSERT 0", changed, &row))
    }

    fn upsert(
        &self,
        session: &mut Session,
        update: &ConflictUpdate,
        row: Row,
        values: &[Datum],
    ) -> Result<KeyedOutcome> {
        if let Some(writer) = self.block_writer(session) {
            let batch = batch_of(std::slice::from_ref(&row), &self.schema())?;
            let written = update.write(&self.table, &writer, &batch, values)?;
            let row = crate::dml::row_of(&written, 0)?;
            return Ok(self.outcome("INSERT 0", 1, &row));
        }
        let record = self.table.record();
        let key: Vec<Datum> = record.key.iter().map(|column| row[*column].clone()).collect();
        for () in Attempts::new(&self.grid) {
            let (write, written) = match self.table.get(&key, &self.all(), None)? {
                None => {
                    let write = KeyedWrite::Put { mode: WriteMode::Insert, row: row.clone() };
                    (write, row.clone())
                }
                Some((version, present)) => {
                    let next = update.apply(&record.name.name, &present, &row, values)?;
                    (KeyedWrite::Replace { version, row: next.clone() }, next)
                }
            };
            match self.table.write(&write) {
                Ok(_) => return Ok(self.outcome("INSERT 0", 1, &written)),
                Err(storage::Error::Conflict | storage::Error::DuplicateKey { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(storage::Error::Conflict.into())
    }

    fn update(
        &self,
        session: &mut Session,
        key: &[Value],
        assignments: &[(usize, Value)],
        values: &[Datum],
    ) -> Result<KeyedOutcome> {
        let Some(key) = self.key(key, values)? else { return Ok(tagged("UPDATE", 0)) };
        let name = &self.table.record().name.name;
        let change = |row: &[Datum]| {
            apply(&self.target, assignments, name, &Scope { values, row, excluded: &[] })
        };
        if let Some(writer) = self.block_writer(session) {
            return Ok(match self.modify(&writer, &key, |row| change(row).map(Some))? {
                Some(row) => self.outcome("UPDATE", 1, &row),
                None => tagged("UPDATE", 0),
            });
        }
        for () in Attempts::new(&self.grid) {
            let Some((version, row)) = self.table.get(&key, &self.all(), None)? else {
                return Ok(tagged("UPDATE", 0));
            };
            let row = change(&row)?;
            let returned = self.is_returning().then(|| row.clone());
            match self.table.write(&KeyedWrite::Replace { version, row }) {
                Ok(_) => {
                    return Ok(match returned {
                        Some(row) => self.outcome("UPDATE", 1, &row),
                        None => tagged("UPDATE", 1),
                    });
                }
                Err(storage::Error::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(storage::Error::Conflict.into())
    }

    fn delete(
        &self,
        session: &mut Session,
        key: &[Value],
        values: &[Datum],
    ) -> Result<KeyedOutcome> {
        let Some(key) = self.key(key, values)? else { return Ok(tagged("DELETE", 0)) };
        if let Some(writer) = self.block_writer(session) {
            let deleted = self.modify(&writer, &key, |_| Ok(None))?;
            return Ok(tagged("DELETE", deleted.is_some().into()));
        }
        Ok(tagged("DELETE", self.table.write(&KeyedWrite::Delete { key })?))
    }

    /// Changes the newest row of the key under a block's writer: `change` gives the new one, or
    /// `None` to delete it. A row that somebody else changed since it was read is read again, as
    /// PostgreSQL does at READ COMMITTED. Answers the row as it is now, or was when it was deleted;
    /// `None` if there is none.
    fn modify(
        &self,
        writer: &Writer,
        key: &[Datum],
        change: impl Fn(&[Datum]) -> Result<Option<Row>>,
    ) -> Result<Option<Row>> {
        for () in Attempts::new(&self.grid) {
            let view = writer.read_view();
            let Some((_, present)) = self.table.get(key, &self.all(), Some(&view))? else {
                return Ok(None);
            };
            let row = change(&present)?;
            match self.write_modified(writer, &view, key, row.as_ref()) {
                Ok(()) => return Ok(Some(row.unwrap_or(present))),
                Err(error) if error.code == "40001" => {}
                Err(error) => return Err(error),
            }
        }
        Err(storage::Error::Conflict.into())
    }

    fn write_modified(
        &self,
        writer: &Writer,
        view: &ReadView,
        key: &[Datum],
        row: Option<&Row>,
    ) -> Result<()> {
        let schema = self.schema();
        let keys = key
            .iter()
            .zip(&self.table.record().key)
            .map(|(datum, column)| {
                Ok(array_of(std::slice::from_ref(datum), schema.field(*column).data_type())?)
            })
            .collect::<Result<Vec<_>>>()?;
        let rows = row.map(|row| batch_of(std::slice::from_ref(row), &schema)).transpose()?;
        self.table.modify_batch(writer, view, &keys, rows.as_ref())?;
        Ok(())
    }

    /// What `now()` is in a column of the type, µs.
    fn moment(&self, session: &Session, sql_type: &SqlType) -> i64 {
        let clock = || self.grid.env().clock.now_micros();
        let instant = session.block_began_at.unwrap_or_else(clock);
        if *sql_type == SqlType::Timestamptz {
            return instant;
        }
        let zone = session.settings.get("timezone").map(|name| TimeZone::of_setting(name));
        let zone = zone.and_then(Result::ok).unwrap_or(TimeZone::Utc);
        instant + i64::from(zone.offset_seconds(instant)) * MICROS_PER_SECOND
    }

    /// The open block's writer, made on its first write; `None` outside of a block.
    fn block_writer(&self, session: &mut Session) -> Option<Arc<Writer>> {
        session
            .in_transaction
            .then(|| Arc::clone(session.writer.get_or_insert_with(|| Arc::new(self.grid.begin()))))
    }

    fn schema(&self) -> arrow::datatypes::SchemaRef {
        visible_schema(self.table.record())
    }

    fn all(&self) -> Vec<usize> {
        (0..self.target.len()).collect()
    }

    fn is_returning(&self) -> bool {
        self.columns.is_some()
    }

    fn outcome(&self, verb: &str, changed: u64, row: &[Datum]) -> KeyedOutcome {
        let rows = match self.is_returning() && changed > 0 {
            true => vec![self.projection.iter().map(|column| row[*column].clone()).collect()],
            false => Vec::new(),
        };
        KeyedOutcome { rows, ..tagged(verb, changed) }
    }
}

fn tagged(verb: &str, changed: u64) -> KeyedOutcome {
    KeyedOutcome { rows: Vec::new(), tag: format!("{verb} {changed}") }
}
