//! `Plan`: what a statement asks for, ready to run. The server drives it and frames its rows; it
//! never looks inside.

use std::{pin::Pin, sync::Arc};

use arrow::array::RecordBatch;
use futures::Stream;
use storage::{Datum, table::Writer};

use crate::{
    OutputColumn, Result, Session,
    dml::{CopyRows, Emptied, MappingInsert, Modify},
    planner::Statement,
    query::BoundQuery,
};
pub use crate::{
    keyed::{KeyedOutcome, KeyedPlan},
    stream_plan::StreamPlan,
};

/// Rows on their way to a client, in batches. Dropping it stops what makes them.
pub type RowStream = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// What a statement asks for.
#[expect(clippy::large_enum_variant, reason = "made once a statement and moved, never stored")]
pub enum Plan {
    /// A statement about one key: run it at once on the connection's thread.
    Keyed(Arc<KeyedPlan>, Vec<Datum>),
    /// A bounded query: poll its stream on the query pool.
    Query(QueryPlan),
    /// An unbounded query: rows come as they come; flush each batch.
    Stream(StreamPlan),
    /// INSERT, UPDATE, DELETE, TRUNCATE over many rows: run it on the query pool.
    Modify(ModifyPlan),
    /// DDL and job statements: run it on the query pool.
    Command(CommandPlan),
    /// An answer that is already known: SHOW, EXPLAIN.
    Rows {
        /// Result columns.
        columns: Vec<OutputColumn>,
        /// Rows.
        batches: Vec<RecordBatch>,
        /// Command tag (`SHOW`, `EXPLAIN`).
        tag: &'static str,
    },
    /// What only the connection's session can do.
    Session(SessionStatement),
    /// COPY … FROM STDIN.
    CopyIn(CopyIn),
    /// COPY … TO STDOUT of a query plan.
    CopyOut {
        /// A [`Plan::Query`], [`Plan::Stream`] or [`Plan::Rows`].
        source: Box<Plan>,
        /// Format.
        options: CopyOptions,
    },
}

/// A bounded query.
pub struct QueryPlan {
    /// Result columns; batches have exactly these, by position.
    pub columns: Vec<OutputColumn>,
    pub(crate) bound: BoundQuery,
}

impl QueryPlan {
    /// Starts it: takes the read view and gives the rows.
    pub fn execute(self, session: &Session) -> Result<RowStream> {
        self.bound.execute(session)
    }
}

/// A write of many rows.
pub struct ModifyPlan {
    /// Columns of RETURNING.
    pub columns: Option<Vec<OutputColumn>>,
    pub(crate) work: ModifyWork,
}

/// Which write of many rows it is.
pub(crate) enum ModifyWork {
    /// INSERT, UPDATE, DELETE.
    Rows(Modify),
    /// TRUNCATE in a transaction block.
    Emptied(Emptied),
    /// INSERT into a mapping.
    Mapping(MappingInsert),
}

/// What a write of many rows did.
pub struct ModifyOutcome {
    /// Command tag, complete.
    pub tag: String,
    /// Rows of RETURNING.
    pub batches: Vec<RecordBatch>,
}

impl ModifyPlan {
    /// Runs it: one writer, committed at the end unless a transaction block is open, in which case
    /// the block's writer is used (and made, on its first write).
    pub async fn execute(self, session: &mut Session) -> Result<ModifyOutcome> {
        match self.work {
            ModifyWork::Rows(work) => work.execute(session).await,
            ModifyWork::Emptied(work) => work.execute(session),
            ModifyWork::Mapping(work) => work.execute(session).await,
        }
    }
}

/// DDL, CREATE/ALTER/DROP JOB.
pub struct CommandPlan {
    pub(crate) work: Work,
}

/// What a command does when it runs.
pub(crate) type Work = Box<dyn FnOnce(&Session) -> Result<CommandOutcome> + Send>;

/// What a command did.
#[derive(Debug, Default)]
pub struct CommandOutcome {
    /// Command tag (`CREATE TABLE`, `CREATE JOB`).
    pub tag: String,
    /// NOTICEs: (SQLSTATE, message), e.g. `relation "t" already exists, skipping`.
    pub notices: Vec<(&'static str, String)>,
}

impl CommandPlan {
    /// Runs it; may take as long as a job needs to stop.
    pub fn run(self, session: &Session) -> Result<CommandOutcome> {
        (self.work)(session)
    }
}

/// What only the connection's session can do.
#[derive(Debug, Clone)]
pub enum SessionStatement {
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// SET name = value (LOCAL is refused outside a block, as in PostgreSQL, with a warning).
    Set {
        /// Lower-case setting name.
        name: String,
        /// Value; `None` for DEFAULT and RESET.
        value: Option<String>,
        /// SET LOCAL.
        is_local: bool,
    },
    /// RESET ALL, DISCARD ALL.
    ResetAll {
        /// Also drops prepared statements and cursors.
        discard: bool,
    },
    /// PREPARE name (types) AS statement.
    Prepare {
        /// Name.
        name: String,
        /// Declared parameter types.
        types: Vec<crate::SqlType>,
        /// The statement.
        statement: Box<Statement>,
    },
    /// EXECUTE name (values): constants, already evaluated, as text or NULL.
    Execute {
        /// Name.
        name: String,
        /// Values in PostgreSQL's text form.
        values: Vec<Option<String>>,
    },
    /// DEALLOCATE name, or ALL.
    Deallocate(Option<String>),
    /// DECLARE name CURSOR FOR query.
    Declare {
        /// Name.
        name: String,
        /// The query.
        statement: Box<Statement>,
        /// WITH HOLD.
        is_hold: bool,
    },
    /// FETCH count FROM name; `None` is ALL.
    Fetch {
        /// Name.
        name: String,
        /// Rows; `None` for ALL.
        count: Option<u64>,
        /// MOVE: skip instead of send.
        is_move: bool,
    },
    /// CLOSE name, or ALL.
    Close(Option<String>),
    /// LISTEN, UNLISTEN: accepted where it means nothing (UNLISTEN *); tag.
    Nothing(&'static str),
}

/// Format of COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    /// CSV; else PostgreSQL's text format.
    pub is_csv: bool,
    /// HEADER.
    pub has_header: bool,
    /// DELIMITER.
    pub delimiter: u8,
    /// NULL string.
    pub null: String,
    /// QUOTE (csv).
    pub quote: u8,
    /// ESCAPE (csv).
    pub escape: u8,
}

/// COPY … FROM STDIN: the server parses the lines into batches of `columns` and writes them here.
pub struct CopyIn {
    /// Name of the table, for messages.
    pub table: String,
    /// Columns the client sends, in order.
    pub columns: Vec<OutputColumn>,
    /// Arrow schema of the batches to write: the same columns.
    pub schema: arrow::datatypes::SchemaRef,
    /// Format.
    pub options: CopyOptions,
    pub(crate) rows: CopyRows,
}

impl CopyIn {
    /// Writes a batch, adding defaults for columns the client does not send. Not visible before
    /// [`CopyIn::finish`].
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows.write(batch)
    }

    /// The writer that the rows belong to when a block is open. The session must keep it as its
    /// block's writer, or the rows go with this value.
    pub fn block_writer(&self) -> Option<Arc<Writer>> {
        self.rows.block_writer()
    }

    /// Makes all rows visible at once and answers their number; dropping it instead undoes them.
    pub fn finish(self) -> Result<u64> {
        self.rows.finish()
    }
}
