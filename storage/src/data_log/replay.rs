//! `Replay`: the records of the data log, applied to tables that hold what their checkpoints say.
//!
//! ```text
//!   checkpoint of t at LSN 40, writer 7 undecided then          log
//!   ├ 38 Put t …             it shows that already: left out
//!   ├ 39 Rows by 7 in t      kept until it is known what became of 7
//!   ├ 41 Put t …             applied
//!   └ 42 Commit 7            39 is applied
//! ```
//! Rows of a writer are kept in memory until its end is read: a statement's twice, for as long as a
//! recovery takes. What nobody decided is decided by the control state if it is a job's, and left out
//! otherwise. Records of tables that are gone are left out.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Author, JobRun, Record, record::Rows};
use crate::{
    Datum, Result, Table,
    cluster::control::ObjectId,
    log::Lsn,
    table::{KeyedWrite, WriteMode, Writer},
};

/// Up to where a table shows already what the log says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// All of it up to this record,
    pub lsn: Lsn,
    /// but for what these writers did, each from the record beside it on: they were undecided.
    pub undecided: Vec<(Lsn, u64)>,
}

/// A table that is being recovered.
#[derive(Debug, Clone)]
pub(crate) struct Recovered {
    pub(crate) table: Arc<Table>,
    pub(crate) position: Position,
}

/// What has been read and not been decided.
pub(crate) struct Replay<'a> {
    tables: &'a HashMap<ObjectId, Recovered>,
    begin: Box<dyn Fn() -> Writer + 'a>,
    /// By writer: statements and blocks.
    open: HashMap<u64, Vec<Change>>,
    /// By execution, in the order in which it was written.
    of_jobs: HashMap<JobRun, Vec<JobChange>>,
    /// Tables in which something was changed.
    changed: HashSet<ObjectId>,
}

struct Change {
    table: Arc<Table>,
    is_removal: bool,
    rows: Rows,
}

struct JobChange {
    writer: u64,
    after: u64,
    change: Change,
}

impl Position {
    /// Whether it shows already what record `lsn`, of this author if of one, says.
    fn shows(&self, lsn: Lsn, author: Option<&Author>) -> bool {
        let is_undecided = author.is_some_and(|author| {
            let mut undecided = self.undecided.iter();
            undecided.any(|(first, writer)| *writer == author.writer() && lsn >= *first)
        });
        lsn <= self.lsn && !is_undecided
    }

    /// The first record that is needed to bring a table from here to the present.
    pub(crate) fn needs(&self) -> Lsn {
        let first = self.undecided.iter().map(|(first, _)| *first).min();
        first.unwrap_or(Lsn(u64::MAX)).min(Lsn(self.lsn.0 + 1))
    }
}

impl<'a> Replay<'a> {
    /// Applies records to these tables, under writers that `begin` gives.
    pub(crate) fn new(
        tables: &'a HashMap<ObjectId, Recovered>,
        begin: impl Fn() -> Writer + 'a,
    ) -> Self {
        let (open, of_jobs, changed) = Default::default();
        Self { tables, begin: Box::new(begin), open, of_jobs, changed }
    }

    /// The next record.
    pub(crate) fn apply(&mut self, lsn: Lsn, record: Record<'static>) -> Result<()> {
        match record {
            Record::Start => {
                self.open.clear();
                self.of_jobs.clear();
            }
            Record::Put { table, row } => {
                if let Some(table) = self.target(table, lsn, None) {
                    let row = row.into_owned();
                    if let (true, Some(Datum::Int(id))) =
                        (table.record().has_hidden_key, row.last())
                    {
                        table.use_row_ids(*id);
                    }
                    table.write(&KeyedWrite::Put { mode: WriteMode::Upsert, row })?;
                }
            }
            Record::Delete { table, key } => {
                if let Some(table) = self.target(table, lsn, None) {
                    table.write(&KeyedWrite::Delete { key: key.into_owned() })?;
                }
            }
            Record::Truncate { table, partition } => {
                if let Some(table) = self.target(table, lsn, None) {
                    table.truncate_partition(partition)?;
                }
            }
            Record::Rows { author, table, is_removal, rows } => {
                if let Some(table) = self.target(table, lsn, Some(&author)) {
                    let change = Change { table: Arc::clone(table), is_removal, rows };
                    match author {
                        Author::Writer(writer) => self.open.entry(writer).or_default().push(change),
                        Author::Job { writer, run, after } => {
                            let changes = self.of_jobs.entry(run).or_default();
                            changes.push(JobChange { writer, after, change });
                        }
                    }
                }
            }
            Record::Commit { writer } => {
                let changes = self.open.remove(&writer).unwrap_or_default();
                self.write(&changes.iter().collect::<Vec<_>>())?;
            }
            Record::Abort { writer } => {
                self.open.remove(&writer);
                for changes in self.of_jobs.values_mut() {
                    changes.retain(|change| change.writer != writer);
                }
            }
            Record::CommitJob { run, snapshot } => self.commit_job(run, snapshot)?,
            Record::AbortJob { run } => drop(self.of_jobs.remove(&run)),
        }
        Ok(())
    }

    /// Executions with changes that nothing has decided.
    pub(crate) fn undecided_runs(&self) -> Vec<JobRun> {
        self.of_jobs.keys().copied().collect()
    }

    /// The tables in which something was changed.
    pub(crate) fn into_changed(self) -> HashSet<ObjectId> {
        self.changed
    }

    /// Applies what an execution wrote after snapshots older than this one.
    pub(crate) fn commit_job(&mut self, run: JobRun, snapshot: u64) -> Result<()> {
        let Some(changes) = self.of_jobs.remove(&run) else { return Ok(()) };
        let (covered, later): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.after < snapshot);
        if !later.is_empty() {
            self.of_jobs.insert(run, later);
        }
        self.write(&covered.iter().map(|covered| &covered.change).collect::<Vec<_>>())
    }

    /// The table of a record, unless it is gone or shows already what the record says.
    fn target(
        &mut self,
        id: ObjectId,
        lsn: Lsn,
        author: Option<&Author>,
    ) -> Option<&'a Arc<Table>> {
        let found = self.tables.get(&id)?;
        if found.position.shows(lsn, author) {
            return None;
        }
        self.changed.insert(id);
        Some(&found.table)
    }

    fn write(&self, changes: &[&Change]) -> Result<()> {
        // Nobody reads yet, so it need not be seen as a whole: each part is settled at once.
        for Change { table, is_removal, rows } in changes.iter().copied() {
            let writer = (self.begin)();
            match is_removal {
                true => table.remove_keys(&writer, &rows.batch(&table.key_schema())?)?,
                false => table.write_whole(&writer, &rows.batch(table.schema())?)?,
            }
            writer.commit()?;
        }
        Ok(())
    }
}
