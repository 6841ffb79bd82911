//! The naive model: keeps every row of every open window and aggregates from scratch.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, Float64Array, StringArray},
    compute::cast,
};
use storage::env::Rng;

use super::*;
use crate::delta::Weight;

/// One thing that happens to the operator.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Rows(Vec<(i64, i64, i64, i64)>),
    Watermark(i64),
}

/// (value, weight) of every row of a key in a window.
type Bag = Vec<(i64, i64)>;

/// Closed windows in order of their end: `(key, start, end, rows)`.
fn closed_windows(
    size: i64,
    slide: i64,
    offset: i64,
    events: &[Event],
) -> Vec<(i64, i64, i64, Bag)> {
    let mut open: BTreeMap<(i64, i64), Bag> = BTreeMap::new();
    let mut closed = Vec::new();
    let mut watermark_last = i64::MIN;
    let mut close = |open: &mut BTreeMap<(i64, i64), Bag>, watermark: i64| {
        while let Some(entry) = open.first_entry() {
            let (end, key) = *entry.key();
            if end > watermark {
                break;
            }
            closed.push((key, end - size, end, entry.remove()));
        }
    };
    for event in events {
        match event {
            Event::Rows(rows) => {
                for &(time, key, value, weight) in rows {
                    let mut start = (time - offset).div_euclid(slide) * slide + offset;
                    while start + size > time {
                        if start + size > watermark_last {
                            open.entry((start + size, key)).or_default().push((value, weight));
                        }
                        start -= slide;
                    }
                }
            }
            Event::Watermark(time) => {
                watermark_last = *time;
                close(&mut open, *time);
            }
        }
    }
    close(&mut open, i64::MAX);
    closed.retain(|(.., bag)| bag.iter().map(|row| row.1).sum::<i64>() > 0);
    closed
}

/// Σw, Σwx, least, greatest, distinct count of values above 3, variance: as texts, null if absent.
fn results(bag: &Bag) -> [Option<String>; 7] {
    let count: i64 = bag.iter().map(|row| row.1).sum();
    let sum: i64 = bag.iter().map(|row| row.0 * row.1).sum();
    let square_sum: i64 = bag.iter().map(|row| row.0 * row.0 * row.1).sum();
    let mut values: BTreeMap<i64, i64> = BTreeMap::new();
    bag.iter().for_each(|row| *values.entry(row.0).or_default() += row.1);
    values.retain(|_, weight| *weight > 0);
    let text = |value: Option<i64>| value.map(|value| value.to_string());
    let mean = sum as f64 / count as f64;
    let variance = (square_sum as f64 - sum as f64 * sum as f64 / count as f64) / count as f64;
    [
        text(Some(count)),
        text(Some(sum)),
        text(values.keys().next().copied()),
        text(values.keys().last().copied()),
        text(Some(values.keys().filter(|value| **value > 3).count() as i64)),
        Some(format!("{mean:.9}")),
        Some(format!("{variance:.6}")),
    ]
}

pub(super) fn model_spec(size: i64, slide: i64, offset: i64) -> SlidingWindowSpec {
    let mut distinct = aggregate(F::Count, DataType::Int64);
    distinct.is_distinct = true;
    distinct.filter = Some(binary(column(&input_schema(), 2), Operator::Gt, literal(3)));
    let aggregates = vec![
        count(),
        aggregate(F::Sum, DataType::Decimal128(38, 0)),
        aggregate(F::Min, DataType::Int64),
        aggregate(F::Max, DataType::Int64),
        distinct,
        aggregate(F::Avg, DataType::Decimal128(38, 16)),
        aggregate(F::VarPop, DataType::Float64),
    ];
    SlidingWindowSpec { offset, ..spec(size, slide, aggregates) }
}

/// A stream whose time rises with some disorder. With `is_append_only` all weights are +1; else
/// some rows of the same batch are taken back, or come several times.
pub(super) fn random_events(rng: &Rng, is_append_only: bool) -> Vec<Event> {
    let mut now = -40_i64;
    let below = |bound: u64| (rng.next_u64() % bound) as i64;
    let mut events = Vec::new();
    for _ in 0..8 {
        let mut rows = Vec::new();
        for _ in 0..below(30) {
            now += below(3);
            let row = (now - below(12), below(4), below(8));
            let weight = if is_append_only { 1 } else { 1 + below(3) };
            rows.push((row.0, row.1, row.2, weight));
            if !is_append_only && below(3) == 0 {
                // Part of it, or all of it, or more rows than came is never taken back.
                rows.push((row.0, row.1, row.2, -(1 + below(weight as u64))));
            }
        }
        events.push(Event::Rows(rows));
        events.push(Event::Watermark(now - 6));
    }
    events
}

/// What the operator emits, as texts comparable with the model's, when a call may do so much.
fn run_operator(spec: &SlidingWindowSpec, events: &[Event], units_of_call: usize) -> Vec<String> {
    use crate::processor::{Done, Inbox, Outbox, Processor};
    let (env, _) = storage::env::Env::simulated(1);
    let grid = storage::Grid::open(storage::GridConfig::default(), env).unwrap();
    let plan = spec::WindowPlan::new(spec).unwrap();
    let mut processor = window::SlidingWindow::new(plan).unwrap();
    processor.units_of_call = units_of_call;
    processor.init(&crate::testing::context(&grid)).unwrap();
    let mut outbox = Outbox::new(1 << 16);
    for event in events {
        match event {
            Event::Rows(rows) => {
                let mut inbox = Inbox::default();
                inbox.push(delta(rows));
                while !inbox.is_empty() {
                    processor.process(0, &mut inbox, &mut outbox).unwrap();
                }
            }
            Event::Watermark(time) => {
                let watermark = crate::item::Watermark { key: 0, time: *time };
                while processor.watermark(watermark, &mut outbox).unwrap() == Done::No {}
            }
        }
    }
    while processor.complete(usize::MAX, &mut outbox).unwrap() == Done::No {}
    let mut found = Vec::new();
    while let Some(item) = outbox.take() {
        if let crate::item::Item::Batch(batch) = item {
            assert_eq!(batch.weight, Weight::One);
            found.extend((0..batch.len()).map(|row| row_text(&batch.rows, row)));
        }
    }
    found
}

pub(super) fn delta(rows: &[(i64, i64, i64, i64)]) -> DeltaBatch {
    let plain: Vec<_> = rows.iter().map(|row| (row.0, row.1, row.2)).collect();
    let weights: Vec<_> = rows.iter().map(|row| row.3).collect();
    if weights.iter().all(|weight| *weight == 1) {
        return plus(super::rows(&plain));
    }
    mixed(super::rows(&plain), &weights)
}

pub(super) fn row_text(rows: &RecordBatch, row: usize) -> String {
    let integer = |column: usize| {
        let values = cast(rows.column(column), &DataType::Int64).unwrap();
        values.as_any().downcast_ref::<Int64Array>().unwrap().value(row).to_string()
    };
    let mut texts: Vec<String> = (0..3).map(integer).collect();
    for column in 3..rows.num_columns() {
        let values = rows.column(column);
        texts.push(if values.is_null(row) {
            "null".to_owned()
        } else if column >= 8 {
            let values = cast(values, &DataType::Float64).unwrap();
            let value = values.as_any().downcast_ref::<Float64Array>().unwrap().value(row);
            if column == 8 { format!("{value:.9}") } else { format!("{value:.6}") }
        } else {
            let values = cast(values, &DataType::Utf8).unwrap();
            values.as_any().downcast_ref::<StringArray>().unwrap().value(row).to_owned()
        });
    }
    texts.join(" ")
}

fn model_texts(spec: &SlidingWindowSpec, events: &[Event]) -> Vec<String> {
    let windows = closed_windows(spec.size, spec.slide, spec.offset, events);
    let text = |(key, start, end, bag): &(i64, i64, i64, Bag)| {
        let results = results(bag).map(|text| text.unwrap_or_else(|| "null".to_owned()));
        format!("{key} {start} {end} {}", results.join(" "))
    };
    windows.iter().map(text).collect()
}

#[test]
fn random_streams_give_what_a_naive_model_gives() {
    let shapes = [
        (10, 10, 0),
        (10, 5, 0),
        (10, 2, 1),
        (10, 4, 0),
        (9, 6, -4),
        (5, 12, 3),
        (7, 1, 0),
        (40, 1, 0),
        (25, 2, 3),
        (48, 7, 1),
        (2, 1, 0),
    ];
    for seed in 0..120 {
        let rng = Rng::seeded(seed);
        let (size, slide, offset) = shapes[seed as usize % shapes.len()];
        let is_append_only = seed % 2 == 0;
        let mut spec = model_spec(size, slide, offset);
        spec.is_append_only = is_append_only;
        let events = random_events(&rng, is_append_only);
        let mut expected = model_texts(&spec, &events);
        // Little work a call, so that every step of closing is interrupted somewhere.
        let units_of_call = [1, 3, 1 << 20][seed as usize / 2 % 3];
        let mut found = run_operator(&spec, &events, units_of_call);
        let end_of = |text: &String| text.split(' ').nth(2).unwrap().parse::<i64>().unwrap();
        assert!(found.is_sorted_by_key(end_of), "seed {seed}: not in order of window_end");
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "seed {seed}: {spec:?}");
    }
}

#[test]
fn random_streams_survive_every_way_of_being_called() {
    for seed in 0..8 {
        let rng = Rng::seeded(1000 + seed);
        let (size, slide) = [(10, 10), (10, 4), (6, 3), (12, 1)][seed as usize % 4];
        let is_append_only = seed % 2 == 0;
        let mut spec = model_spec(size, slide, 0);
        spec.is_append_only = is_append_only;
        let events = random_events(&rng, is_append_only);
        let (env, _) = storage::env::Env::simulated(1);
        let grid = storage::Grid::open(storage::GridConfig::default(), env).unwrap();
        let emitted = emitted_batches(&spec, &events, &grid);
        let mut verification = verify_processor(sliding_window(spec)).time_column(2);
        for event in &events {
            verification = match event {
                Event::Rows(rows) if rows.is_empty() => verification,
                Event::Rows(rows) => verification.rows(0, delta(rows)),
                Event::Watermark(time) => verification.watermark(*time),
            };
        }
        verification.expect(emitted).run();
    }
}

/// The batches of a plain run, which the test above compares with the model.
fn emitted_batches(
    spec: &SlidingWindowSpec,
    events: &[Event],
    grid: &Arc<storage::Grid>,
) -> Vec<DeltaBatch> {
    use crate::processor::{Done, Inbox, Outbox};
    let mut processor = sliding_window(spec.clone()).create(1).unwrap().remove(0);
    processor.init(&crate::testing::context(grid)).unwrap();
    let mut outbox = Outbox::new(1 << 16);
    for event in events {
        match event {
            Event::Rows(rows) => {
                let mut inbox = Inbox::default();
                inbox.push(delta(rows));
                while !inbox.is_empty() {
                    processor.process(0, &mut inbox, &mut outbox).unwrap();
                }
            }
            Event::Watermark(time) => {
                let watermark = crate::item::Watermark { key: 0, time: *time };
                while processor.watermark(watermark, &mut outbox).unwrap() == Done::No {}
            }
        }
    }
    while processor.complete(usize::MAX, &mut outbox).unwrap() == Done::No {}
    let items = std::iter::from_fn(|| outbox.take());
    items
        .filter_map(|item| match item {
            crate::item::Item::Batch(batch) => Some(batch),
            _ => None,
        })
        .collect()
}
