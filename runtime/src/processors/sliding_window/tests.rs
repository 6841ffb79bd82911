//! Windows against hand-made expectations and against a naive model that keeps every row.

mod model;
mod rescale;

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use datafusion_expr_common::operator::Operator;

use super::*;
use crate::{
    delta::DeltaBatch,
    processors::{
        AggregateFunction as F, AggregateSpec,
        testkit::{binary, column, literal, minus, mixed, plus},
    },
    testing::verify_processor,
};

/// `ts TIMESTAMP, k BIGINT, v BIGINT`.
pub(super) fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ]))
}

pub(super) fn rows(rows: &[(i64, i64, i64)]) -> RecordBatch {
    let ts: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.0)));
    let k: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
    let v: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2)));
    RecordBatch::try_new(input_schema(), vec![ts, k, v]).unwrap()
}

pub(super) fn aggregate(function: F, result_type: DataType) -> AggregateSpec {
    let argument = (function != F::CountStar).then(|| column(&input_schema(), 2));
    let name = function.name().to_owned();
    AggregateSpec { function, argument, filter: None, is_distinct: false, result_type, name }
}

pub(super) fn spec(size: i64, slide: i64, aggregates: Vec<AggregateSpec>) -> SlidingWindowSpec {
    SlidingWindowSpec {
        input: input_schema(),
        time_column: 0,
        size,
        slide,
        offset: 0,
        keys: vec![1],
        key_names: vec!["k".to_owned()],
        aggregates,
        is_append_only: false,
    }
}

fn count() -> AggregateSpec {
    aggregate(F::CountStar, DataType::Int64)
}

/// Expected `k, window_start, window_end, count` rows.
fn counted(spec: &SlidingWindowSpec, rows: &[(i64, i64, i64, i64)]) -> DeltaBatch {
    let integers =
        |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from_iter_values(values)) };
    let times =
        |values: Vec<i64>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(values)) };
    let columns = vec![
        integers(rows.iter().map(|row| row.0).collect()),
        times(rows.iter().map(|row| row.1).collect()),
        times(rows.iter().map(|row| row.2).collect()),
        integers(rows.iter().map(|row| row.3).collect()),
    ];
    plus(RecordBatch::try_new(sliding_window(spec.clone()).schema(), columns).unwrap())
}

#[test]
fn tumbling_windows_come_out_when_the_watermark_reaches_their_end() {
    let spec = spec(10, 10, vec![count()]);
    verify_processor(sliding_window(spec.clone()))
        .rows(0, plus(rows(&[(1, 7, 0), (9, 7, 0), (10, 7, 0), (3, 8, 0)])))
        .watermark(9)
        .watermark(10)
        .rows(0, plus(rows(&[(12, 7, 0)])))
        .watermark(25)
        .expect(vec![counted(&spec, &[(7, 0, 10, 2), (8, 0, 10, 1), (7, 10, 20, 2)])])
        .expect_watermarks(vec![9, 10, 25])
        .time_column(2)
        .run();
}

#[test]
fn hopping_windows_share_rows_and_start_before_the_epoch() {
    let spec = spec(10, 4, vec![count()]);
    verify_processor(sliding_window(spec.clone()))
        .rows(0, plus(rows(&[(-3, 1, 0), (5, 1, 0)])))
        .watermark(6)
        .expect(vec![counted(
            &spec,
            &[(1, -12, -2, 1), (1, -8, 2, 1), (1, -4, 6, 2), (1, 0, 10, 1), (1, 4, 14, 1)],
        )])
        .in_order()
        .time_column(2)
        .run();
}

#[test]
fn rows_between_sampled_windows_are_in_none() {
    let spec = spec(2, 10, vec![count()]);
    verify_processor(sliding_window(spec.clone()))
        .rows(0, plus(rows(&[(0, 1, 0), (1, 1, 0), (2, 1, 0), (9, 1, 0), (10, 1, 0)])))
        .watermark(100)
        .expect(vec![counted(&spec, &[(1, 0, 2, 2), (1, 10, 12, 1)])])
        .run();
}

#[test]
fn a_row_is_late_only_when_all_its_windows_are_closed() {
    let spec = spec(10, 5, vec![count()]);
    verify_processor(sliding_window(spec.clone()))
        .rows(0, plus(rows(&[(6, 1, 0)])))
        .watermark(11)
        .rows(0, plus(rows(&[(6, 1, 0), (4, 1, 0), (12, 1, 0)])))
        .expect(vec![counted(&spec, &[(1, 0, 10, 1), (1, 5, 15, 3), (1, 10, 20, 1)])])
        .run();
}

#[test]
fn silence_of_all_input_closes_the_windows_that_hold_rows() {
    let spec = spec(10, 10, vec![count()]);
    verify_processor(sliding_window(spec.clone()))
        .rows(0, plus(rows(&[(1, 1, 0)])))
        .idle()
        .rows(0, plus(rows(&[(2, 1, 0), (11, 1, 0)])))
        .expect(vec![counted(&spec, &[(1, 0, 10, 1), (1, 10, 20, 1)])])
        .run();
}

#[test]
fn a_key_whose_rows_are_all_retracted_has_no_row() {
    let spec = spec(10, 5, vec![count()]);
    verify_processor(sliding_window(spec.clone()))
        .rows(0, plus(rows(&[(1, 1, 0), (1, 2, 0), (6, 2, 0)])))
        .rows(0, minus(rows(&[(1, 1, 0), (6, 2, 0)])))
        .rows(0, mixed(rows(&[(7, 3, 0), (7, 3, 0), (7, 4, 0)]), &[5, -2, 0]))
        .expect(vec![counted(&spec, &[(2, -5, 5, 1), (2, 0, 10, 1), (3, 0, 10, 3), (3, 5, 15, 3)])])
        .run();
}

#[test]
fn late_and_timeless_rows_are_counted() {
    let spec = spec(10, 10, vec![count()]);
    let (env, _) = storage::env::Env::simulated(1);
    let grid = storage::Grid::open(storage::GridConfig::default(), env).unwrap();
    let mut processor = sliding_window(spec).create(1).unwrap().remove(0);
    processor.init(&crate::testing::context(&grid)).unwrap();
    let mut outbox = crate::processor::Outbox::new(64);
    let watermark = crate::item::Watermark { key: 0, time: 10 };
    assert_eq!(processor.watermark(watermark, &mut outbox).unwrap(), crate::processor::Done::Yes);
    let ts: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(3), None, Some(12)]));
    let k: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 1]));
    let batch = RecordBatch::try_new(input_schema(), vec![ts, Arc::clone(&k), k]).unwrap();
    let mut inbox = crate::processor::Inbox::default();
    inbox.push(plus(batch));
    processor.process(0, &mut inbox, &mut outbox).unwrap();
    let labels = [("job", "test"), ("vertex", "test")];
    assert_eq!(grid.metrics().register("tidewater_late_rows_total", &labels).get(), 1);
    assert_eq!(grid.metrics().register("tidewater_skipped_rows_total", &labels).get(), 1);
}

#[test]
fn sums_beyond_the_result_type_are_an_error() {
    let mut sum = aggregate(F::Sum, DataType::Int64);
    sum.result_type = DataType::Int64;
    let error = verify_processor(sliding_window(spec(10, 10, vec![sum])))
        .rows(0, plus(rows(&[(1, 1, i64::MAX), (1, 1, 1)])))
        .watermark(10)
        .run_to_error();
    assert_eq!(error.to_string(), "bigint out of range");
    let sum = aggregate(F::Sum, DataType::Decimal128(38, 0));
    let spec = spec(10, 10, vec![sum]);
    let total: ArrayRef = Arc::new(
        Decimal128Array::from(vec![i128::from(i64::MAX) + 1])
            .with_precision_and_scale(38, 0)
            .unwrap(),
    );
    let counted = counted_columns(&spec, total);
    verify_processor(sliding_window(spec))
        .rows(0, plus(rows(&[(1, 1, i64::MAX), (1, 1, 1)])))
        .watermark(10)
        .expect(vec![counted])
        .run();
}

fn counted_columns(spec: &SlidingWindowSpec, result: ArrayRef) -> DeltaBatch {
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let time = |time| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![time])) };
    let schema = sliding_window(spec.clone()).schema();
    plus(RecordBatch::try_new(schema, vec![one, time(0), time(10), result]).unwrap())
}

#[test]
fn a_retraction_from_append_only_input_is_an_error_for_max() {
    let mut spec = spec(10, 10, vec![aggregate(F::Max, DataType::Int64)]);
    spec.is_append_only = true;
    let error =
        verify_processor(sliding_window(spec)).rows(0, minus(rows(&[(1, 1, 1)]))).run_to_error();
    assert!(error.to_string().contains("append-only"), "{error}");
}

#[test]
fn keys_are_forgotten_with_their_last_pane() {
    let spec = spec(10, 5, vec![count(), aggregate(F::Max, DataType::Int64)]);
    let plan_supplier = sliding_window(spec);
    let mut processor = plan_supplier.create(1).unwrap().remove(0);
    let (env, _) = storage::env::Env::simulated(1);
    let grid = storage::Grid::open(storage::GridConfig::default(), env).unwrap();
    processor.init(&crate::testing::context(&grid)).unwrap();
    let bytes =
        grid.metrics().register("tidewater_state_bytes", &[("job", "test"), ("vertex", "test")]);
    let mut outbox = crate::processor::Outbox::new(1 << 20);
    let mut bytes_seen = Vec::new();
    for round in 0..40_i64 {
        let batch: Vec<_> = (0..3000).map(|n| (round * 5, round * 3000 + n, n)).collect();
        let mut inbox = crate::processor::Inbox::default();
        inbox.push(plus(rows(&batch)));
        processor.process(0, &mut inbox, &mut outbox).unwrap();
        let watermark = crate::item::Watermark { key: 0, time: round * 5 };
        while processor.watermark(watermark, &mut outbox).unwrap() == crate::processor::Done::No {}
        bytes_seen.push(bytes.get());
    }
    let (early, late) = (bytes_seen[10], bytes_seen[39]);
    assert!(early > 0 && late < early * 2, "state grows: {bytes_seen:?}");
    drop(processor);
    assert_eq!(bytes.get(), 0, "a processor that is gone holds nothing");
}

/// Units of work that closing 3 · `panes` windows of so many panes takes, 20 keys in each pane.
fn units_of_closing(panes: i64, function: F) -> usize {
    use crate::processor::{Done, Inbox, Outbox, Processor};
    let mut spec = spec(panes, 1, vec![aggregate(function, DataType::Float64)]);
    if function == F::Max {
        spec.aggregates[0].result_type = DataType::Int64;
    }
    spec.is_append_only = true;
    let plan = spec::WindowPlan::new(&spec).unwrap();
    let mut processor = window::SlidingWindow::new(plan).unwrap();
    processor.units_of_call = 1;
    let (env, _) = storage::env::Env::simulated(1);
    let grid = storage::Grid::open(storage::GridConfig::default(), env).unwrap();
    processor.init(&crate::testing::context(&grid)).unwrap();
    let mut outbox = Outbox::new(1 << 20);
    let mut calls = 0;
    for now in 0..3 * panes {
        let mut inbox = Inbox::default();
        inbox.push(plus(rows(&(0..20).map(|k| (now, k, now)).collect::<Vec<_>>())));
        while !inbox.is_empty() {
            processor.process(0, &mut inbox, &mut outbox).unwrap();
            calls += 1;
        }
        let watermark = crate::item::Watermark { key: 0, time: now };
        while processor.watermark(watermark, &mut outbox).unwrap() == Done::No {
            calls += 1;
        }
    }
    calls
}

#[test]
fn a_window_of_many_panes_costs_no_more_than_one_of_few() {
    for function in [F::Max, F::VarPop] {
        let few = units_of_closing(10, function);
        let many = units_of_closing(200, function);
        assert!(many < few * 20 * 5 / 4, "{function:?}: 30 windows {few}, 600 windows {many}");
    }
}

#[test]
fn explain_text_names_lengths_keys_and_aggregates() {
    let mut sum = aggregate(F::Sum, DataType::Decimal128(38, 0));
    sum.is_distinct = true;
    sum.filter = Some(binary(column(&input_schema(), 2), Operator::Gt, literal(5)));
    let described = |spec| sliding_window(spec).describe();
    assert_eq!(
        described(spec(10_000_000, 500_000, vec![count(), sum])),
        "hop(window 10 s, slide 500 ms) by [k] count(*), sum(distinct v) filter (where v > 5)"
    );
    let mut global = spec(60_000_000, 60_000_000, vec![count()]);
    global.keys.clear();
    global.key_names.clear();
    assert_eq!(described(global), "tumble(window 1 min) count(*)");
}
