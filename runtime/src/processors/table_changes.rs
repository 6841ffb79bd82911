//! `table_changes`: an endless source of a table's rows as they are at the start, if they are wanted, then
//! of every change committed after that. It asks for changes whenever it is called; between two calls
//! they wait in the table's journals, and their bound ends it.
//!
//! ```text
//!   rows of the start ─────────────▶ changes, commit by commit ─────────▶
//!   position: rows 0 … n             position: all up to a stamp
//!                 └─ a barrier passes between two rows of the start, later between two commits
//! ```
//! A job's source reads from a pin: what it has read stays there until a snapshot that covers it is the
//! oldest that is kept, so an execution goes on from the position it is restored to, as if nothing had
//! happened. Without a guarantee, and for a client, it goes as soon as it has left.

mod commits;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use storage::{
    Table,
    cluster::control::ObjectId,
    partition::PartitionId,
    table::{CHANGE_DIFF, CHANGE_TIME, FEED_BYTES_MAX, PinnedChanges, ScanLane},
};

use self::commits::{Piece, cut};
use super::operator::{OperatorSupplier, Stateful};
use crate::{
    Error, Result,
    delta::{DeltaBatch, Weight},
    item::{Item, SnapshotId},
    job::Guarantee,
    processor::{Done, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{StateChunk, StateWriter},
};

/// The columns that follow those of the table: time and diff.
const ADDED: [&str; 2] = [CHANGE_TIME, CHANGE_DIFF];

/// What the state of such a source is called, up to the table's name.
pub(crate) const STATE: &str = "position in the changes of table";
/// What follows the table's name if it begins with the first change after the start.
pub(crate) const FROM_NOW: &str = " from now on";

/// Where the changes of a table begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangesFrom {
    /// With the rows that are there, as if they came at the start.
    Rows,
    /// With the first change after the start.
    Now,
}

/// What a change is in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangesAs {
    /// A row of its own, with the number of its commit and 1 or −1 in two more columns.
    Rows,
    /// The row that comes, or that goes: its weight.
    Weights,
}

/// A source of the changes of a table.
#[derive(Debug, Clone)]
pub struct TableChangesSpec {
    /// The table.
    pub table: Arc<Table>,
    /// Where they begin.
    pub from: ChangesFrom,
    /// What they are.
    pub form: ChangesAs,
    /// Whether a job reads them.
    pub is_of_job: bool,
    /// Positions among the columns that users see of the table, with `_time` and `_diff` behind them
    /// if the changes are rows.
    pub projection: Vec<usize>,
}

/// A source of the changes of a table; see [`TableChangesSpec`]. Use one instance.
pub fn table_changes(spec: TableChangesSpec) -> Arc<dyn ProcessorSupplier> {
    let record = spec.table.record();
    let all = spec.table.schema().fields();
    let visible = all.len() - usize::from(record.has_hidden_key);
    let number = |name| Arc::new(Field::new(name, DataType::Int64, false));
    let added = ADDED.map(number);
    let field = |&column: &usize| match column.checked_sub(visible) {
        None => Arc::clone(&all[column]),
        Some(added_column) => Arc::clone(&added[added_column]),
    };
    let fields: Vec<_> = spec.projection.iter().map(field).collect();
    let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
    // What is read holds the hidden key, too.
    let place =
        |column: usize| if column < visible { column } else { column - visible + all.len() };
    let columns: Vec<usize> = spec.projection.iter().map(|column| place(*column)).collect();
    let name = &record.name.name;
    let start = if spec.from == ChangesFrom::Now { FROM_NOW } else { "" };
    let description = format!("changes({name}{start}: {})", names.join(", "));
    let state = format!("{STATE} \"{name}\"{start}");
    let supplier = OperatorSupplier {
        description,
        schema: Arc::new(Schema::new(fields)),
        make: move || {
            Ok(Box::new(TableChanges {
                spec: spec.clone(),
                columns: columns.clone(),
                source: None,
                context: None,
            }) as Box<dyn Processor>)
        },
    };
    Arc::new(Stateful { supplier, state })
}

struct TableChanges {
    spec: TableChangesSpec,
    /// The columns to emit, of those that are read.
    columns: Vec<usize>,
    /// `None` but for instance 0; the others emit nothing.
    source: Option<Source>,
    context: Option<ProcessorContext>,
}

/// What is read, and how far.
struct Source {
    pinned: Arc<PinnedChanges>,
    /// The rows of the start that were not read yet.
    lane: Option<ScanLane>,
    /// The stamp of the newest change that was read.
    read: u64,
    /// Read, not emitted yet.
    waiting: VecDeque<Piece>,
    /// What was emitted.
    told: Position,
    /// Whether a part of a commit was emitted that `told` does not count yet.
    is_in_commit: bool,
    /// Whether an earlier execution has read from the pin what can no longer be read: unless this one is
    /// restored, it needs another.
    is_late: bool,
    /// The positions saved for snapshots that may be restored, and for later ones.
    saved: BTreeMap<SnapshotId, Position>,
}

/// How far a source has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    /// The stamp of the rows of the start.
    started_at: u64,
    /// As many of them; `None` for all.
    rows: Option<u64>,
    /// And all changes up to this stamp.
    stamp: u64,
}

impl Source {
    fn new(pinned: Arc<PinnedChanges>) -> Self {
        let (started_at, lane) = (pinned.started_at(), pinned.rows());
        let rows = lane.is_some().then_some(0);
        Self {
            is_late: !pinned.is_whole(),
            pinned,
            lane,
            read: started_at,
            waiting: VecDeque::new(),
            told: Position { started_at, rows, stamp: started_at },
            is_in_commit: false,
            saved: BTreeMap::new(),
        }
    }

    /// The next piece to emit.
    fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.waiting.pop_front() {
                return Ok(Some(piece));
            }
            if let Some(lane) = &mut self.lane {
                match lane.next().transpose()? {
                    Some(rows) => return Ok(Some(Piece::Rows(rows))),
                    None => {
                        self.lane = None;
                        self.told.rows = None;
                    }
                }
                continue;
            }
            let Some(changes) = self.pinned.read(self.read)? else { return Ok(None) };
            self.waiting = cut(&changes);
            self.read = self.waiting.back().map_or(self.read, Piece::stamp);
        }
    }

    /// A piece was emitted.
    fn note(&mut self, piece: &Piece) {
        match piece {
            Piece::Rows(rows) => {
                self.told.rows = self.told.rows.map(|told| told + rows.num_rows() as u64);
            }
            Piece::Changes { stamp, is_end, .. } => {
                self.is_in_commit = !is_end;
                if *is_end {
                    self.told.stamp = *stamp;
                }
            }
        }
    }

    /// Goes on from a position that was saved; whether it can.
    fn go_on(&mut self, position: Position) -> Result<bool> {
        let is_same = position.started_at == self.told.started_at;
        if !self.pinned.reaches(position.stamp) || (position.rows.is_some() && !is_same) {
            return Ok(false);
        }
        self.is_late = false;
        self.read = position.stamp;
        self.waiting.clear();
        self.told = position;
        let Some(mut seen) = position.rows else {
            self.lane = None;
            return Ok(true);
        };
        let Some(mut lane) = self.pinned.rows() else { return Ok(false) };
        while seen > 0 {
            let Some(rows) = lane.next().transpose()? else { return Ok(false) };
            let count = (rows.num_rows() as u64).min(seen);
            seen -= count;
            if (count as usize) < rows.num_rows() {
                let rest = rows.slice(count as usize, rows.num_rows() - count as usize);
                self.waiting.push_back(Piece::Rows(rest));
            }
        }
        self.lane = Some(lane);
        Ok(true)
    }
}

impl TableChanges {
    fn pin(&self) -> Result<Arc<PinnedChanges>> {
        let of_job = self.context.as_ref().filter(|_| self.spec.is_of_job);
        let bytes_max = of_job.map_or(FEED_BYTES_MAX, |job| job.grid.config().pinned_bytes_max);
        let with_rows = self.spec.from == ChangesFrom::Rows;
        let pinned = Arc::new(self.spec.table.pin_changes(with_rows, bytes_max)?);
        if let Some(job) = of_job {
            let (id, control) = (ObjectId(job.job_id), job.grid.control().state());
            let since = control.jobs.get(&id).map_or(0, |job| job.snapshots.execution_last);
            job.grid.pins().keep(id, &job.vertex, since, &pinned);
        }
        Ok(pinned)
    }

    /// The pin of an earlier execution of the job.
    fn pinned_before(&self) -> Result<Option<Arc<PinnedChanges>>> {
        let Some(context) = self.context.as_ref().filter(|_| self.spec.is_of_job) else {
            return Ok(None);
        };
        let pinned = context.grid.pins().get(ObjectId(context.job_id), &context.vertex);
        let Some(pinned) = pinned else { return Ok(None) };
        if self.forgets() && pinned.check().is_err() {
            return Ok(None);
        }
        if pinned.table().record().id != self.spec.table.record().id {
            return Err(self.lost("they were those of another table of that name"));
        }
        pinned.check().map_err(|error| self.behind(error))?;
        Ok(Some(pinned))
    }

    /// What is read has no end but a bound: a job's says what to do about it.
    fn behind(&self, error: storage::Error) -> Error {
        match error {
            storage::Error::Limit(message) if self.spec.is_of_job => {
                Error::User { code: "53400", message }
            }
            other => other.into(),
        }
    }

    fn lost(&self, why: &str) -> Error {
        let name = &self.spec.table.record().name.name;
        let text = format!("the changes of table \"{name}\" from there on are not kept: {why}");
        storage::Error::WrongState(text).into()
    }

    /// Whether what has left will never be asked for again.
    fn forgets(&self) -> bool {
        let is_unsafe = |context: &ProcessorContext| context.guarantee == Guarantee::None;
        !self.spec.is_of_job || self.context.as_ref().is_none_or(is_unsafe)
    }

    /// Begins anew where nothing was restored: without a guarantee, or where repeats were accepted.
    fn begin(&mut self) -> Result<()> {
        if !self.source.as_ref().is_some_and(|source| source.is_late) {
            return Ok(());
        }
        self.source = Some(Source::new(self.pin()?));
        Ok(())
    }

    /// Emits pieces while there is room, as long as `wanted`; whether there is nothing left of that.
    fn emit(&mut self, outbox: &mut Outbox, wanted: impl Fn(&Source) -> bool) -> Result<bool> {
        let forgets = self.forgets();
        let forget = |source: &Source| {
            if forgets && source.told.rows.is_none() && !source.is_in_commit {
                source.pinned.release(source.told.stamp);
            }
        };
        let Some(mut source) = self.source.take() else { return Ok(true) };
        let emitted = loop {
            if !wanted(&source) {
                break Ok(true);
            }
            if !outbox.has_room() {
                break Ok(false);
            }
            let piece = match source.next() {
                Ok(Some(piece)) => piece,
                Ok(None) => {
                    forget(&source);
                    break Ok(true);
                }
                Err(Error::Storage(error)) => break Err(self.behind(error)),
                Err(error) => break Err(error),
            };
            let batch = match self.batch(&source, &piece) {
                Ok(batch) => batch,
                Err(error) => break Err(error),
            };
            if !batch.is_empty() && outbox.offer(Item::Batch(batch)).is_some() {
                source.waiting.push_front(piece);
                break Ok(false);
            }
            source.note(&piece);
            forget(&source);
        };
        self.source = Some(source);
        emitted
    }

    /// What is emitted of a piece.
    fn batch(&self, source: &Source, piece: &Piece) -> Result<DeltaBatch> {
        let is_rows = self.spec.form == ChangesAs::Rows;
        match piece {
            Piece::Rows(rows) if is_rows => {
                let (count, schema) = (rows.num_rows(), source.pinned.schema());
                let mut columns = rows.columns().to_vec();
                for number in [source.told.started_at as i64, 1] {
                    columns.push(Arc::new(Int64Array::from_value(number, count)) as ArrayRef);
                }
                let rows = RecordBatch::try_new(schema, columns)?;
                Ok(DeltaBatch::insertions(rows.project(&self.columns)?))
            }
            Piece::Rows(rows) => Ok(DeltaBatch::insertions(rows.project(&self.columns)?)),
            Piece::Changes { rows, .. } if is_rows => {
                Ok(DeltaBatch::insertions(rows.project(&self.columns)?))
            }
            Piece::Changes { rows, .. } => {
                let diffs = rows.column(rows.num_columns() - 1).as_primitive::<Int64Type>();
                let all = |diff: i64| diffs.values().iter().all(|other| *other == diff);
                let weight = match () {
                    () if all(1) => Weight::One,
                    () if all(-1) => Weight::MinusOne,
                    () => Weight::Array(diffs.clone()),
                };
                Ok(DeltaBatch { rows: rows.project(&self.columns)?, weight })
            }
        }
    }
}

impl Processor for TableChanges {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.context = Some(context.clone());
        if context.index == 0 {
            let pinned = match self.pinned_before()? {
                Some(pinned) => pinned,
                None => self.pin()?,
            };
            self.source = Some(Source::new(pinned));
        }
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        self.begin()?;
        self.emit(outbox, |_| true)?;
        Ok(Done::No)
    }

    fn epoch(&mut self, _epoch: u64, outbox: &mut Outbox) -> Result<Done> {
        // No barrier cuts a commit in two.
        Ok(match self.emit(outbox, |source| source.is_in_commit)? {
            true => Done::Yes,
            false => Done::No,
        })
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        self.begin()?;
        if let Some(source) = &mut self.source {
            let rows = source.told.to_rows()?;
            state.put(StateChunk { partition: PartitionId(0), tag: 0, rows });
            source.saved.insert(state.snapshot, source.told);
        }
        Ok(Done::Yes)
    }

    fn committed(&mut self, _id: SnapshotId) -> Result<Done> {
        let (Some(context), Some(source)) = (&self.context, &mut self.source) else {
            return Ok(Done::Yes);
        };
        let control = context.grid.control().state();
        let good = control.jobs.get(&ObjectId(context.job_id)).map(|job| &job.snapshots.good);
        if let Some(oldest) = good.and_then(|good| good.first()) {
            if let Some(Position { rows: None, stamp, .. }) = source.saved.get(&oldest.id) {
                source.pinned.release(*stamp);
            }
            source.saved = source.saved.split_off(&oldest.id);
        }
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        let Some(source) = &mut self.source else { return Ok(()) };
        match source.go_on(Position::of_rows(&chunk.rows)?)? {
            true => Ok(()),
            false => {
                Err(self.lost("they are kept for the job that reads them, as long as it may run"))
            }
        }
    }
}

impl Position {
    fn to_rows(self) -> Result<RecordBatch> {
        let field = |name, is_nullable| Field::new(name, DataType::Int64, is_nullable);
        let fields = vec![field("started_at", false), field("rows", true), field("stamp", false)];
        let rows = self.rows.map(|rows| rows as i64);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![self.started_at as i64])),
            Arc::new(Int64Array::from(vec![rows])),
            Arc::new(Int64Array::from(vec![self.stamp as i64])),
        ];
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn of_rows(rows: &RecordBatch) -> Result<Self> {
        let [started_at, told, stamp] = rows.columns() else {
            return Err(Error::Internal("a position has three columns".to_owned()));
        };
        let first = |column: &ArrayRef| column.as_primitive::<Int64Type>().value(0) as u64;
        let (started_at, stamp) = (first(started_at), first(stamp));
        Ok(Self { started_at, rows: told.is_valid(0).then(|| first(told)), stamp })
    }
}
