//! Sinks against the table they write: what stands in it after every way of being called.

use arrow::{
    array::{AsArray, Int64Array},
    datatypes::{DataType, Field, Int64Type},
};
use storage::{Grid, GridConfig, cluster::control::TableRecord, env::Env, table::KeyedWrite};

use super::*;
use crate::{
    delta::{DeltaBatch, Weight},
    processors::testkit::{minus, mixed, plus},
    testing::{self, bigint_batch, bigint_schema, verify_processor},
};

fn table(grid: &Arc<Grid>, key: &[usize]) -> Arc<Table> {
    let fields = ["k", "v"].map(|name| {
        let is_key = name == "k" && !key.is_empty();
        Field::new(name, DataType::Int64, !is_key)
    });
    let schema = Arc::new(Schema::new(fields.to_vec()));
    grid.create_table(TableRecord::new("t", schema, key)).unwrap()
}

fn grid() -> Arc<Grid> {
    Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap()
}

fn input() -> SchemaRef {
    bigint_schema(&["a", "b"])
}

fn sink(table: &Arc<Table>, mode: WriteMode) -> Arc<dyn ProcessorSupplier> {
    let table = Arc::clone(table);
    table_sink(TableSinkSpec { table, input: input(), mode, is_append_only: true })
}

/// A sink of input that retracts.
fn netting(table: &Arc<Table>, mode: WriteMode) -> Arc<dyn ProcessorSupplier> {
    let table = Arc::clone(table);
    table_sink(TableSinkSpec { table, input: input(), mode, is_append_only: false })
}

fn pairs(rows: &[(i64, i64)]) -> RecordBatch {
    let (keys, values): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
    bigint_batch(&input(), &[&keys, &values])
}

fn rows(grid: &Arc<Grid>, table: &Table) -> Vec<(i64, i64)> {
    let mut rows = Vec::new();
    for lane in table.scan(&grid.read_view(), Some(&[0, 1]), 1).unwrap() {
        for batch in lane {
            let batch = batch.unwrap();
            let column = |index| batch.column(index).as_primitive::<Int64Type>().clone();
            let (keys, values): (Int64Array, Int64Array) = (column(0), column(1));
            rows.extend(keys.values().iter().copied().zip(values.values().iter().copied()));
        }
    }
    rows.sort_unstable();
    rows
}

/// Feeds `batches` in every way, into a table that begins with `before`, and compares what stands
/// in it afterwards.
#[track_caller]
fn expect_table(
    mode: WriteMode,
    before: &'static [(i64, i64)],
    batches: Vec<DeltaBatch>,
    after: &'static [(i64, i64)],
) {
    let grid = grid();
    let table = table(&grid, &[0]);
    let fill = |grid: &Arc<Grid>, table: &Table| {
        let writer = grid.begin();
        table.write_batch(&writer, WriteMode::Insert, &batch_of_table(table, before)).unwrap();
        writer.commit().unwrap();
    };
    fill(&grid, &table);
    let mut verification =
        verify_processor(netting(&table, mode)).grid(Arc::clone(&grid)).expect(vec![]);
    for batch in batches {
        verification = verification.rows(0, batch);
    }
    let known = (Arc::clone(&grid), Arc::clone(&table));
    verification
        .after_each(move |way| {
            assert_eq!(rows(&known.0, &known.1), after, "{way}");
            known.1.truncate().unwrap();
            fill(&known.0, &known.1);
        })
        .run();
}

fn batch_of_table(table: &Table, rows: &[(i64, i64)]) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(table.schema()), pairs(rows).columns().to_vec()).unwrap()
}

#[test]
fn upsert_keeps_the_last_row_of_a_key() {
    let grid = grid();
    let table = table(&grid, &[0]);
    let after = (Arc::clone(&grid), Arc::clone(&table));
    verify_processor(sink(&table, WriteMode::Upsert))
        .grid(Arc::clone(&grid))
        .rows(0, plus(pairs(&[(1, 10), (2, 20)])))
        .rows(0, plus(pairs(&[(2, 21), (3, 30)])))
        .end(0)
        .expect(vec![])
        .after_each(move |way| {
            assert_eq!(rows(&after.0, &after.1), [(1, 10), (2, 21), (3, 30)], "{way}");
            after.1.truncate().unwrap();
        })
        .run();
}

#[test]
fn weight_repeats_a_row_of_a_table_without_key() {
    let grid = grid();
    let table = table(&grid, &[]);
    let after = (Arc::clone(&grid), Arc::clone(&table));
    verify_processor(sink(&table, WriteMode::Insert))
        .grid(Arc::clone(&grid))
        .rows(0, mixed(pairs(&[(1, 10), (2, 20), (3, 30)]), &[2, 0, 1]))
        .end(0)
        .expect(vec![])
        .after_each(move |way| {
            assert_eq!(rows(&after.0, &after.1), [(1, 10), (1, 10), (3, 30)], "{way}");
            after.1.truncate().unwrap();
        })
        .run();
}

#[test]
fn insert_of_a_present_key_fails_the_job_and_leaves_nothing_of_its_batch() {
    let grid = grid();
    let table = table(&grid, &[0]);
    let error = verify_processor(sink(&table, WriteMode::Insert))
        .grid(Arc::clone(&grid))
        .rows(0, plus(pairs(&[(1, 10), (2, 20), (1, 11)])))
        .run_to_error();
    assert!(matches!(error, Error::Storage(storage::Error::DuplicateKey { .. })), "{error:?}");
    assert!(rows(&grid, &table).is_empty());
}

#[test]
fn a_row_that_is_taken_back_leaves_the_table() {
    let batches = vec![plus(pairs(&[(1, 10), (2, 20)])), minus(pairs(&[(1, 10)]))];
    expect_table(WriteMode::Upsert, &[(3, 30)], batches.clone(), &[(2, 20), (3, 30)]);
    expect_table(WriteMode::Insert, &[(3, 30)], batches, &[(2, 20), (3, 30)]);
}

#[test]
fn a_row_is_replaced_in_one_batch_whatever_the_order_of_its_halves() {
    for weights in [[-1, 1], [1, -1]] {
        let halves = if weights[0] < 0 { [(1, 10), (1, 11)] } else { [(1, 11), (1, 10)] };
        let batch = || vec![mixed(pairs(&halves), &weights)];
        expect_table(WriteMode::Upsert, &[(1, 10), (2, 20)], batch(), &[(1, 11), (2, 20)]);
        expect_table(WriteMode::Insert, &[(1, 10), (2, 20)], batch(), &[(1, 11), (2, 20)]);
    }
}

#[test]
fn only_the_row_that_stands_in_the_table_is_taken_back() {
    // Key 1 holds another row by now, key 9 none.
    let batch = minus(pairs(&[(1, 10), (9, 90)]));
    expect_table(WriteMode::Upsert, &[(1, 11)], vec![batch], &[(1, 11)]);
    // What is put and taken back within a batch never was; weights add up first.
    let batch = mixed(pairs(&[(1, 10), (1, 10), (1, 12), (1, 12)]), &[3, -3, 2, -1]);
    expect_table(WriteMode::Upsert, &[(1, 11)], vec![batch], &[(1, 12)]);
}

#[test]
fn two_live_rows_for_a_key_are_an_error() {
    let two_rows = mixed(pairs(&[(1, 10), (1, 11)]), &[1, 1]);
    let one_row_twice = mixed(pairs(&[(1, 10)]), &[2]);
    let both_in_one_flush = plus(pairs(&[(1, 10), (2, 20), (1, 11)]));
    for batch in [two_rows, one_row_twice, both_in_one_flush] {
        let grid = grid();
        let table = table(&grid, &[0]);
        let error = verify_processor(netting(&table, WriteMode::Upsert))
            .grid(Arc::clone(&grid))
            .rows(0, batch)
            .run_to_error();
        assert!(matches!(error, Error::User { code: "21000", .. }), "{error:?}");
        assert!(error.to_string().contains("(k)=(1)"), "{error}");
        assert!(rows(&grid, &table).is_empty());
    }
}

#[test]
fn nothing_is_taken_back_from_a_table_without_key() {
    let grid = grid();
    let table = table(&grid, &[]);
    let error = verify_processor(netting(&table, WriteMode::Insert))
        .grid(Arc::clone(&grid))
        .rows(0, minus(pairs(&[(1, 10)])))
        .run_to_error();
    assert!(matches!(error, Error::User { code: "0A000", .. }), "{error:?}");
}

struct HeldUp {
    grid: Arc<Grid>,
    clock: Arc<storage::env::SimClock>,
    table: Arc<Table>,
    writer: Writer,
    processor: Box<dyn Processor>,
}

/// A sink that has been given a row for key 1, which an open transaction holds, and one for key 2.
fn held_up() -> HeldUp {
    let (env, clock) = Env::simulated(1);
    let grid = Grid::open(GridConfig::default(), env).unwrap();
    let table = table(&grid, &[0]);
    let writer = grid.begin();
    table.write_batch(&writer, WriteMode::Upsert, &batch_of_table(&table, &[(1, 0)])).unwrap();
    let mut processor = sink(&table, WriteMode::Upsert).create(1).unwrap().remove(0);
    processor.init(&testing::context(&grid)).unwrap();
    let mut inbox = Inbox::default();
    inbox.push(plus(pairs(&[(1, 10), (2, 20)])));
    processor.process(0, &mut inbox, &mut Outbox::new(1)).unwrap();
    assert!(inbox.is_empty(), "barriers behind the rows must get through");
    HeldUp { grid, clock, table, writer, processor }
}

#[test]
fn rows_of_a_key_that_is_held_wait_without_holding_up_the_worker() {
    let HeldUp { grid, clock, table, writer, mut processor } = held_up();
    let mut outbox = Outbox::new(1);
    assert_eq!(processor.complete(usize::MAX, &mut outbox).unwrap(), Done::No);
    assert!(rows(&grid, &table).is_empty(), "a batch is written as a whole or not at all");
    writer.commit().unwrap();
    clock.advance(RETRY_MAX.as_micros() as i64);
    assert_eq!(processor.complete(usize::MAX, &mut outbox).unwrap(), Done::Yes);
    assert_eq!(rows(&grid, &table), [(1, 10), (2, 20)]);
}

#[test]
fn rows_that_wait_are_state() {
    let HeldUp { grid, table, writer, mut processor, .. } = held_up();
    let mut state = StateWriter::default();
    assert_eq!(processor.save(&mut state).unwrap(), Done::Yes);
    drop(processor);
    drop(writer);
    // Into three instances: each gets the rows of its partitions.
    for index in 0..3 {
        let context = ProcessorContext { index, parallelism: 3, ..testing::context(&grid) };
        let mut processor = sink(&table, WriteMode::Upsert).create(1).unwrap().remove(0);
        processor.init(&context).unwrap();
        for chunk in &state.chunks {
            if crate::state::instance_of(chunk.partition, 3) == index {
                processor.restore(chunk).unwrap();
            }
        }
        // One call for each chunk at most.
        let mut outbox = Outbox::new(1);
        let done =
            (0..3).any(|_| processor.complete(usize::MAX, &mut outbox).unwrap() == Done::Yes);
        assert!(done, "instance {index}");
    }
    assert_eq!(rows(&grid, &table), [(1, 10), (2, 20)]);
}

#[test]
fn a_key_that_stays_held_fails_the_job() {
    let HeldUp { clock, writer: _held, mut processor, .. } = held_up();
    let mut outbox = Outbox::new(1);
    clock.advance(HELD_MAX.as_micros() as i64 - 1);
    assert_eq!(processor.complete(usize::MAX, &mut outbox).unwrap(), Done::No);
    clock.advance(RETRY_MAX.as_micros() as i64);
    let error = processor.complete(usize::MAX, &mut outbox).unwrap_err();
    assert!(matches!(error, Error::User { code: "40001", .. }), "{error:?}");
}

#[test]
fn while_a_key_is_held_rows_are_taken_up_to_a_bound() {
    let HeldUp { writer: _held, mut processor, .. } = held_up();
    let mut inbox = Inbox::default();
    (0..2000).for_each(|n| inbox.push(plus(pairs(&[(n, n)]))));
    processor.process(0, &mut inbox, &mut Outbox::new(1)).unwrap();
    assert!(inbox.is_empty(), "little batches are no reason to push back");
    // 1 MB a batch.
    let large = plus(pairs(&vec![(7, 7); 65_536]));
    (0..100).for_each(|_| inbox.push(large.clone()));
    processor.process(0, &mut inbox, &mut Outbox::new(1)).unwrap();
    assert_eq!(inbox.len(), 100 - (PARKED_BYTES_MAX >> 20), "large ones are");
}

#[test]
fn rows_that_wait_keep_their_order() {
    let HeldUp { grid, clock, table, writer, mut processor } = held_up();
    let mut inbox = Inbox::default();
    (0..1000).for_each(|n| inbox.push(plus(pairs(&[(n % 10, n)]))));
    processor.process(0, &mut inbox, &mut Outbox::new(1)).unwrap();
    drop(writer);
    clock.advance(RETRY_MAX.as_micros() as i64);
    let done =
        (0..10).any(|_| processor.complete(usize::MAX, &mut Outbox::new(1)).unwrap() == Done::Yes);
    assert!(done, "a thousand little batches are few flushes");
    assert_eq!(rows(&grid, &table), (0..10).map(|k| (k, 990 + k)).collect::<Vec<_>>());
}

#[test]
fn a_transaction_that_rolls_back_lets_the_rows_in_and_writes_of_others_stay() {
    let HeldUp { grid, clock, table, writer, mut processor } = held_up();
    writer.abort();
    let other = KeyedWrite::Put {
        mode: WriteMode::Upsert,
        row: vec![storage::Datum::Int(3), storage::Datum::Int(30)],
    };
    table.write(&other).unwrap();
    clock.advance(RETRY_MAX.as_micros() as i64);
    assert_eq!(processor.complete(usize::MAX, &mut Outbox::new(1)).unwrap(), Done::Yes);
    assert_eq!(rows(&grid, &table), [(1, 10), (2, 20), (3, 30)]);
}

#[test]
fn negative_weights_are_netted_even_where_none_were_promised() {
    let grid = grid();
    let table = table(&grid, &[0]);
    let after = (Arc::clone(&grid), Arc::clone(&table));
    let batch = DeltaBatch {
        rows: pairs(&[(1, 10), (1, 11)]),
        weight: Weight::Array(Int64Array::from(vec![-1, 1])),
    };
    verify_processor(sink(&table, WriteMode::Upsert))
        .grid(Arc::clone(&grid))
        .rows(0, plus(pairs(&[(1, 10)])))
        .rows(0, batch)
        .expect(vec![])
        .after_each(move |way| {
            assert_eq!(rows(&after.0, &after.1), [(1, 11)], "{way}");
            after.1.truncate().unwrap();
        })
        .run();
}
