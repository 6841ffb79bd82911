//! `Transactions`: how one sink instance writes every row once. The transaction T(n) holds exactly
//! the rows before the barrier of snapshot n, and is committed after that snapshot is.
//!
//! ```text
//!            rows            barrier n                committed(n)
//!   Open ──────────► Open ─────────────► Prepared(n) ─────────────► Open
//!   sent and kept            saved: the kept rows      T(n) is committed with mark n; rows are
//!                            rows wait in the inbox    forgotten
//!                                            │ abandoned(n): T(n) goes on as T(n+1)
//!                                            └────────────────────────────────────► Open
//! ```
//! A producer that dies takes its open transaction with it: Kafka aborts it, and nobody can commit it
//! any more, prepared or not. So the rows of T(n) are part of snapshot n. Whoever restores n becomes
//! the producer of the same *transactional id*, which fences the one before; then the id's *mark* is
//! what it is for good:
//!
//! ```text
//!   mark = n   T(n) was committed: forget the saved rows
//!   mark < n   it was not, and never will be: send the saved rows again, commit with mark n
//!   mark > n   rows behind the snapshot are visible and would come again: refuse, unless it was
//!              accepted that they do (RESUME … acceptRepeats: the snapshot of that mark is forsaken)
//!   no mark, or an older one than the snapshot knew: the topic forgot it: refuse
//! ```
//! The mark is committed by the transaction itself, so that it can never lie. An instance restores
//! all ids that its partitions name, also those of instances that are no more: their producers must
//! be fenced, and their rows sent.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray},
    datatypes::Int64Type,
};
use storage::{env::Failpoints, partition::PartitionId};

use super::{
    encoder::RowEncoder,
    sink::OpenLog,
    topic_log::{Answer, Failure, Waiting},
    transaction::{Lifetime, Transaction},
};
use crate::{
    Error, Result,
    item::SnapshotId,
    processor::{Done, ProcessorContext},
    state::{StateChunk, StateWriter},
};

/// Chunks: what is known of a transactional id; the rows of its transaction.
const TAG_ID: u8 = 0;
const TAG_ROWS: u8 = 1;

/// Where transactions go.
pub struct Target {
    /// Its name, for messages.
    pub topic: Arc<str>,
    /// Rows to messages.
    pub encoder: Arc<RowEncoder>,
    /// Makes a producer.
    pub open: OpenLog,
    /// Of a transaction.
    pub lifetime: Lifetime,
    /// Where tests have the execution lost.
    pub failpoints: Failpoints,
    /// The newest snapshot that was given up: what it committed comes again.
    pub forsaken: SnapshotId,
}

impl Target {
    fn fail_at(&self, place: &'static str) -> Answer<()> {
        match self.failpoints.hit(place) {
            true => Err(Failure::Failed(Error::Lost(place.to_owned()))),
            false => Ok(()),
        }
    }
}

/// The transactions of one instance.
pub struct Transactions {
    target: Target,
    /// Number of the instance: the partition of its chunks.
    ordinal: usize,
    /// Its transactional id.
    id: String,
    phase: Phase,
    /// The present transaction, from the start on.
    transaction: Option<Transaction>,
    /// Mark of the newest transaction known to be committed; 0 for none.
    marked: i64,
    /// Ids that are not settled yet.
    unsettled: Vec<Unsettled>,
}

/// Where the instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits until its transactional ids are its own and what was restored is settled.
    Starting,
    /// Takes rows; a barrier ends it.
    Open,
    /// Waits for the snapshot to become good, or to be abandoned.
    Prepared(SnapshotId),
}

/// What a snapshot says of one transactional id.
struct Unsettled {
    ordinal: usize,
    id: String,
    /// 0 for an id that is new.
    snapshot: SnapshotId,
    /// The newest mark that was known.
    marked: i64,
    rows: Vec<RecordBatch>,
    progress: Progress,
}

/// How far an id is settled.
enum Progress {
    /// Nothing was asked.
    New,
    /// Waits for the producer to be the only one.
    Fencing(Transaction),
    /// Waits for the mark.
    Asking(Transaction),
    /// Waits for the saved rows to be committed.
    Sending(Transaction),
    /// Its producer was handed on.
    Settled,
}

impl Transactions {
    /// Of an instance that has not restored anything yet.
    pub fn new(target: Target, context: &ProcessorContext) -> Result<Self> {
        // Chunks are found again by the instance's number.
        let instances_max = usize::from(context.grid.config().partition_count);
        if context.parallelism > instances_max {
            return Err(Error::Invalid {
                code: "0A000",
                message: format!(
                    "{} sinks into a topic with processingGuarantee 'exactlyOnce' are not \
                     supported: at most {instances_max}, the number of partitions",
                    context.parallelism
                ),
            });
        }
        let drawn = context.grid.env().rng.next_u64();
        let (job, vertex, ordinal) = (context.job_id, &context.vertex, context.index);
        Ok(Self {
            id: format!("tidewater-{drawn:016x}-{job}-{vertex}-{ordinal}"),
            target,
            ordinal,
            phase: Phase::Starting,
            transaction: None,
            marked: 0,
            unsettled: Vec::new(),
        })
    }

    /// One chunk of a snapshot.
    pub fn restore(&mut self, chunk: &StateChunk) {
        let ordinal = usize::from(chunk.partition.0);
        let position = self.unsettled.iter().position(|unsettled| unsettled.ordinal == ordinal);
        let position = position.unwrap_or_else(|| {
            self.unsettled.push(Unsettled::new(ordinal, String::new()));
            self.unsettled.len() - 1
        });
        let unsettled = &mut self.unsettled[position];
        if chunk.tag == TAG_ROWS {
            unsettled.rows.push(chunk.rows.clone());
            return;
        }
        let number = |column: usize| chunk.rows.column(column).as_primitive::<Int64Type>().value(0);
        unsettled.id = chunk.rows.column(0).as_string::<i32>().value(0).to_owned();
        unsettled.snapshot = number(1) as SnapshotId;
        unsettled.marked = number(2);
    }

    /// Whether rows must wait for a snapshot to be decided.
    pub fn holds_back(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Makes rows part of the present transaction.
    pub fn keep(&mut self, rows: RecordBatch) -> Result<()> {
        assert_eq!(self.phase, Phase::Open, "rows behind a barrier wait");
        self.transaction.as_mut().ok_or_else(not_started)?.keep(rows);
        Ok(())
    }

    /// Sends what is kept, as far as there is room; before the first row settles what was restored.
    pub fn send(&mut self) -> Answer<Done> {
        if self.phase == Phase::Starting {
            self.start()?;
        }
        self.target.fail_at("topic.send")?;
        self.transaction()?.send()
    }

    /// A snapshot is taken: its transaction has all its rows. Writes them and the id.
    pub fn save(&mut self, state: &mut StateWriter) -> Result<()> {
        let snapshot = state.snapshot;
        let is_in_order = match self.phase {
            Phase::Starting => false,
            Phase::Open => snapshot > 0,
            // The one before was abandoned, whether that was told or not.
            Phase::Prepared(before) => before <= snapshot,
        };
        if !is_in_order {
            return Err(Error::Internal(format!("snapshot {snapshot} in {:?}", self.phase)));
        }
        self.phase = Phase::Prepared(snapshot);
        if self.target.failpoints.hit("topic.save") {
            return Err(Error::Lost("topic.save".to_owned()));
        }
        let id: ArrayRef = Arc::new(StringArray::from(vec![self.id.as_str()]));
        let number = |number: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![number])) };
        let columns = [
            ("transactional_id", id),
            ("snapshot", number(snapshot as i64)),
            ("mark", number(self.marked)),
        ];
        let rows = RecordBatch::try_from_iter(columns)?;
        let partition = PartitionId(self.ordinal as u16);
        state.put(StateChunk { partition, tag: TAG_ID, rows });
        let transaction = self.transaction.as_ref().ok_or_else(not_started)?;
        for rows in transaction.rows() {
            state.put(StateChunk { partition, tag: TAG_ROWS, rows: rows.clone() });
        }
        Ok(())
    }

    /// Snapshot `id` is good: the rows before its barrier become visible.
    pub fn committed(&mut self, id: SnapshotId) -> Answer<Done> {
        let Phase::Prepared(prepared) = self.phase else { return Ok(Done::Yes) };
        if id < prepared || self.commit(prepared as i64)? == Done::Yes {
            self.phase = if id < prepared { self.phase } else { Phase::Open };
            return Ok(Done::Yes);
        }
        Ok(Done::No)
    }

    /// Snapshot `id` will never be: its rows are the next one's.
    pub fn abandoned(&mut self, id: SnapshotId) {
        if matches!(self.phase, Phase::Prepared(prepared) if prepared <= id) {
            self.phase = Phase::Open;
        }
    }

    /// Serves the events of all logs.
    pub fn serve(&mut self) -> Answer<Waiting> {
        let mut all = Waiting::default();
        let settling = self.unsettled.iter_mut().filter_map(Unsettled::transaction);
        for transaction in self.transaction.iter_mut().chain(settling) {
            let Waiting { bytes, trouble } = transaction.log().serve()?;
            all.bytes += bytes;
            all.trouble = all.trouble.or(trouble);
        }
        Ok(all)
    }

    /// Bytes of what is kept and encoded.
    pub fn bytes(&self) -> usize {
        self.transaction.as_ref().map_or(0, Transaction::bytes)
    }

    fn transaction(&mut self) -> Answer<&mut Transaction> {
        self.transaction.as_mut().ok_or_else(|| Failure::Failed(not_started()))
    }

    fn commit(&mut self, mark: i64) -> Answer<Done> {
        self.target.fail_at("topic.commit")?;
        let transaction = self.transaction()?;
        let has_rows = !transaction.rows().is_empty();
        let done = transaction.commit(mark)?;
        self.target.fail_at("topic.committed")?;
        if done == Done::Yes && has_rows {
            self.marked = mark;
        }
        Ok(done)
    }

    /// Becomes the producer of its ids and settles what they left.
    fn start(&mut self) -> Answer<()> {
        let is_own = |unsettled: &Unsettled| unsettled.ordinal == self.ordinal;
        if self.transaction.is_none() && !self.unsettled.iter().any(is_own) {
            self.unsettled.push(Unsettled::new(self.ordinal, self.id.clone()));
        }
        while let Some(unsettled) = self.unsettled.last_mut() {
            let (transaction, marked) = unsettled.settle(&self.target)?;
            self.target.fail_at("topic.settled")?;
            if unsettled.ordinal == self.ordinal {
                self.id = std::mem::take(&mut unsettled.id);
                (self.transaction, self.marked) = (Some(transaction), marked);
            }
            self.unsettled.pop();
        }
        self.phase = Phase::Open;
        Ok(())
    }
}

fn not_started() -> Error {
    Error::Internal("a sink that has not started".to_owned())
}

impl Unsettled {
    fn new(ordinal: usize, id: String) -> Self {
        let (snapshot, marked, rows) = (0, 0, Vec::new());
        Self { ordinal, id, snapshot, marked, rows, progress: Progress::New }
    }

    fn transaction(&mut self) -> Option<&mut Transaction> {
        match &mut self.progress {
            Progress::New | Progress::Settled => None,
            Progress::Fencing(transaction)
            | Progress::Asking(transaction)
            | Progress::Sending(transaction) => Some(transaction),
        }
    }

    /// Fences, asks, sends again; when all of it is done its transactions, and the mark.
    fn settle(&mut self, target: &Target) -> Answer<(Transaction, i64)> {
        loop {
            target.fail_at(self.place())?;
            let progress = std::mem::replace(&mut self.progress, Progress::Settled);
            match self.advance(progress, target) {
                (Progress::Settled, Ok(Some(settled))) => return Ok(settled),
                (progress, answer) => {
                    self.progress = progress;
                    answer?;
                }
            }
        }
    }

    /// Where a test may have the execution lost: before each step.
    fn place(&self) -> &'static str {
        match self.progress {
            Progress::New | Progress::Settled => "topic.open",
            Progress::Fencing(_) => "topic.fence",
            Progress::Asking(_) => "topic.mark",
            Progress::Sending(_) => "topic.resend",
        }
    }

    /// One step: what it leads to, and whether there is a next. A step that fails leads nowhere.
    fn advance(
        &mut self,
        progress: Progress,
        target: &Target,
    ) -> (Progress, Answer<Option<(Transaction, i64)>>) {
        match progress {
            Progress::New | Progress::Settled => match (target.open)(Some(&self.id)) {
                Ok(log) => {
                    let lifetime = target.lifetime.clone();
                    let transaction = Transaction::new(&target.encoder, log, lifetime);
                    (Progress::Fencing(transaction), Ok(None))
                }
                Err(error) => (Progress::New, Err(Failure::Failed(error))),
            },
            Progress::Fencing(mut transaction) => match transaction.log().init() {
                Ok(()) => (Progress::Asking(transaction), Ok(None)),
                Err(failure) => (Progress::Fencing(transaction), Err(failure)),
            },
            Progress::Asking(mut transaction) => {
                let mark = transaction.log().mark();
                let is_missing =
                    mark.and_then(|mark| self.is_missing(target, mark).map_err(Failure::Failed));
                match is_missing {
                    Err(failure) => (Progress::Asking(transaction), Err(failure)),
                    Ok(Some(mark)) => (Progress::Settled, Ok(Some((transaction, mark)))),
                    Ok(None) => {
                        self.rows.drain(..).for_each(|rows| transaction.keep(rows));
                        (Progress::Sending(transaction), Ok(None))
                    }
                }
            }
            Progress::Sending(mut transaction) => {
                let mark = self.snapshot as i64;
                match transaction.commit(mark) {
                    Ok(Done::Yes) => (Progress::Settled, Ok(Some((transaction, mark)))),
                    Ok(Done::No) => (Progress::Sending(transaction), Err(Failure::Later)),
                    Err(failure) => (Progress::Sending(transaction), Err(failure)),
                }
            }
        }
    }

    /// What the mark of an id says of the saved rows: `None` if they must be sent again, or else the
    /// mark. 55000 if the rows of the job are in the topic neither once nor not at all.
    fn is_missing(&self, target: &Target, mark: Option<i64>) -> Result<Option<i64>> {
        let (topic, forsaken) = (&target.topic, target.forsaken as i64);
        let snapshot = self.snapshot as i64;
        let refuse = |reason: String| {
            let message = format!(
                "topic \"{topic}\", transactional id \"{}\": {reason}; rows would be lost or \
                 repeated",
                self.id
            );
            Err(Error::User { code: "55000", message })
        };
        match mark {
            None if self.marked > 0 => refuse(format!(
                "snapshot {snapshot} knows of a committed transaction and the broker does not"
            )),
            Some(mark) if mark < self.marked => refuse(format!(
                "the broker's newest transaction is that of snapshot {mark}, older than that of \
                 snapshot {}",
                self.marked
            )),
            Some(mark) if mark > snapshot.max(self.marked).max(forsaken) => refuse(format!(
                "the transaction of snapshot {mark} is committed, behind snapshot {snapshot}"
            )),
            Some(mark) if mark >= snapshot || self.rows.is_empty() => Ok(Some(mark)),
            None if self.rows.is_empty() => Ok(Some(0)),
            Some(_) | None => Ok(None),
        }
    }
}
