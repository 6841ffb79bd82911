//! What a source of changes emits, as rows and as weights; and that it goes on from any position it
//! has saved, with nothing lost and nothing twice.

use storage::{
    Datum, Grid, GridConfig,
    cluster::control::{Command, TableRecord},
    env::Env,
    table::{KeyedWrite, WriteMode},
};

use super::*;
use crate::testing::{self, ZSet, bigint_batch, bigint_schema, verify_processor};

fn grid() -> Arc<Grid> {
    Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap()
}

/// Table `t (a, b)` with key a.
fn table(grid: &Grid) -> Arc<Table> {
    grid.create_table(TableRecord::new("t", bigint_schema(&["a", "b"]), &[0])).unwrap()
}

fn put(table: &Table, key: i64, value: i64) {
    let row = vec![Datum::Int(key), Datum::Int(value)];
    table.write(&KeyedWrite::Put { mode: WriteMode::Upsert, row }).unwrap();
}

fn put_all(grid: &Grid, table: &Table, keys: std::ops::Range<i64>) {
    let keys: Vec<i64> = keys.collect();
    let writer = grid.begin();
    let rows = bigint_batch(&bigint_schema(&["a", "b"]), &[&keys, &keys]);
    table.write_batch(&writer, WriteMode::Upsert, &rows).unwrap();
    writer.commit().unwrap();
}

/// The changes of `t` as rows (b, diff), for a client.
fn spec(table: &Arc<Table>) -> TableChangesSpec {
    TableChangesSpec {
        table: Arc::clone(table),
        from: ChangesFrom::Rows,
        form: ChangesAs::Rows,
        is_of_job: false,
        projection: vec![1, 3],
    }
}

/// The changes of `t` as rows (a, b) that come and go, for a job.
fn spec_of_job(table: &Arc<Table>) -> TableChangesSpec {
    let (form, projection) = (ChangesAs::Weights, vec![0, 1]);
    TableChangesSpec { form, is_of_job: true, projection, ..spec(table) }
}

fn exactly_once(grid: &Arc<Grid>) -> ProcessorContext {
    ProcessorContext { guarantee: Guarantee::ExactlyOnce, ..testing::context(grid) }
}

fn source(spec: TableChangesSpec, context: &ProcessorContext) -> Box<dyn Processor> {
    let mut processor =
        table_changes(spec).create(context.parallelism).unwrap().remove(context.index);
    processor.init(context).unwrap();
    processor
}

fn batches(outbox: &mut Outbox) -> Vec<DeltaBatch> {
    let items = std::iter::from_fn(|| outbox.take());
    let batch = |item| match item {
        Item::Batch(batch) => Some(batch),
        _ => None,
    };
    items.filter_map(batch).collect()
}

fn emitted(processor: &mut dyn Processor, mut outbox: Outbox) -> ZSet {
    let mut all = Vec::new();
    // A stubborn outbox refuses every other offer and holds one item.
    for _ in 0..50 {
        assert_eq!(processor.idle(&mut outbox).unwrap(), Done::No);
        all.extend(batches(&mut outbox));
    }
    ZSet::of(&all)
}

fn changes(values: &[i64], diffs: &[i64]) -> ZSet {
    let batch = bigint_batch(&bigint_schema(&["b", "_diff"]), &[values, diffs]);
    ZSet::of(&[DeltaBatch::insertions(batch)])
}

#[test]
fn rows_of_the_start_come_first_and_then_every_change() {
    let grid = grid();
    let table = table(&grid);
    (0..3).for_each(|key| put(&table, key, 10 * key));
    assert_eq!(table_changes(spec(&table)).describe(), "changes(t: b, _diff)");
    let mut processor = source(spec(&table), &testing::context(&grid));
    put(&table, 0, 5);
    let all = emitted(processor.as_mut(), Outbox::stubborn());
    assert_eq!(all, changes(&[0, 10, 20, 0, 5], &[1, 1, 1, -1, 1]));
    table.write(&KeyedWrite::Delete { key: vec![Datum::Int(2)] }).unwrap();
    assert_eq!(emitted(processor.as_mut(), Outbox::new(8)), changes(&[20], &[-1]));
    assert_eq!(emitted(processor.as_mut(), Outbox::new(8)), changes(&[], &[]));
}

#[test]
fn from_now_on_means_without_the_rows_that_are_there() {
    let grid = grid();
    let table = table(&grid);
    put(&table, 1, 10);
    let spec = TableChangesSpec { from: ChangesFrom::Now, ..spec(&table) };
    assert_eq!(table_changes(spec.clone()).describe(), "changes(t from now on: b, _diff)");
    let mut processor = source(spec, &testing::context(&grid));
    put(&table, 1, 11);
    let all = emitted(processor.as_mut(), Outbox::new(8));
    assert_eq!(all, changes(&[10, 11], &[-1, 1]));
}

#[test]
fn only_one_instance_emits() {
    let grid = grid();
    let table = table(&grid);
    put(&table, 1, 1);
    let context = ProcessorContext { index: 1, parallelism: 2, ..testing::context(&grid) };
    let mut second = source(spec(&table), &context);
    put(&table, 2, 2);
    assert_eq!(emitted(second.as_mut(), Outbox::new(8)), changes(&[], &[]));
}

#[test]
fn it_ends_with_its_table() {
    let grid = grid();
    let table = table(&grid);
    let mut processor = source(spec(&table), &testing::context(&grid));
    let name = table.record().name.clone();
    grid.control().submit(&Command::DropRelation { kind: "table", name }).unwrap();
    let error = processor.idle(&mut Outbox::new(8)).unwrap_err();
    assert_eq!(error.sqlstate(), "42P01");
}

#[test]
fn as_weights_the_rows_come_and_go_in_every_way_of_being_called() {
    let grid = grid();
    let table = table(&grid);
    put_all(&grid, &table, 0..20_000);
    let keys: Vec<i64> = (0..20_000).collect();
    let rows = bigint_batch(&bigint_schema(&["a", "b"]), &[&keys, &keys]);
    verify_processor(table_changes(spec_of_job(&table)))
        .grid(grid)
        .expect(vec![DeltaBatch::insertions(rows)])
        .run();
}

#[test]
fn no_barrier_cuts_a_commit() {
    let grid = grid();
    let table = table(&grid);
    let mut processor = source(spec_of_job(&table), &exactly_once(&grid));
    put_all(&grid, &table, 0..20_000);
    let mut outbox = Outbox::new(1);
    assert_eq!(processor.idle(&mut outbox).unwrap(), Done::No);
    let mut rows: usize = batches(&mut outbox).iter().map(DeltaBatch::len).sum();
    assert!(rows > 0 && rows < 20_000, "{rows}");
    while processor.epoch(1, &mut outbox).unwrap() == Done::No {
        rows += batches(&mut outbox).iter().map(DeltaBatch::len).sum::<usize>();
    }
    rows += batches(&mut outbox).iter().map(DeltaBatch::len).sum::<usize>();
    assert_eq!(rows, 20_000);
    put_all(&grid, &table, 0..10);
    assert_eq!(processor.epoch(2, &mut outbox).unwrap(), Done::Yes);
    assert!(outbox.take().is_none(), "nothing of the next commit has left");
}

#[test]
fn it_goes_on_from_any_position_that_was_saved() {
    let grid = grid();
    let table = table(&grid);
    put_all(&grid, &table, 0..10_000);
    let context = exactly_once(&grid);
    let mut processor = source(spec_of_job(&table), &context);
    let (mut told, mut saved) = (Vec::new(), Vec::new());
    for round in 0..24 {
        match round % 8 {
            0 => (0..20).for_each(|key| put(&table, key, round * 100 + key)),
            // More than a piece.
            1 => put_all(&grid, &table, 20_000..29_000),
            2..5 => {
                table.write(&KeyedWrite::Delete { key: vec![Datum::Int(round)] }).unwrap();
            }
            _ => (),
        }
        let mut outbox = Outbox::new(1);
        assert_eq!(processor.idle(&mut outbox).unwrap(), Done::No);
        told.extend(batches(&mut outbox));
        while processor.epoch(1, &mut outbox).unwrap() == Done::No {
            told.extend(batches(&mut outbox));
        }
        told.extend(batches(&mut outbox));
        let mut state = StateWriter::default();
        assert_eq!(processor.save(&mut state).unwrap(), Done::Yes);
        saved.push((told.len(), state));
    }
    for _ in 0..20 {
        let mut outbox = Outbox::new(8);
        assert_eq!(processor.idle(&mut outbox).unwrap(), Done::No);
        told.extend(batches(&mut outbox));
    }
    let all = ZSet::of(&told);
    assert_eq!(all.len() as u64, table.stats().rows);
    for (before, state) in saved.iter().step_by(5).chain([&(0, StateWriter::default())]) {
        let mut again = source(spec_of_job(&table), &context);
        state.chunks.iter().for_each(|chunk| again.restore(chunk).unwrap());
        let mut rest = told[..*before].to_vec();
        for _ in 0..20 {
            let mut outbox = Outbox::new(8);
            assert_eq!(again.idle(&mut outbox).unwrap(), Done::No);
            rest.extend(batches(&mut outbox));
        }
        assert!(ZSet::of(&rest) == all, "restored behind {before} batches");
    }
}

#[test]
fn a_position_in_changes_that_are_not_kept_is_refused() {
    let grid = grid();
    let table = table(&grid);
    let context = exactly_once(&grid);
    let mut processor = source(spec_of_job(&table), &context);
    put(&table, 1, 1);
    let mut state = StateWriter::default();
    assert_eq!(processor.save(&mut state).unwrap(), Done::Yes);
    // Of another job, whose changes begin later.
    let mut other = source(spec_of_job(&table), &ProcessorContext { job_id: 9, ..context });
    let error = other.restore(&state.chunks[0]).unwrap_err();
    assert_eq!(error.sqlstate(), "55000");
    assert!(error.to_string().contains("changes of table \"t\""), "{error}");
}
