//! Tables against a `BTreeMap` model, and what concurrent readers may and may not see.
//! Each claim is tried with one owner (operations inline) and with three (encoded on their way).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

mod changes;
mod closing;
mod faults;
mod job_model;
mod job_writers;
mod network;
mod pinned;
mod recovery;

use super::*;
use crate::{
    Datum, Error, Grid, GridConfig, Row,
    cluster::control::{ObjectId, TableRecord},
    data_log::JobRun,
    datum::batch_of,
    env::Env,
    partition::PartitionId,
};

const BOTH_WAYS: [u16; 2] = [1, 3];

/// Some execution of some job.
const RUN: JobRun = JobRun { job: ObjectId(1), execution: 1 };

fn grid(owners: u16) -> Arc<Grid> {
    grid_of(271, owners)
}

fn grid_of(partition_count: u16, simulated_owners: u16) -> Arc<Grid> {
    grid_in(Env::simulated(1).0, partition_count, simulated_owners)
}

fn grid_in(env: Env, partition_count: u16, simulated_owners: u16) -> Arc<Grid> {
    let config = GridConfig { partition_count, simulated_owners, ..GridConfig::default() };
    Grid::open(config, env).unwrap()
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Utf8, true),
    ]))
}

fn table(grid: &Grid) -> Arc<Table> {
    grid.create_table(TableRecord::new("t", schema(), &[0])).unwrap()
}

fn row(key: i64, value: &str) -> Row {
    vec![Datum::Int(key), Datum::Text(value.to_owned())]
}

fn put(table: &Table, mode: WriteMode, key: i64, value: &str) -> crate::Result<u64> {
    table.write(&KeyedWrite::Put { mode, row: row(key, value) })
}

fn delete(table: &Table, key: i64) -> crate::Result<u64> {
    table.write(&KeyedWrite::Delete { key: vec![Datum::Int(key)] })
}

fn batch(rows: &[(i64, &str)]) -> RecordBatch {
    let rows: Vec<_> = rows.iter().map(|(key, value)| row(*key, value)).collect();
    batch_of(&rows, &schema()).unwrap()
}

fn keys(keys: &[i64]) -> Vec<ArrayRef> {
    vec![Arc::new(Int64Array::from(keys.to_vec()))]
}

fn get(table: &Table, key: i64, view: Option<&ReadView>) -> Option<String> {
    let (_, row) = table.get(&[Datum::Int(key)], &[1], view).unwrap()?;
    match row.as_slice() {
        [Datum::Text(text)] => Some(text.clone()),
        other => panic!("{other:?}"),
    }
}

/// Everything a view sees, asserting that no key comes twice.
fn scan(table: &Table, view: &ReadView, lanes: usize) -> BTreeMap<i64, String> {
    let mut seen = BTreeMap::new();
    for lane in table.scan(view, None, lanes).unwrap() {
        for batch in lane {
            let batch = batch.unwrap();
            let keys = batch.column(0).as_primitive::<Int64Type>();
            let values = batch.column(1).as_string::<i32>();
            for row in 0..batch.num_rows() {
                let key = keys.value(row);
                let twice = seen.insert(key, values.value(row).to_owned());
                assert_eq!(twice, None, "key {key} came twice");
            }
        }
    }
    seen
}

#[test]
fn keyed_writes_do_what_their_mode_says() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        assert_eq!(put(&table, WriteMode::Insert, 1, "a").unwrap(), 1);
        let error = put(&table, WriteMode::Insert, 1, "b").unwrap_err();
        let Error::DuplicateKey { detail, .. } = &error else { panic!("{error:?}") };
        assert_eq!(detail, "Key (k)=(1) already exists.");
        assert_eq!(put(&table, WriteMode::InsertIgnore, 1, "b").unwrap(), 0);
        assert_eq!(get(&table, 1, None).as_deref(), Some("a"));
        assert_eq!(put(&table, WriteMode::Upsert, 1, "c").unwrap(), 1);
        assert_eq!(get(&table, 1, None).as_deref(), Some("c"));
        assert_eq!(delete(&table, 2).unwrap(), 0);
        assert_eq!(delete(&table, 1).unwrap(), 1);
        assert_eq!(get(&table, 1, None), None);
        assert_eq!(table.stats().rows, 0);
    }
}

#[test]
fn a_replace_needs_the_version_that_was_read() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        put(&table, WriteMode::Insert, 1, "a").unwrap();
        let (version, _) = table.get(&[Datum::Int(1)], &[], None).unwrap().unwrap();
        assert_eq!(table.write(&KeyedWrite::Replace { version, row: row(1, "b") }).unwrap(), 1);
        let again = table.write(&KeyedWrite::Replace { version, row: row(1, "c") });
        assert!(matches!(again, Err(Error::Conflict)));
        delete(&table, 1).unwrap();
        let gone = table.write(&KeyedWrite::Replace { version, row: row(1, "c") });
        assert!(matches!(gone, Err(Error::Conflict)));
        assert_eq!(get(&table, 1, None), None);
    }
}

#[test]
fn a_null_key_and_a_null_where_none_may_be_are_refused() {
    let grid = grid(1);
    let table = table(&grid);
    let null = KeyedWrite::Put { mode: WriteMode::Upsert, row: vec![Datum::Null, Datum::Null] };
    let error = table.write(&null).unwrap_err();
    assert_eq!(
        error.to_string(),
        "null value in column \"k\" of relation \"t\" violates not-null constraint"
    );
    let nullable = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Utf8, true),
    ]));
    let rows = batch_of(&[vec![Datum::Null, Datum::Null]], &nullable).unwrap();
    let writer = grid.begin();
    let error = table.write_batch(&writer, WriteMode::Insert, &rows).unwrap_err();
    assert!(matches!(error, Error::NullValue { .. }));
}

#[test]
fn a_statement_of_many_rows_is_seen_whole_or_not_at_all() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        put(&table, WriteMode::Insert, 1, "old").unwrap();
        let before = grid.read_view();
        let writer = grid.begin();
        let summary = table
            .write_batch(&writer, WriteMode::Upsert, &batch(&[(1, "x"), (2, "y"), (2, "z")]))
            .unwrap();
        assert_eq!((summary.inserted, summary.updated), (1, 2));
        let old = BTreeMap::from([(1, "old".to_owned())]);
        let new = BTreeMap::from([(1, "x".to_owned()), (2, "z".to_owned())]);
        assert_eq!(scan(&table, &grid.read_view(), 4), old, "pending: nobody else sees it");
        assert_eq!(get(&table, 1, None).as_deref(), Some("old"));
        assert_eq!(scan(&table, &writer.read_view(), 4), new, "pending: it sees itself");
        assert_eq!(get(&table, 2, Some(&writer.read_view())).as_deref(), Some("z"));
        writer.commit().unwrap();
        assert!(matches!(writer.commit(), Err(Error::WrongState(_))));
        assert_eq!(scan(&table, &grid.read_view(), 4), new);
        assert_eq!(scan(&table, &before, 4), old, "a view keeps what it saw");
        assert_eq!(get(&table, 1, Some(&before)).as_deref(), Some("old"));
        assert_eq!(table.stats().rows, 2);
    }
}

#[test]
fn an_aborted_writer_leaves_nothing() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        put(&table, WriteMode::Insert, 1, "a").unwrap();
        put(&table, WriteMode::Insert, 2, "b").unwrap();
        for is_dropped in [false, true] {
            let writer = grid.begin();
            table.write_batch(&writer, WriteMode::Upsert, &batch(&[(1, "x"), (3, "y")])).unwrap();
            table.write_batch(&writer, WriteMode::Upsert, &batch(&[(1, "xx")])).unwrap();
            let view = writer.read_view();
            table.modify_batch(&writer, &view, &keys(&[2]), None).unwrap();
            assert_eq!(scan(&table, &view, 1).len(), 2);
            if is_dropped {
                drop(writer)
            } else {
                writer.abort()
            }
            let expected = BTreeMap::from([(1, "a".to_owned()), (2, "b".to_owned())]);
            assert_eq!(scan(&table, &grid.read_view(), 1), expected);
            assert_eq!(get(&table, 1, None).as_deref(), Some("a"));
            assert_eq!(get(&table, 3, None), None);
        }
        put(&table, WriteMode::Insert, 3, "c").unwrap();
        assert_eq!(table.stats().rows, 3);
    }
}

#[test]
fn a_duplicate_in_an_insert_leaves_no_row() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        let writer = grid.begin();
        let rows: Vec<_> = (0..1000).chain([7]).map(|key| (key, "a")).collect();
        let error = table.write_batch(&writer, WriteMode::Insert, &batch(&rows)).unwrap_err();
        let Error::DuplicateKey { detail, .. } = &error else { panic!("{error:?}") };
        assert_eq!(detail, "Key (k)=(7) already exists.");
        drop(writer);
        assert_eq!(scan(&table, &grid.read_view(), 1).len(), 0);
        assert_eq!(table.stats().rows, 0);
    }
}

#[test]
fn a_key_of_a_pending_writer_is_waited_for() {
    let grid = grid(1);
    let table = table(&grid);
    let writer = grid.begin();
    table.write_batch(&writer, WriteMode::Insert, &batch(&[(1, "a")])).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| put(&table, WriteMode::Insert, 1, "b"));
        let batch_waiting = scope.spawn(|| {
            let writer = grid.begin();
            let rows = batch(&[(0, "c"), (1, "c"), (2, "c")]);
            table.write_batch(&writer, WriteMode::InsertIgnore, &rows)?;
            writer.commit()
        });
        writer.commit().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::DuplicateKey { .. })));
        batch_waiting.join().unwrap().unwrap();
    });
    let seen = scan(&table, &grid.read_view(), 1);
    assert_eq!(seen.values().map(String::as_str).collect::<String>(), "cac");
}

#[test]
fn waiting_for_a_writer_ends_with_a_conflict() {
    let grid = grid(1);
    let table = table(&grid);
    let writer = grid.begin();
    table.write_batch(&writer, WriteMode::Insert, &batch(&[(1, "a")])).unwrap();
    assert!(matches!(put(&table, WriteMode::Upsert, 1, "b"), Err(Error::Conflict)));
    writer.commit().unwrap();
    assert_eq!(get(&table, 1, None).as_deref(), Some("a"));
}

#[test]
fn a_row_changed_since_the_view_is_a_conflict() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        put(&table, WriteMode::Insert, 1, "a").unwrap();
        put(&table, WriteMode::Insert, 2, "a").unwrap();
        let writer = grid.begin();
        let view = writer.read_view();
        put(&table, WriteMode::Upsert, 1, "b").unwrap();
        delete(&table, 2).unwrap();
        for key in [1, 2] {
            let changed = table.modify_batch(&writer, &view, &keys(&[key]), None);
            assert!(matches!(changed, Err(Error::Conflict)), "{key}");
        }
        let view = writer.read_view();
        let moved = batch(&[(5, "b")]);
        let error = table.modify_batch(&writer, &view, &keys(&[1]), Some(&moved)).unwrap_err();
        assert_eq!(error.to_string(), "an update must not change the key");
        let rows = batch(&[(1, "c")]);
        let summary = table.modify_batch(&writer, &view, &keys(&[1]), Some(&rows)).unwrap();
        assert_eq!(summary.updated, 1);
        writer.commit().unwrap();
        assert_eq!(get(&table, 1, None).as_deref(), Some("c"));
    }
}

#[test]
fn tables_without_a_key_keep_equal_rows_apart() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = grid.create_table(TableRecord::new("t", schema(), &[])).unwrap();
        let writer = grid.begin();
        let rows = batch(&[(1, "a"), (1, "a")]);
        table.write_batch(&writer, WriteMode::Insert, &rows).unwrap();
        writer.commit().unwrap();
        put(&table, WriteMode::Insert, 1, "a").unwrap();
        assert_eq!(table.stats().rows, 3);
        let lanes = table.scan(&grid.read_view(), Some(&[2, 0]), 1).unwrap();
        let batches: Vec<_> = lanes.into_iter().flatten().map(Result::unwrap).collect();
        assert_eq!(batches[0].schema().field(0).name(), "_row_id");
        let mut ids = batches[0].column(0).as_primitive::<Int64Type>().values().to_vec();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
    }
}

#[test]
fn get_many_answers_the_rows_it_found() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        for key in 0..100 {
            put(&table, WriteMode::Insert, key, &format!("v{key}")).unwrap();
        }
        let wanted: Vec<_> = (50..150).rev().chain([50]).collect();
        let (found, rows) = table.get_many(&keys(&wanted), &[1], None).unwrap();
        let values = rows.column(0).as_string::<i32>();
        let mut pairs: Vec<_> = found.iter().zip(values.iter()).collect();
        pairs.sort_unstable();
        assert_eq!(pairs.len(), 51);
        for (row, value) in pairs {
            assert_eq!(value.unwrap(), format!("v{}", wanted[*row as usize]));
        }
        let (found, rows) = table.get_many(&keys(&[7, 200]), &[], None).unwrap();
        assert_eq!((found.len(), rows.num_rows()), (1, 1));
    }
}

#[test]
fn truncate_and_drop_leave_no_row_and_no_memory() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        put(&table, WriteMode::Insert, 1, "a").unwrap();
        table.truncate().unwrap();
        assert_eq!(table.stats(), TableStats::default());
        put(&table, WriteMode::Insert, 1, "b").unwrap();
        let drop_of = crate::cluster::control::Command::DropRelation {
            kind: "table",
            name: table.record().name.clone(),
        };
        let id = grid.control().submit(&drop_of).unwrap();
        assert!(matches!(grid.table(id), Err(Error::NotFound { .. })));
        let error = put(&table, WriteMode::Insert, 2, "c").unwrap_err();
        assert_eq!(error.to_string(), "table \"t\" does not exist");
        assert_eq!(table.stats(), TableStats::default());
    }
}

#[test]
fn a_full_memory_refuses_writes_and_says_so() {
    let (env, _) = Env::simulated(1);
    let config = GridConfig { table_memory_max: 1 << 20, ..GridConfig::default() };
    let grid = Grid::open(config, env).unwrap();
    let table = table(&grid);
    let text = "x".repeat(100);
    let error = (0..100_000).find_map(|key| put(&table, WriteMode::Insert, key, &text).err());
    let error = error.expect("10 MB do not fit into 1 MiB");
    assert!(error.to_string().starts_with("out of memory for tables: "), "{error}");
    assert_eq!(delete(&table, 0).unwrap(), 1, "a delete needs no memory");
    table.truncate().unwrap();
    put(&table, WriteMode::Insert, 1, "fits again").unwrap();
}

#[test]
fn a_row_of_88_bytes_takes_at_most_130() {
    // 3.7 k rows a partition, as 10⁶ rows are at 271 partitions.
    let (env, _) = Env::simulated(1);
    let config = GridConfig { partition_count: 27, ..GridConfig::default() };
    let grid = Grid::open(config, env).unwrap();
    let fields = (0..11).map(|column| Field::new(format!("c{column}"), DataType::Int64, true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let record = TableRecord::new("t", Arc::clone(&schema), &[0]);
    let table = grid.create_table(record).unwrap();
    for first in (0..100_000).step_by(5000) {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + 5000));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column; 11]).unwrap();
        let writer = grid.begin();
        table.write_batch(&writer, WriteMode::Insert, &batch).unwrap();
        writer.commit().unwrap();
    }
    let stats = table.stats();
    let row_bytes = stats.bytes / stats.rows;
    assert!((88..=130).contains(&row_bytes), "{row_bytes} bytes a row");
}

#[test]
fn updates_and_deletes_give_their_memory_back() {
    const KEYS: i64 = 50_000;
    let grid = grid(1);
    let table = table(&grid);
    let text = "x".repeat(80);
    let write = || {
        for first in (0..KEYS).step_by(5000) {
            let rows: Vec<_> = (first..first + 5000).map(|key| (key, text.as_str())).collect();
            let writer = grid.begin();
            table.write_batch(&writer, WriteMode::Upsert, &batch(&rows)).unwrap();
            writer.commit().unwrap();
        }
    };
    write();
    let once = table.stats();
    (0..20).for_each(|_| write());
    let often = table.stats();
    assert_eq!(often.rows, KEYS as u64);
    // Beside its 185 rows a partition may hold less than two tails of dead ones.
    assert!(often.bytes < 8 * once.bytes, "{} → {} bytes", once.bytes, often.bytes);
    for key in 1..KEYS {
        delete(&table, key).unwrap();
    }
    grid.maintain().unwrap();
    assert_eq!(scan(&table, &grid.read_view(), 1), BTreeMap::from([(0, text.clone())]));
    let emptied = table.stats().bytes;
    assert!(emptied < once.bytes / 10, "{} → {emptied} bytes", once.bytes);
}

#[test]
fn a_count_needs_no_column() {
    let grid = grid(1);
    let table = table(&grid);
    let rows: Vec<_> = (0..20_000).map(|key| (key, "a")).collect();
    let writer = grid.begin();
    table.write_batch(&writer, WriteMode::Insert, &batch(&rows)).unwrap();
    writer.commit().unwrap();
    let lanes = table.scan(&grid.read_view(), Some(&[]), 8).unwrap();
    assert!((2..=8).contains(&lanes.len()));
    let counted: usize = lanes.into_iter().flatten().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(counted, 20_000);
    assert!(table.partition_stats().iter().all(|partition| partition.rows > 0));
}

/// Random operations, pending writers and aborts included, tried on a table and on a map.
fn tables_behave_like_a_map(env: Env, seed: u64, owners: u16) -> Arc<Grid> {
    eprintln!("seed {seed}, {owners} owners");
    let mut random = SmallRng::seed_from_u64(seed);
    // Few partitions hold enough rows each to be sealed and compacted.
    let partition_count = *[3, 271].get(random.random_range(0..2)).unwrap();
    let grid = grid_in(env, partition_count, owners);
    let table = table(&grid);
    let mut model = BTreeMap::new();
    let mut pinned: Vec<(ReadView, BTreeMap<i64, String>)> = Vec::new();
    let key_count = *[20, 300, 5000].get(random.random_range(0..3)).unwrap();
    for step in 0..120 {
        let key = random.random_range(0..key_count);
        let text = format!("s{step}");
        match random.random_range(0..13) {
            0 => {
                let result = put(&table, WriteMode::Insert, key, &text);
                assert_eq!(result.is_ok(), !model.contains_key(&key));
                model.entry(key).or_insert(text);
            }
            1 => {
                put(&table, WriteMode::Upsert, key, &text).unwrap();
                model.insert(key, text);
            }
            2 => {
                let removed = delete(&table, key).unwrap();
                assert_eq!(removed == 1, model.remove(&key).is_some());
            }
            3..=6 => {
                let changed = write_as_one(&mut random, &grid, &table, &model, key_count, step);
                model = changed;
            }
            7 => assert_eq!(get(&table, key, None).as_ref(), model.get(&key)),
            8 => pinned.push((grid.read_view(), model.clone())),
            9 if !pinned.is_empty() => {
                let (view, seen) = pinned.swap_remove(random.random_range(0..pinned.len()));
                assert_eq!(scan(&table, &view, 3), seen, "step {step}: a view changed");
                assert_eq!(get(&table, key, Some(&view)).as_ref(), seen.get(&key));
            }
            10 if owners > 1 => {
                let partition = PartitionId(random.random_range(0..partition_count));
                grid.move_partition(partition, random.random_range(0..owners)).unwrap();
            }
            11 => grid.maintain().unwrap(),
            _ => assert_eq!(table.stats().rows, model.len() as u64),
        }
    }
    for (view, seen) in pinned {
        assert_eq!(scan(&table, &view, 2), seen);
    }
    assert_eq!(scan(&table, &grid.read_view(), 2), model);
    grid
}

/// One writer of several statements that commits or aborts; answers the model after it.
fn write_as_one(
    random: &mut SmallRng,
    grid: &Grid,
    table: &Table,
    model: &BTreeMap<i64, String>,
    key_count: i64,
    step: usize,
) -> BTreeMap<i64, String> {
    let writer = grid.begin();
    let mut after = model.clone();
    for statement in 0..random.random_range(1..4) {
        let text = format!("w{step}.{statement}");
        let count = random.random_range(1..400);
        let some: Vec<_> = (0..count).map(|_| random.random_range(0..key_count)).collect();
        if random.random_bool(0.6) {
            let rows: Vec<_> = some.iter().map(|key| (*key, text.as_str())).collect();
            let ignores = random.random_bool(0.3);
            let mode = if ignores { WriteMode::InsertIgnore } else { WriteMode::Upsert };
            table.write_batch(&writer, mode, &batch(&rows)).unwrap();
            for key in some {
                if ignores {
                    after.entry(key).or_insert_with(|| text.clone());
                } else {
                    after.insert(key, text.clone());
                }
            }
        } else {
            let view = writer.read_view();
            let mut present: Vec<_> = some.into_iter().filter(|k| after.contains_key(k)).collect();
            present.sort_unstable();
            present.dedup();
            let rows: Vec<_> = present.iter().map(|key| (*key, text.as_str())).collect();
            let is_update = random.random_bool(0.5);
            let new = is_update.then(|| batch(&rows));
            table.modify_batch(&writer, &view, &keys(&present), new.as_ref()).unwrap();
            for key in present {
                if is_update {
                    after.insert(key, text.clone());
                } else {
                    after.remove(&key);
                }
            }
        }
        assert_eq!(scan(table, &writer.read_view(), 2), after, "own changes");
        assert_eq!(&scan(table, &grid.read_view(), 2), model, "others' changes");
    }
    if random.random_bool(0.3) {
        writer.abort();
        return model.clone();
    }
    writer.commit().unwrap();
    after
}

#[test]
fn tables_behave_like_a_map_under_random_operations() {
    for seed in 0..10 {
        tables_behave_like_a_map(Env::simulated(1).0, seed, BOTH_WAYS[seed as usize % 2]);
    }
}

#[test]
fn concurrent_scans_never_see_half_a_statement() {
    const KEYS: i64 = 600;
    for (owners, partition_count) in [(1, 3), (3, 271)] {
        let grid = grid_of(partition_count, owners);
        let table = table(&grid);
        let statement = |text: &str| {
            let rows: Vec<_> = (0..KEYS).map(|key| (key, text)).collect();
            let writer = grid.begin();
            table.write_batch(&writer, WriteMode::Upsert, &batch(&rows)).unwrap();
            writer
        };
        statement("start").commit().unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let seen = scan(&table, &grid.read_view(), 2);
                        let texts: std::collections::BTreeSet<_> = seen.values().collect();
                        assert_eq!((seen.len(), texts.len()), (KEYS as usize, 1), "{texts:?}");
                        assert!(get(&table, 5, None).is_some());
                    }
                });
            }
            for round in 0..60 {
                let writer = statement(&format!("round {round}"));
                if round % 3 == 0 {
                    writer.abort()
                } else {
                    writer.commit().unwrap()
                }
                if owners > 1 {
                    let partition = PartitionId(round * 4 % partition_count);
                    grid.move_partition(partition, round % owners).unwrap();
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn keys_of_several_columns_and_other_types_are_found() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Utf8, false),
        Field::new("b", DataType::Decimal128(10, 2), false),
        Field::new("v", DataType::Int32, true),
    ]));
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let record = TableRecord::new("t", Arc::clone(&schema), &[1, 0]);
        let table = grid.create_table(record).unwrap();
        let key = |number: i64| {
            (Datum::Decimal(i128::from(number % 7)), Datum::Text(format!("k{number}")))
        };
        let rows: Vec<Row> = (0..2000)
            .map(|number| {
                let (b, a) = key(number);
                vec![a, b, Datum::Int(number)]
            })
            .collect();
        let writer = grid.begin();
        let batch = batch_of(&rows, &schema).unwrap();
        table.write_batch(&writer, WriteMode::Insert, &batch).unwrap();
        writer.commit().unwrap();
        for number in 0..2000 {
            let (b, a) = key(number);
            let (_, found) = table.get(&[b, a], &[2], None).unwrap().unwrap();
            assert_eq!(found, [Datum::Int(number)]);
        }
        let writer = grid.begin();
        let error = table.write_batch(&writer, WriteMode::Insert, &batch.slice(9, 1)).unwrap_err();
        let Error::DuplicateKey { detail, .. } = error else { panic!("{error:?}") };
        assert_eq!(detail, "Key (b, a)=(0.02, k9) already exists.");
    }
}

#[test]
fn concurrent_writers_lose_nothing_while_partitions_move() {
    const THREADS: i64 = 3;
    const KEYS: i64 = 3000;
    for (owners, partition_count) in [(1, 3), (3, 5), (3, 271)] {
        let grid = grid_of(partition_count, owners);
        let table = table(&grid);
        let running = std::sync::atomic::AtomicI64::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (grid, table, running) = (&grid, &table, &running);
                scope.spawn(move || {
                    for round in 0..6 {
                        let text = format!("{thread}.{round}");
                        let own = (0..KEYS).map(|key| key * THREADS + thread);
                        let rows: Vec<_> = own.map(|key| (key, text.as_str())).collect();
                        let writer = grid.begin();
                        table.write_batch(&writer, WriteMode::Upsert, &batch(&rows)).unwrap();
                        writer.commit().unwrap();
                        for key in 0..100 {
                            let key = key * THREADS + thread;
                            put(table, WriteMode::Upsert, key, &text).unwrap();
                            assert_eq!(get(table, key, None).as_ref(), Some(&text));
                        }
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
            let mut random = SmallRng::seed_from_u64(7);
            while running.load(Ordering::SeqCst) > 0 {
                let partition = PartitionId(random.random_range(0..partition_count));
                grid.move_partition(partition, random.random_range(0..owners)).unwrap();
                std::thread::yield_now();
            }
        });
        let seen = scan(&table, &grid.read_view(), 2);
        assert_eq!(seen.len() as i64, THREADS * KEYS);
        assert!(seen.iter().all(|(key, text)| *text == format!("{}.5", key % THREADS)));
        assert_eq!(table.stats().rows as i64, THREADS * KEYS);
    }
}

#[test]
fn three_owners_hold_what_one_would() {
    let one = grid(1);
    let three = grid(3);
    let counts = [&one, &three].map(|grid| {
        let table = table(grid);
        let rows: Vec<_> = (0..5000).map(|key| (key, "a")).collect();
        let writer = grid.begin();
        table.write_batch(&writer, WriteMode::Insert, &batch(&rows)).unwrap();
        writer.commit().unwrap();
        grid.move_partition(PartitionId(0), grid.config().simulated_owners - 1).unwrap();
        (0..1000).for_each(|key| assert_eq!(delete(&table, key * 3).unwrap(), 1));
        let partitions = table.partition_stats();
        let rows: Vec<_> = partitions.iter().map(|partition| partition.rows).collect();
        (rows, scan(&table, &grid.read_view(), 4))
    });
    assert_eq!(counts[0], counts[1]);
    assert!(three.move_partition(PartitionId(0), 3).is_err());
    assert!(three.move_partition(PartitionId(271), 0).is_err());
}
