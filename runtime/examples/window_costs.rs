//! What closing windows costs: HOP of 10 s by 20 ms over 10⁴ keys at 200 000 events a second of
//! event time: time of each close, from the watermark to the last row, and of the calls it takes.
//! Run with `--release`; it prints and asserts nothing, since the answer is the machine's.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use datafusion_physical_expr::expressions::Column;
use storage::{Grid, GridConfig, env::Env};
use tidewater_runtime::{
    Result,
    delta::DeltaBatch,
    item::{Item, Watermark},
    processor::{Done, Inbox, Outbox},
    processors::{AggregateFunction, AggregateSpec, SlidingWindowSpec, sliding_window},
    testing,
};

const KEYS: i64 = 10_000;
const EVENTS_A_SECOND: i64 = 200_000;
const SIZE: i64 = 10_000_000;
const SLIDE: i64 = 20_000;
/// Windows closed; the first 500 fill the window.
const SLIDES: i64 = 1500;

fn main() -> Result<()> {
    use AggregateFunction as F;
    let double = DataType::Float64;
    for (name, functions) in [
        ("count", vec![(F::CountStar, DataType::Int64)]),
        (
            "count, sum, avg",
            vec![
                (F::CountStar, DataType::Int64),
                (F::Sum, DataType::Decimal128(38, 0)),
                (F::Avg, DataType::Decimal128(38, 16)),
            ],
        ),
        ("min, max", vec![(F::Min, DataType::Int64), (F::Max, DataType::Int64)]),
        ("stddev", vec![(F::StddevPop, double)]),
    ] {
        run(name, &functions)?;
    }
    Ok(())
}

fn run(name: &str, functions: &[(AggregateFunction, DataType)]) -> Result<()> {
    let env = Env::real();
    let clock = Arc::clone(&env.clock);
    let grid = Grid::open(GridConfig::default(), env)?;
    let mut processor = sliding_window(spec(functions)).create(1)?.remove(0);
    processor.init(&testing::context(&grid))?;
    let mut outbox = Outbox::new(8);
    let (mut closes, mut calls) = (Vec::new(), Vec::new());
    let mut rows_out = 0;
    for slide in 0..SLIDES {
        let mut inbox = Inbox::default();
        inbox.push(DeltaBatch::insertions(rows(slide)?));
        while !inbox.is_empty() {
            let start = clock.monotonic_nanos();
            processor.process(0, &mut inbox, &mut outbox)?;
            calls.push(clock.monotonic_nanos() - start);
        }
        let watermark = Watermark { key: 0, time: (slide + 1) * SLIDE };
        let begin = clock.monotonic_nanos();
        loop {
            let start = clock.monotonic_nanos();
            let done = processor.watermark(watermark, &mut outbox)?;
            calls.push(clock.monotonic_nanos() - start);
            while let Some(item) = outbox.take() {
                if let (Item::Batch(batch), true) = (item, slide >= 500) {
                    rows_out += batch.len();
                }
            }
            if done == Done::Yes {
                break;
            }
        }
        if slide >= 500 {
            closes.push(clock.monotonic_nanos() - begin);
        } else {
            calls.clear();
        }
        let start = clock.monotonic_nanos();
        let _ = processor.idle(&mut outbox)?;
        calls.push(clock.monotonic_nanos() - start);
    }
    let micros = |times: &mut Vec<u64>, part: f64| {
        times.sort_unstable();
        times[((times.len() - 1) as f64 * part) as usize] as f64 / 1000.0
    };
    println!(
        "{name:<18} {:>6} rows a window; close: median {:>6.0} µs, 99 % {:>6.0} µs, longest {:>6.0} µs; \
         call: 99 % {:>5.0} µs, longest {:>6.0} µs",
        rows_out / closes.len(),
        micros(&mut closes, 0.5),
        micros(&mut closes, 0.99),
        micros(&mut closes, 1.0),
        micros(&mut calls, 0.99),
        micros(&mut calls, 1.0),
    );
    Ok(())
}

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Int64, false),
        Field::new("x", DataType::Float64, false),
    ]))
}

fn spec(functions: &[(AggregateFunction, DataType)]) -> SlidingWindowSpec {
    let aggregates = functions.iter().map(|(function, result_type)| AggregateSpec {
        function: *function,
        argument: match (function, result_type) {
            (AggregateFunction::CountStar, _) => None,
            (_, DataType::Float64) => Some(Arc::new(Column::new("x", 3))),
            _ => Some(Arc::new(Column::new("v", 2))),
        },
        filter: None,
        is_distinct: false,
        result_type: result_type.clone(),
        name: function.name().to_owned(),
    });
    SlidingWindowSpec {
        input: input(),
        time_column: 0,
        size: SIZE,
        slide: SLIDE,
        offset: 0,
        keys: vec![1],
        key_names: vec!["k".to_owned()],
        aggregates: aggregates.collect(),
        is_append_only: true,
    }
}

/// The events of one slide.
fn rows(slide: i64) -> Result<RecordBatch> {
    let count = EVENTS_A_SECOND * SLIDE / 1_000_000;
    let numbers = slide * count..(slide + 1) * count;
    // A multiplicative hash stands in for chance.
    let random = |n: i64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) >> 20).rem_euclid(KEYS);
    let times = numbers.clone().map(|n| slide * SLIDE + (n % count) * SLIDE / count);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
        Arc::new(Int64Array::from_iter_values(numbers.clone().map(random))),
        Arc::new(Int64Array::from_iter_values(numbers.clone())),
        Arc::new(Float64Array::from_iter_values(numbers.map(|n| n as f64 / 7.0))),
    ];
    Ok(RecordBatch::try_new(input(), columns)?)
}
