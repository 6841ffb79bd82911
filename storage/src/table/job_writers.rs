//! `JobWriters`: the writers of one execution of an exactly-once job. What it publishes is seen at
//! once by provisional readers, and by everybody when a snapshot covers it; until then all of it
//! can be undone, so that a replay meets the rows as they were.
//!
//! ```text
//! sink instance    W1 ─ publish   W2 ─ publish │ saves snapshot 1 │  W3 ─ publish
//! tagged `after`   0              0                                  1
//! commit(1)                                         W1 and W2, at one stamp; W3 stays undecided
//!
//! key k:  index ──→ slot 12 (W3) ──→ slot 9 (W1) ──→ slot 4
//!         provisional reads 12, durable reads 9 after commit(1) and 4 before it, abort leaves 9
//! ```
//! A later writer of the execution builds on what an earlier one published, so several of them may
//! stand in the chain of one key. They are committed from its old end and aborted from its new
//! one: a writer meets rows of its execution only if they are committed no later than its own.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::{
    router::Router,
    writer::{Writer, ended},
    writer_cell::{Fate, JobTag, Touched, WriterCell},
};
use crate::{Error, Result, data_log::JobRun};

/// The writers of one execution of a job. Any number of sink instances begin and publish at once;
/// dropping it aborts what is not committed.
#[derive(Debug)]
pub struct JobWriters {
    /// Names the job in errors.
    name: String,
    router: Arc<Router>,
    run: JobRun,
    execution: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Aborted; nothing comes any more.
    is_over: bool,
    /// The newest snapshot committed.
    committed: u64,
    /// Begun and neither published nor dropped; some that were, until the next begins.
    open: Vec<Arc<WriterCell>>,
    /// Published and not committed, by the snapshot saved before them.
    published: BTreeMap<u64, Group>,
}

/// Writers that the same snapshot commits.
#[derive(Debug, Default)]
struct Group {
    cells: Vec<Arc<WriterCell>>,
    touched: Touched,
}

impl JobWriters {
    /// No writer yet.
    pub(crate) fn new(router: &Arc<Router>, name: &str, run: JobRun) -> Arc<Self> {
        let execution = router.writers().begin_execution();
        let (name, router) = (name.to_owned(), Arc::clone(router));
        Arc::new(Self { name, router, run, execution, state: Mutex::default() })
    }

    /// A new pending writer of a sink instance that has saved snapshot `after` last (0: none).
    /// After [`JobWriters::abort`] it is aborted from the start: each write answers WrongState.
    pub fn begin(&self, after: u64) -> Writer {
        let mut state = self.state.lock();
        let tag = JobTag { run: self.run, execution: self.execution, after };
        let writer = Writer::begin(&self.router, Some(tag));
        if state.is_over {
            writer.abort();
        }
        state.open.retain(|cell| cell.fate() == Fate::Pending);
        state.open.push(Arc::clone(writer.cell()));
        writer
    }

    /// Makes all changes of `writer` visible to provisional readers, at one stamp. WrongState,
    /// and nothing of it stays, if the execution was aborted or a snapshot is committed already
    /// that should have covered it.
    pub fn publish(&self, writer: Writer) -> Result<()> {
        let cell = writer.cell();
        let tag = cell.job().filter(|tag| tag.execution == self.execution);
        let Some(tag) = tag else { return Err(self.wrong("the writer is not of this execution")) };
        let mut state = self.state.lock();
        if state.is_over {
            return Err(self.aborted());
        }
        if tag.after < state.committed {
            return Err(self.wrong("a snapshot was committed before all it covers was published"));
        }
        if !self.router.writers().publish(cell) {
            return Err(ended());
        }
        let group = state.published.entry(tag.after).or_default();
        group.cells.push(Arc::clone(cell));
        let touched = std::mem::take(&mut *cell.touched.lock());
        group.touched.merge(touched, self.router.partition_count());
        Ok(())
    }

    /// Commits, at one stamp, all published writers begun after an older snapshot than
    /// `snapshot`: those that it covers. Ids rise; one that is not above the last changes nothing.
    /// Takes time in proportion to the rows. WrongState after [`JobWriters::abort`].
    pub fn commit(&self, snapshot: u64) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_over {
            return Err(self.aborted());
        }
        if snapshot <= state.committed {
            return Ok(());
        }
        state.committed = snapshot;
        let later = state.published.split_off(&snapshot);
        let covered = std::mem::replace(&mut state.published, later);
        let covered: Vec<_> = covered.into_values().collect();
        let cells = covered.iter().flat_map(|group| &group.cells);
        self.router.writers().end_job(cells, self.run, Some(snapshot));
        drop(state);
        self.settle(covered);
        Ok(())
    }

    /// Undoes every writer that is not committed, the pending ones included, for all readers at
    /// once; nothing can be begun, published or committed after it.
    pub fn abort(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        let mut undone: Vec<_> = std::mem::take(&mut state.published).into_values().collect();
        let open = std::mem::take(&mut state.open);
        let cells = undone.iter().flat_map(|group| &group.cells);
        self.router.writers().end_job(cells.chain(&open), self.run, None);
        drop(state);
        let mut touched = Touched::default();
        for cell in &open {
            let one = std::mem::take(&mut *cell.touched.lock());
            touched.merge(one, self.router.partition_count());
        }
        undone.push(Group { cells: open, touched });
        self.settle(undone);
    }

    fn settle(&self, groups: Vec<Group>) {
        let mut touched = Touched::default();
        let mut cells = Vec::new();
        for group in groups {
            touched.merge(group.touched, self.router.partition_count());
            cells.extend(group.cells);
        }
        touched.settle(&self.router);
        self.router.writers().forget(&cells);
    }

    fn aborted(&self) -> Error {
        self.wrong("its writers were aborted")
    }

    fn wrong(&self, what: &str) -> Error {
        Error::WrongState(format!("job \"{}\": {what}", self.name))
    }
}

impl Drop for JobWriters {
    fn drop(&mut self) {
        self.abort();
    }
}
