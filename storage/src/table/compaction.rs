//! Compaction: small chunks are merged in tiers and dead rows left behind, a little at a time.
//! Run by the thread whose write made it due; copying happens outside the partition's lock.
//!
//! ```text
//! 1 lock    choose sources, take their arrays      A ▓▓░▓   B ▓░░▓      new chunk C:
//! 2         copy the living rows                                        (not there)
//! 3 lock    C joins with every row dead            A ▓▓░▓   B ▓░░▓      C ░░░░░
//! 4 lock…   256 rows at a time: index and versions
//!           point to C, old row dies, new one lives A ░░░░   B ░░░▓      C ▓▓▓▓░
//! 5 lock    sources are all dead and go                                 C ▓▓▓▓▓
//! ```
//! At every step each row lives exactly once, so scans and writes may come between any two. If
//! the partition moves away or is truncated in between, the rest is left undone.

use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::{concat_batches, filter_record_batch},
};

use super::{
    chunk::Dead,
    index::{CHUNK_ROWS_MAX, Slot, slot_of},
    rows::Rows,
    schema::TableSchema,
    store::Store,
    tail::TAIL_ROWS_MAX,
};
use crate::Result;

/// Living rows up to which a chunk belongs to the middle tier.
const MIDDLE_ROWS_MAX: usize = 8 * TAIL_ROWS_MAX;

/// Chunks merged at once, of the small and of the middle tier.
const SMALL_CHUNKS: usize = 8;
const MIDDLE_CHUNKS: usize = 4;

/// Chunks are not merged beyond this many bytes.
pub(crate) const CHUNK_BYTES_MAX: usize = 4 << 20;

/// Dead rows that must pile up before chunks are rewritten only to be rid of them.
const DEAD_ROWS_MIN: usize = TAIL_ROWS_MAX / 2;

/// Rows repointed under one hold of the lock.
pub(crate) const ROWS_PER_SLICE: usize = 256;

/// The chunks to be merged, as they were under the lock.
#[derive(Debug)]
pub(crate) struct Sources {
    chunks: Vec<(usize, RecordBatch, Dead)>,
}

/// A merge under way: the new chunk and where its rows come from.
#[derive(Debug)]
pub(crate) struct Merge {
    /// Generation of the new chunk; the partition holds the same while the merge is valid.
    token: u64,
    target: usize,
    /// The old slot of each row of the new chunk.
    origins: Vec<Slot>,
    sources: Vec<usize>,
}

impl Sources {
    /// The living rows as one batch, and their slots. Called without any lock.
    pub(crate) fn merge(&self, schema: &TableSchema) -> Result<(RecordBatch, Vec<Slot>)> {
        let mut origins = Vec::new();
        let mut batches = Vec::with_capacity(self.chunks.len());
        for (number, batch, dead) in &self.chunks {
            let rows = 0..batch.num_rows();
            origins
                .extend(rows.filter(|row| !dead.contains(*row)).map(|row| slot_of(*number, row)));
            batches.push(match dead.living(batch.num_rows()) {
                Some(living) => filter_record_batch(batch, &BooleanArray::new(living, None))?,
                None => batch.clone(),
            });
        }
        Ok((concat_batches(schema.arrow(), &batches)?, origins))
    }
}

impl Rows {
    /// What should be merged now, if anything.
    pub(crate) fn begin_compaction(&mut self) -> Option<Sources> {
        if !self.store.is_compaction_due() || self.merging.is_some() {
            return None;
        }
        self.store.compaction_considered();
        let is_settled = |number: usize| {
            let slots = slot_of(number, 0)..slot_of(number, CHUNK_ROWS_MAX - 1) + 1;
            self.versions.as_ref().is_none_or(|versions| !versions.has_created(slots))
        };
        let chosen = choose(&self.store, is_settled);
        let chunks: Vec<_> = chosen
            .into_iter()
            .filter_map(|number| {
                let chunk = self.store.chunk(number)?;
                Some((number, chunk.batch.clone(), chunk.dead.clone()))
            })
            .collect();
        (!chunks.is_empty()).then_some(Sources { chunks })
    }

    /// Takes in the merged chunk, all of its rows still dead.
    pub(crate) fn add_merged(
        &mut self,
        schema: &TableSchema,
        sources: &Sources,
        (batch, origins): (RecordBatch, Vec<Slot>),
    ) -> Option<Merge> {
        // Another thread may have begun the same; sources that are gone mean the same.
        let is_stale = sources.chunks.iter().any(|(number, batch, _)| {
            let same = |chunk: &super::chunk::Chunk| {
                batch
                    .columns()
                    .iter()
                    .zip(chunk.batch.columns())
                    .all(|(a, b)| std::sync::Arc::ptr_eq(a, b))
            };
            !self.store.chunk(*number).is_some_and(same)
        });
        if is_stale || self.merging.is_some() {
            return None;
        }
        let sources = sources.chunks.iter().map(|(number, ..)| *number).collect();
        let dead = Dead::all(batch.num_rows());
        let (target, token) = self.store.add(schema, batch, dead);
        self.merging = Some(token);
        Some(Merge { token, target, origins, sources })
    }

    /// Repoints rows `start..` of a merge, one slice of them; answers where the next begins, or
    /// `None` if the merge has been overtaken.
    pub(crate) fn repoint(
        &mut self,
        schema: &TableSchema,
        merge: &Merge,
        start: usize,
    ) -> Option<usize> {
        if self.merging != Some(merge.token) {
            return None;
        }
        let end = merge.origins.len().min(start + ROWS_PER_SLICE);
        for (row, old) in (start..end).zip(&merge.origins[start..end]) {
            if self.store.is_dead(*old) {
                continue;
            }
            let new = slot_of(merge.target, row);
            self.index.replace(self.store.key_hash(schema, new), *old, new);
            if let Some(versions) = &mut self.versions {
                versions.moved(*old, new);
            }
            self.store.kill(*old);
            self.store.revive(new);
        }
        Some(end)
    }

    /// Lets go of the sources of a merge whose rows have all been repointed.
    pub(crate) fn end_compaction(&mut self, merge: &Merge) {
        if self.merging != Some(merge.token) {
            return;
        }
        self.merging = None;
        for source in &merge.sources {
            let is_all_dead =
                self.store.chunk(*source).is_none_or(|chunk| chunk.dead.count() == chunk.len());
            assert!(is_all_dead, "a row was left behind in a merged chunk");
            self.store.remove(*source);
        }
        if merge.origins.is_empty() {
            self.store.remove(merge.target);
        }
        // There may be more than could be merged at once.
        self.store.consider_compaction();
    }
}

impl Merge {
    /// Number of rows to repoint.
    pub(crate) fn len(&self) -> usize {
        self.origins.len()
    }
}

/// The chunks that should become one, if any: enough of a tier, or enough dead rows.
fn choose(store: &Store, is_settled: impl Fn(usize) -> bool) -> Vec<usize> {
    let (mut small, mut middle, mut wasteful) = (Vec::new(), Vec::new(), Vec::new());
    let mut dead_rows = 0;
    for (number, chunk) in store.chunks().filter(|(number, _)| is_settled(*number)) {
        let living = chunk.len() - chunk.dead.count();
        let is_heavy = chunk.bytes > CHUNK_BYTES_MAX / 2;
        if chunk.dead.count() >= living {
            dead_rows += chunk.dead.count();
            wasteful.push(number);
        }
        if is_heavy {
            continue;
        }
        if living <= TAIL_ROWS_MAX {
            small.push(number);
        } else if living <= MIDDLE_ROWS_MAX {
            middle.push(number);
        }
    }
    let tiers = [(small, SMALL_CHUNKS), (middle, MIDDLE_CHUNKS)];
    for (chunks, enough) in tiers {
        if chunks.len() >= enough {
            let chosen = within_limits(store, chunks);
            // One chunk alone has nothing to merge with.
            if chosen.len() > 1 {
                return chosen;
            }
        }
    }
    if dead_rows >= DEAD_ROWS_MIN { within_limits(store, wasteful) } else { Vec::new() }
}

/// As many of `chunks`, at most eight, as may become one chunk.
fn within_limits(store: &Store, chunks: Vec<usize>) -> Vec<usize> {
    let (mut rows, mut bytes) = (0, 0);
    let fits = |number: &usize| {
        let Some(chunk) = store.chunk(*number) else { return false };
        let living = chunk.len() - chunk.dead.count();
        rows += living;
        bytes += chunk.bytes * living / chunk.len().max(1);
        rows <= CHUNK_ROWS_MAX && bytes <= CHUNK_BYTES_MAX
    };
    chunks.into_iter().take(SMALL_CHUNKS).take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Int64Array},
        datatypes::{DataType, Field, Schema},
    };

    use super::*;
    use crate::{
        cluster::control::TableRecord,
        partition::hash_columns,
        table::{
            WriteMode,
            rows::{Context, Source, Tally},
            schema::readers,
            versions::Pass,
            view::{ReadMode, Snapshot},
            writers::Writers,
        },
    };

    const NEWEST: Snapshot = Snapshot::newest(ReadMode::Durable);

    fn settle(context: Context<'_>, rows: &mut Rows) {
        let mut pass = Pass::new(context.writers.settling_limit());
        while !rows.settle_slice(context.schema, &mut pass) {}
    }

    fn compact(schema: &TableSchema, rows: &mut Rows) {
        while let Some(sources) = rows.begin_compaction() {
            let merged = sources.merge(schema).unwrap();
            let merge = rows.add_merged(schema, &sources, merged).unwrap();
            let mut start = 0;
            while start < merge.len() {
                start = rows.repoint(schema, &merge, start).unwrap();
                assert_eq!(rows.count(&NEWEST), rows.store.living());
            }
            rows.end_compaction(&merge);
        }
    }

    #[test]
    fn a_load_of_one_writer_ends_in_few_chunks_and_a_delete_of_all_in_none() {
        let fields = vec![Field::new("k", DataType::Int64, false)];
        let record = TableRecord::new("t", Arc::new(Schema::new(fields)), &[0]);
        let schema = TableSchema::new(Arc::new(record)).unwrap();
        let writers = Writers::new();
        let context = Context { schema: &schema, writers: &writers };
        let mut rows = Rows::new(context).unwrap();
        let column: [ArrayRef; 1] = [Arc::new(Int64Array::from_iter_values(0..40_000))];
        let mut hashes = Vec::new();
        hash_columns(&column, &mut hashes).unwrap();
        let source = Source { readers: readers(&column).unwrap(), hashes: &hashes };
        let all: Vec<_> = (0..40_000).collect();
        let mut tally = Tally::default();
        let load = writers.begin(None);
        rows.write_run(context, &load, WriteMode::Insert, (&source, &all), &mut tally).unwrap();
        compact(&schema, &mut rows);
        assert_eq!(rows.store.chunks().count(), 78, "not before the writer has ended");
        assert!(writers.end(&load, true));
        settle(context, &mut rows);
        compact(&schema, &mut rows);
        let chunks = rows.store.chunks().count();
        assert!(chunks < 12, "{chunks} chunks");
        assert_eq!(rows.count(&NEWEST), 40_000);

        let removal = writers.begin(None);
        let step = (&source, None, all.as_slice());
        rows.modify_run(context, &removal, &NEWEST, step, &mut tally).unwrap();
        assert!(writers.end(&removal, true));
        settle(context, &mut rows);
        compact(&schema, &mut rows);
        assert_eq!((rows.count(&NEWEST), rows.store.chunks().count()), (0, 0));
    }
}
