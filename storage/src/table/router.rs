//! `Router`: finds the owner of a partition, sends it the operation and handles all it may say.
//! Waiting for a writer or for a partition on the move happens here, never at the owner. Who owns
//! what is the control state's to say; the router keeps the last assignment it was told.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::{Condvar, Mutex, RwLock};

use super::{
    codec,
    journal::Feed,
    link::Link,
    logged::LoggedMark,
    memory::Memory,
    op::{Answer, Op, Output, Request, Run, Status},
    owner::{Holding, Owner},
    patience::{blocked_by, is_stopped, may_wait},
    rows::Rows,
    schema::TableSchema,
    view::{ReadMode, ReadView},
    writers::{WRITER_WAIT_SLICES, Writers},
};
use crate::{
    Error, GridConfig, Result,
    cluster::control::{ObjectId, state::Assignment},
    data_log::DataLog,
    env::Network,
    partition::PartitionId,
};

/// How long one wait for a new assignment lasts, and how many there are before the partition is
/// reported unavailable: together as long as a wait for a writer.
const MOVE_WAIT: Duration = Duration::from_millis(10);
const MOVE_WAITS_MAX: u32 = 200;

/// How many such waits there are for a table that takes no writes.
const CLOSED_WAITS_MAX: u32 = 200;

/// How often an operation waits for one writer after another before it gives up.
const WRITER_WAITS_MAX: u32 = 100;

/// The way from callers to owners.
#[derive(Debug)]
pub(crate) struct Router {
    writers: Arc<Writers>,
    owners: Vec<Owner>,
    /// The way to owners that are not in our own hands: when several are simulated.
    link: Option<Link>,
    /// As the control state has it: positions in [`Router::owners`]. Written by its commands, read
    /// by every operation.
    assignment: RwLock<Assignment>,
    /// Notified, with this mutex, after each change of the assignment, and when a table opens.
    assignment_changed: (Mutex<()>, Condvar),
    /// Held for a move: one at a time.
    moving: Mutex<()>,
    /// Where what happens to rows is written down, if anywhere.
    log: OnceLock<Arc<DataLog>>,
}

/// Counts the waits of one operation, so that it ends.
#[derive(Debug, Default)]
struct Patience {
    move_waits: u32,
    closed_waits: u32,
    writer_waits: u32,
    /// Parts of waits for jobs: one may take the same key again and again, but nobody waits
    /// longer for all of them than for one writer.
    job_wait_slices: u32,
}

impl Router {
    /// A router to as many owners as configured, reached over `network` if they are several.
    /// Partitions are dealt to them in turn; [`Router::assign`] says so.
    pub(crate) fn new(config: &GridConfig, network: &Network) -> Arc<Self> {
        let writers = Writers::new();
        let memory = Memory::new(config.table_memory_max);
        let count = config.simulated_owners.max(1);
        let owners = Self::first_assignment(config);
        let new_owner = |owner: u16| {
            let owns = |partition: PartitionId| owners[usize::from(partition.0)] == owner;
            let (writers, memory) = (Arc::clone(&writers), Arc::clone(&memory));
            Owner::new(writers, memory, config.partition_count, owns)
        };
        Arc::new(Self {
            owners: (0..count).map(new_owner).collect(),
            writers,
            link: (count > 1).then(|| Link::new(network.clone(), count)),
            assignment: RwLock::new(Assignment { version: 0, owners: Arc::new(owners) }),
            assignment_changed: Default::default(),
            moving: Mutex::default(),
            log: OnceLock::new(),
        })
    }

    /// From now on what happens to rows is written down.
    pub(crate) fn log_to(&self, log: &Arc<DataLog>) {
        self.owners.iter().for_each(|owner| owner.log_to(log));
        self.writers.log_to(log);
        assert!(self.log.set(Arc::clone(log)).is_ok(), "there is one data log");
    }

    /// Where what happens to rows is written down, if anywhere.
    pub(crate) fn log(&self) -> Option<&Arc<DataLog>> {
        self.log.get()
    }

    /// How much of a table's changes was written down.
    pub(crate) fn logged(&self, id: ObjectId) -> LoggedMark {
        let marks = self.owners.iter().map(|owner| owner.logged(id));
        marks.fold(LoggedMark::default(), LoggedMark::and)
    }

    /// The owner that each partition of a new grid has.
    pub(crate) fn first_assignment(config: &GridConfig) -> Vec<u16> {
        let count = config.simulated_owners.max(1);
        (0..config.partition_count).map(|partition| partition % count).collect()
    }

    /// Routes by this assignment from now on.
    pub(crate) fn assign(&self, assignment: &Assignment) {
        *self.assignment.write() = assignment.clone();
        let _waiting = self.assignment_changed.0.lock();
        self.assignment_changed.1.notify_all();
    }

    /// Number of partitions.
    pub(crate) fn partition_count(&self) -> u16 {
        self.assignment.read().owners.len() as u16
    }

    /// The writers that all owners share.
    pub(crate) fn writers(&self) -> &Arc<Writers> {
        &self.writers
    }

    /// Everything there is by now, in the given mode.
    pub(crate) fn read_view(&self, mode: ReadMode) -> ReadView {
        self.writers.read_view(None, mode)
    }

    /// Begins to serve a table.
    pub(crate) fn add_table(&self, schema: &Arc<TableSchema>) {
        self.owners.iter().for_each(|owner| owner.add_table(schema));
    }

    /// Frees a table.
    pub(crate) fn drop_table(&self, id: ObjectId) {
        self.owners.iter().for_each(|owner| owner.drop_table(id));
    }

    /// Whether a table is served.
    pub(crate) fn has_table(&self, id: ObjectId) -> bool {
        self.owners.first().is_some_and(|owner| owner.has_table(id))
    }

    /// Journals of a table are to be kept for one more reader.
    pub(crate) fn add_feed(&self, id: ObjectId, feed: &Arc<Feed>) {
        self.owners
            .iter()
            .for_each(|owner| owner.change_feeds(id, |feeds| feeds.push(Arc::clone(feed))));
    }

    /// No journals are to be kept for that reader any more.
    pub(crate) fn remove_feed(&self, id: ObjectId, feed: u64) {
        let is_other = |other: &Arc<Feed>| other.id != feed;
        self.owners.iter().for_each(|owner| owner.change_feeds(id, |feeds| feeds.retain(is_other)));
    }

    /// Lets a table take no writes any more, or again; answers whether that is a change.
    pub(crate) fn close_table(&self, id: ObjectId, is_closed: bool) -> bool {
        let changes = self.owners.iter().filter(|owner| owner.close_table(id, is_closed));
        let changed = changes.count() > 0;
        let _waiting = self.assignment_changed.0.lock();
        self.assignment_changed.1.notify_all();
        changed
    }

    /// All partitions, for an operation without rows.
    pub(crate) fn all_partitions(&self) -> Vec<Run> {
        (0..self.partition_count()).map(|partition| Run::whole(PartitionId(partition))).collect()
    }

    /// Sends an operation on one partition until it is done.
    pub(crate) fn call_one<'a>(
        &self,
        table: ObjectId,
        partition: PartitionId,
        op: impl Fn() -> Op<'a>,
    ) -> Result<Output> {
        let mut patience = Patience::default();
        loop {
            let (version, owner) = self.route(partition);
            let answer = self.send(owner, version, table, op())?;
            if answer.status == Status::Done {
                return Ok(answer.output);
            }
            self.wait(answer.status, version, partition, &mut patience)?;
        }
    }

    /// Sends an operation on many partitions to their owners until all of it is done. `op` makes
    /// it for some of the runs; `take` gets each result and the runs it is for.
    pub(crate) fn call_many<'a>(
        &self,
        table: ObjectId,
        mut runs: Vec<Run>,
        op: impl Fn(Vec<Run>) -> Op<'a>,
        mut take: impl FnMut(Output, &[Run]),
    ) -> Result<()> {
        let mut patience = Patience::default();
        while !runs.is_empty() {
            let (version, by_owner) = self.split(std::mem::take(&mut runs));
            let mut status = Status::Done;
            for (owner, part) in by_owner {
                let asked = part.clone();
                let answer = self.send(owner, version, table, op(part))?;
                let is_left =
                    |run: &&Run| answer.left.iter().any(|left| left.partition == run.partition);
                let done: Vec<_> = if answer.left.is_empty() {
                    asked
                } else {
                    asked.iter().filter(|run| !is_left(run)).copied().collect()
                };
                take(answer.output, &done);
                if answer.status != Status::Done {
                    status = answer.status;
                    runs.extend(answer.left);
                }
            }
            if let Some(run) = runs.first() {
                self.wait(status, version, run.partition, &mut patience)?;
            }
        }
        Ok(())
    }

    /// Drops version information of ended writers.
    pub(crate) fn settle(&self, table: ObjectId, partitions: &[PartitionId]) -> Result<()> {
        let runs = partitions.iter().map(|partition| Run::whole(*partition)).collect();
        self.call_many(table, runs, |partitions| Op::Settle { partitions }, |_, _| ())
    }

    /// Moves a partition with the rows of all tables to another owner; `agree` makes the new owner
    /// everybody's once the rows are there. Invalid for an owner or partition that does not exist.
    pub(crate) fn move_partition(
        &self,
        partition: PartitionId,
        target: u16,
        agree: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let Some(target_owner) = self.owners.get(usize::from(target)) else {
            return Err(Error::Invalid(format!("there is no owner {target}")));
        };
        if partition.0 >= self.partition_count() {
            return Err(Error::Invalid(format!("there is no partition {}", partition.0)));
        }
        let _moving = self.moving.lock();
        let (version, source) = self.route(partition);
        if source == target {
            return Ok(());
        }
        let source = &self.owners[usize::from(source)];
        source.hold(partition, Holding::Leaving);
        source.hand_over(partition, target_owner);
        target_owner.take_over(partition, version + 1);
        let agreed = agree();
        if agreed.is_err() {
            // Nobody was routed to the target: back to where everybody looks for it.
            target_owner.hold(partition, Holding::Leaving);
            target_owner.hand_over(partition, source);
            source.hold(partition, Holding::Owned);
            target_owner.hold(partition, Holding::Absent);
            return agreed;
        }
        source.hold(partition, Holding::Absent);
        Ok(())
    }

    /// Gives a partition of a table, which has no rows, these. WrongState if it has some.
    pub(crate) fn install(
        &self,
        table: ObjectId,
        partition: PartitionId,
        rows: Box<Rows>,
    ) -> Result<()> {
        let (_, owner) = self.route(partition);
        self.owners[usize::from(owner)].install(table, partition, rows)
    }

    /// Answers that owners remember.
    #[cfg(test)]
    pub(crate) fn remembered_count(&self) -> usize {
        self.link.as_ref().map_or(0, Link::remembered_count)
    }

    /// Entries that say who sees which row, of all tables.
    #[cfg(test)]
    pub(crate) fn unsettled_count(&self) -> usize {
        self.owners.iter().map(Owner::unsettled_count).sum()
    }

    fn route(&self, partition: PartitionId) -> (u64, u16) {
        let assignment = self.assignment.read();
        (assignment.version, assignment.owners[usize::from(partition.0)])
    }

    /// Runs by owner, in their order.
    fn split(&self, runs: Vec<Run>) -> (u64, Vec<(u16, Vec<Run>)>) {
        let assignment = self.assignment.read();
        if self.owners.len() == 1 {
            return (assignment.version, vec![(0, runs)]);
        }
        let mut by_owner = vec![Vec::new(); self.owners.len()];
        for run in runs {
            let owner = assignment.owners[usize::from(run.partition.0)];
            by_owner[usize::from(owner)].push(run);
        }
        let numbered = (0..).zip(by_owner).filter(|(_, runs)| !runs.is_empty());
        (assignment.version, numbered.collect())
    }

    fn send(
        &self,
        owner: u16,
        assignment_version: u64,
        table: ObjectId,
        op: Op<'_>,
    ) -> Result<Answer> {
        let mut request = Request { id: 0, unanswered_from: 0, assignment_version, table, op };
        let Some(link) = &self.link else {
            return self.owners[usize::from(owner)].execute(&request);
        };
        link.open(&mut request);
        let answer = self.send_bytes(link, owner, &request);
        link.close(request.id);
        answer
    }

    /// Sends an operation the way it will go between members.
    fn send_bytes(&self, link: &Link, owner: u16, request: &Request<'_>) -> Result<Answer> {
        let bytes = codec::encode_request(request)?;
        let arrived = codec::decode_request(&bytes)?;
        let mut answer = link.send(&self.owners, owner, &bytes)?;
        // Rows were counted anew on their way: back to how the caller counts them.
        let sent = request.op.row_runs();
        let position = |run: &Run| {
            let mut arrived = arrived.op.row_runs().iter();
            arrived.position(|other| other.partition == run.partition).map(|at| sent[at])
        };
        let arrived_start = |run: &Run| {
            let mut arrived = arrived.op.row_runs().iter();
            arrived.find(|other| other.partition == run.partition).map_or(0, |other| other.start)
        };
        for left in &mut answer.left {
            if let Some(run) = position(left) {
                left.start = left.start - arrived_start(left) + run.start;
                left.end = run.end;
            }
        }
        if let (Output::Found(rows, _), Op::GetMany { keys, .. }) =
            (&mut answer.output, &request.op)
        {
            let sent_rows: Vec<u32> = sent
                .iter()
                .flat_map(|run| &keys.order[run.start as usize..run.end as usize])
                .copied()
                .collect();
            rows.iter_mut().for_each(|row| *row = sent_rows[*row as usize]);
        }
        Ok(answer)
    }

    /// Waits for what stands in the way of an operation routed by assignment `version`.
    fn wait(
        &self,
        status: Status,
        version: u64,
        partition: PartitionId,
        patience: &mut Patience,
    ) -> Result<()> {
        if !may_wait() || is_stopped() {
            blocked_by(match status {
                Status::Retry { writer } => writer,
                _ => None,
            });
            return Err(Error::Conflict);
        }
        if let Status::Retry { writer: Some(writer) } = status {
            patience.writer_waits += 1;
            if patience.writer_waits > WRITER_WAITS_MAX {
                return Err(Error::Conflict);
            }
            let slices_left = WRITER_WAIT_SLICES - patience.job_wait_slices;
            let waited = self.writers.wait_for(writer, slices_left)?;
            patience.job_wait_slices += u32::from(waited.is_job) * waited.slices;
            return Ok(());
        }
        if status == Status::Closed {
            patience.closed_waits += 1;
            if patience.closed_waits > CLOSED_WAITS_MAX {
                return Err(Error::Conflict);
            }
        } else {
            patience.move_waits += 1;
            if patience.move_waits > MOVE_WAITS_MAX {
                return Err(Error::Unavailable(partition.0));
            }
        }
        let mut guard = self.assignment_changed.0.lock();
        if self.assignment.read().version == version {
            self.assignment_changed.1.wait_for(&mut guard, MOVE_WAIT);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::{
        Datum,
        cluster::control::TableRecord,
        partition::{hash_datums, partition_of_hash},
        table::{KeyedWrite, WriteMode, mailbox::Mailbox},
    };

    /// A router to two owners that serve a table of one column, and its id.
    fn router() -> (Arc<Router>, ObjectId) {
        let config = GridConfig { simulated_owners: 2, ..GridConfig::default() };
        let router = Router::new(&config, &Network::Reliable);
        let owners = Arc::new(Router::first_assignment(&config));
        router.assign(&Assignment { version: 1, owners });
        let columns = vec![Field::new("k", DataType::Int64, false)];
        let record = TableRecord::new("t", Arc::new(Schema::new(columns)), &[0]);
        let schema = Arc::new(TableSchema::new(Arc::new(record)).unwrap());
        router.add_table(&schema);
        (router, schema.record.id)
    }

    fn insert(key: i64) -> (PartitionId, Op<'static>) {
        let row = vec![Datum::Int(key)];
        let hash = hash_datums(&row, &[DataType::Int64]).unwrap();
        let partition = partition_of_hash(hash, 271);
        let write = Cow::Owned(KeyedWrite::Put { mode: WriteMode::Insert, row });
        (partition, Op::Write { partition, hash, write })
    }

    /// Moves a partition as the grid does.
    fn move_to(router: &Router, partition: PartitionId, target: u16) {
        let agree = || {
            let mut next = router.assignment.read().clone();
            Arc::make_mut(&mut next.owners)[usize::from(partition.0)] = target;
            next.version += 1;
            router.assign(&next);
            Ok(())
        };
        router.move_partition(partition, target, agree).unwrap();
    }

    #[test]
    fn operation_of_an_older_assignment_is_answered_moved() {
        let (router, table) = router();
        let (partition, op) = insert(7);
        let (version, home) = router.route(partition);
        let request = Request { id: 1, unanswered_from: 1, assignment_version: version, table, op };
        let status = |request: &Request<'_>| {
            router.owners[usize::from(home)].execute(request).unwrap().status
        };
        move_to(&router, partition, 1 - home);
        assert_eq!(status(&request), Status::Moved, "somebody else owns it");
        move_to(&router, partition, home);
        assert_eq!(status(&request), Status::Moved, "it may have been executed there");
        let (version, _) = router.route(partition);
        assert_eq!(status(&Request { assignment_version: version, ..request }), Status::Done);
    }

    #[test]
    fn repeated_operation_is_executed_once_and_answered_the_same() {
        let (router, table) = router();
        let mailbox = Mailbox::default();
        let send = |id: u64, unanswered_from: u64, key: i64| {
            let (partition, op) = insert(key);
            let (assignment_version, owner) = router.route(partition);
            let request = Request { id, unanswered_from, assignment_version, table, op };
            let bytes = codec::encode_request(&request).unwrap();
            mailbox.receive(&router.owners[usize::from(owner)], &bytes).unwrap()
        };
        let status = |answer: &[u8]| codec::decode_answer(answer).map(|answer| answer.status);
        let first = send(1, 1, 7);
        assert_eq!(status(&first).unwrap(), Status::Done);
        assert_eq!(send(1, 1, 7), first, "not a duplicate key");
        let refused = send(2, 1, 7);
        assert!(matches!(status(&refused), Err(Error::DuplicateKey { .. })));
        assert_eq!(send(2, 1, 7), refused, "errors are answers too");
        assert_eq!(mailbox.remembered_count(), 2);
        send(3, 3, 8);
        assert_eq!(mailbox.remembered_count(), 1, "what was answered is forgotten");
        assert_eq!(status(&send(2, 1, 9)).unwrap(), Status::Moved, "and comes too late");
        assert_eq!(status(&send(4, 3, 9)).unwrap(), Status::Done);
    }
}
