//! `Router`: finds the owner of a partition, sends it the operation and handles all it may say.
//! Waiting for a writer or for a partition on the move happens here, never at the owner.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex, RwLock};

use super::{
    codec,
    memory::Memory,
    op::{Answer, Op, Output, Request, Run, Status},
    owner::{Holding, Owner},
    patience::{is_stopped, may_wait},
    schema::TableSchema,
    writer::{ReadView, Writers},
};
use crate::{Error, GridConfig, Result, cluster::control::ObjectId, partition::PartitionId};

/// How long one wait for a new assignment lasts, and how many there are before the partition is
/// reported unavailable: together as long as a wait for a writer.
const MOVE_WAIT: Duration = Duration::from_millis(10);
const MOVE_WAITS_MAX: u32 = 200;

/// How often an operation waits for one writer after another before it gives up.
const WRITER_WAITS_MAX: u32 = 100;

/// The way from callers to owners.
#[derive(Debug)]
pub(crate) struct Router {
    writers: Arc<Writers>,
    owners: Vec<Owner>,
    /// Written by moves of a partition, read by every operation.
    assignment: RwLock<Assignment>,
    /// Notified, with this mutex, after each change of the assignment.
    assignment_changed: (Mutex<()>, Condvar),
    request_id_last: AtomicU64,
}

/// Which owner has which partition.
#[derive(Debug)]
struct Assignment {
    /// Counts the moves.
    version: u64,
    /// Position in [`Router::owners`] by partition.
    owners: Vec<u16>,
}

/// Counts the waits of one operation, so that it ends.
#[derive(Debug, Default)]
struct Patience {
    move_waits: u32,
    writer_waits: u32,
}

impl Router {
    /// A router to as many owners as configured, partitions dealt to them in turn.
    pub(crate) fn new(config: &GridConfig) -> Arc<Self> {
        let writers = Writers::new();
        let memory = Memory::new(config.table_memory_max);
        let count = config.simulated_owners.max(1);
        let owners: Vec<_> = (0..config.partition_count).map(|p| p % count).collect();
        let new_owner = |owner: u16| {
            let owns = |partition: PartitionId| owners[usize::from(partition.0)] == owner;
            let (writers, memory) = (Arc::clone(&writers), Arc::clone(&memory));
            Owner::new(writers, memory, config.partition_count, owns)
        };
        Arc::new(Self {
            owners: (0..count).map(new_owner).collect(),
            writers,
            assignment: RwLock::new(Assignment { version: 1, owners }),
            assignment_changed: Default::default(),
            request_id_last: AtomicU64::new(0),
        })
    }

    /// Number of partitions.
    pub(crate) fn partition_count(&self) -> u16 {
        self.assignment.read().owners.len() as u16
    }

    /// The writers that all owners share.
    pub(crate) fn writers(&self) -> &Arc<Writers> {
        &self.writers
    }

    /// Everything committed by now.
    pub(crate) fn read_view(&self) -> ReadView {
        self.writers.read_view(0)
    }

    /// Begins to serve a table.
    pub(crate) fn add_table(&self, schema: &Arc<TableSchema>) {
        self.owners.iter().for_each(|owner| owner.add_table(schema));
    }

    /// Frees a table.
    pub(crate) fn drop_table(&self, id: ObjectId) {
        self.owners.iter().for_each(|owner| owner.drop_table(id));
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

    /// Moves a partition with the rows of all tables to another owner. Invalid for an owner or
    /// partition that does not exist.
    pub(crate) fn move_partition(&self, partition: PartitionId, target: u16) -> Result<()> {
        let Some(target_owner) = self.owners.get(usize::from(target)) else {
            return Err(Error::Invalid(format!("there is no owner {target}")));
        };
        if partition.0 >= self.partition_count() {
            return Err(Error::Invalid(format!("there is no partition {}", partition.0)));
        }
        // One move at a time: the write lock is not enough, since it is not held during the move.
        let _moving = self.assignment_changed.0.lock();
        let (_, source) = self.route(partition);
        if source != target {
            let source = &self.owners[usize::from(source)];
            source.hold(partition, Holding::Leaving);
            source.hand_over(partition, target_owner);
            target_owner.hold(partition, Holding::Owned);
            let mut assignment = self.assignment.write();
            assignment.version += 1;
            assignment.owners[usize::from(partition.0)] = target;
            drop(assignment);
            source.hold(partition, Holding::Absent);
            self.assignment_changed.1.notify_all();
        }
        Ok(())
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
        let id = self.request_id_last.fetch_add(1, Ordering::Relaxed) + 1;
        let request = Request { id, assignment_version, table, op };
        let owner = &self.owners[usize::from(owner)];
        if self.owners.len() == 1 {
            owner.execute(&request)
        } else {
            self.send_bytes(owner, &request)
        }
    }

    /// Sends an operation the way it will go between members.
    fn send_bytes(&self, owner: &Owner, request: &Request<'_>) -> Result<Answer> {
        let bytes = codec::encode_request(request)?;
        let arrived = codec::decode_request(&bytes)?;
        let bytes = codec::encode_answer(owner.execute(&arrived))?;
        let mut answer = codec::decode_answer(&bytes)?;
        assert_eq!(arrived.id, request.id, "an answer to another operation");
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
            return Err(Error::Conflict);
        }
        if let Status::Retry { writer: Some(writer) } = status {
            patience.writer_waits += 1;
            if patience.writer_waits > WRITER_WAITS_MAX {
                return Err(Error::Conflict);
            }
            return self.writers.wait_for_end_of(writer);
        }
        patience.move_waits += 1;
        if patience.move_waits > MOVE_WAITS_MAX {
            return Err(Error::Unavailable(partition.0));
        }
        let mut guard = self.assignment_changed.0.lock();
        if self.assignment.read().version == version {
            self.assignment_changed.1.wait_for(&mut guard, MOVE_WAIT);
        }
        Ok(())
    }
}
