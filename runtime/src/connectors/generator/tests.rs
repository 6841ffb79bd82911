//! Tests of the generator sources: every number once, whatever the parallelism or restart.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{array::AsArray, datatypes::Int64Type};
use storage::{
    Grid, GridConfig,
    cluster::control::{MappingRecord, ObjectId, ObjectName},
    env::{Env, SimClock},
};

use super::*;
use crate::{
    Error,
    item::Item,
    processor::{Done, Outbox, Processor, ProcessorContext},
    state::{StateChunk, StateWriter},
    testing,
    time::EventTimePolicy,
};

/// A simulated member on which sources are driven by hand.
struct Member {
    grid: Arc<Grid>,
    clock: Arc<SimClock>,
}

impl Member {
    fn new() -> Self {
        let (env, clock) = Env::simulated(1);
        Self { grid: Grid::open(GridConfig::default(), env).unwrap(), clock }
    }

    fn source(&self, options: &[(&str, &str)], event_time: Option<EventTimePolicy>) -> Source {
        let options: BTreeMap<String, String> =
            options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let request = MappingRequest {
            external_name: "g".to_owned(),
            options: options.clone(),
            schema: None,
            external_columns: Vec::new(),
        };
        let schema = Generator.resolve(&request).unwrap();
        let mapping = Arc::new(MappingRecord {
            id: ObjectId(1),
            name: ObjectName::public("g"),
            external_name: "g".to_owned(),
            connector: "Generator".to_owned(),
            options,
            schema: Arc::clone(&schema),
            columns: Vec::new(),
            watermark: None,
        });
        let projection = (0..schema.fields().len()).collect();
        let grid = Arc::clone(&self.grid);
        let struct_fields = BTreeMap::new();
        Generator
            .source(&SourceRequest { mapping, projection, struct_fields, event_time, grid })
            .unwrap()
            .unwrap()
    }

    /// All instances, begun.
    fn begin(&self, source: &Source, parallelism: usize) -> Vec<Box<dyn Processor>> {
        let mut processors = source.supplier.create(parallelism).unwrap();
        for (index, processor) in processors.iter_mut().enumerate() {
            let context = ProcessorContext { index, parallelism, ..testing::context(&self.grid) };
            processor.init(&context).unwrap();
        }
        processors
    }
}

/// What came out: first column of the rows, and watermarks.
#[derive(Default, Debug, PartialEq)]
struct Output {
    ids: Vec<i64>,
    watermarks: Vec<i64>,
}

/// Calls `processor` until it is exhausted, or for `calls` calls.
fn drive(processor: &mut dyn Processor, mut outbox: Outbox, calls: usize) -> (Output, Done) {
    let mut output = Output::default();
    for _ in 0..calls {
        let done = processor.idle(&mut outbox).unwrap();
        while let Some(item) = outbox.take() {
            match item {
                Item::Batch(batch) => {
                    let ids = batch.rows.column(0).as_primitive::<Int64Type>();
                    output.ids.extend(ids.values());
                }
                Item::Watermark(watermark) => output.watermarks.push(watermark.time),
                other => panic!("{other:?}"),
            }
        }
        if done == Done::Yes {
            return (output, done);
        }
    }
    (output, Done::No)
}

fn save(processor: &mut dyn Processor) -> Vec<StateChunk> {
    let mut state = StateWriter::default();
    assert_eq!(processor.save(&mut state).unwrap(), Done::Yes);
    state.chunks
}

#[test]
fn every_number_is_made_once_whatever_the_parallelism() {
    let member = Member::new();
    let source = member.source(&[("kind", "sequence"), ("count", "100000")], None);
    assert!(source.is_bounded);
    for parallelism in [1, 2, 3, 100] {
        let mut ids = Vec::new();
        for mut processor in member.begin(&source, parallelism) {
            let (output, done) = drive(processor.as_mut(), Outbox::stubborn(), 10_000);
            assert_eq!(done, Done::Yes);
            assert!(output.ids.is_sorted(), "an instance keeps the order of numbers");
            ids.extend(output.ids);
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..100_000).collect::<Vec<_>>(), "parallelism {parallelism}");
    }
}

#[test]
fn restored_with_another_parallelism_nothing_is_lost_or_repeated() {
    let member = Member::new();
    let source = member.source(&[("kind", "sequence"), ("count", "300000")], None);
    for (before, after) in [(1, 1), (1, 3), (3, 2), (4, 1)] {
        let mut ids = Vec::new();
        let mut chunks = Vec::new();
        for (index, mut processor) in member.begin(&source, before).into_iter().enumerate() {
            // A stubborn outbox leaves batches refused and pending at the barrier.
            let (output, _) = drive(processor.as_mut(), Outbox::stubborn(), 31 + index);
            ids.extend(output.ids);
            chunks.extend(save(processor.as_mut()));
        }
        for mut processor in member.begin(&source, after) {
            for chunk in &chunks {
                processor.restore(chunk).unwrap();
            }
            ids.extend(drive(processor.as_mut(), Outbox::new(8), 10_000).0.ids);
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..300_000).collect::<Vec<_>>(), "{before} then {after}");
    }
}

#[test]
fn no_row_is_behind_the_watermark_before_it() {
    let member = Member::new();
    let policy =
        EventTimePolicy { time_column: 3, lag: 2_000, idle_timeout: 5_000_000, max_future: None };
    let options = [("kind", "sequence"), ("count", "60000"), ("lag", "2 ms")];
    let source = member.source(&options, Some(policy));
    for mut processor in member.begin(&source, 2) {
        let mut outbox = Outbox::stubborn();
        let (mut newest, mut watermarks, mut done) = (i64::MIN, 0, Done::No);
        while done == Done::No {
            done = processor.idle(&mut outbox).unwrap();
            match outbox.take() {
                Some(Item::Batch(batch)) => {
                    let times = batch.rows.column(3).as_primitive::<Int64Type>();
                    assert!(times.values().iter().all(|time| *time >= newest));
                }
                Some(Item::Watermark(watermark)) => {
                    assert!(watermark.time > newest);
                    newest = watermark.time;
                    watermarks += 1;
                }
                _ => {}
            }
        }
        assert!(watermarks > 2);
    }
}

#[test]
fn a_generator_keeps_the_processor_contract() {
    let member = Member::new();
    for (kind, count) in [("sequence", "9000"), ("nexmark", "5000")] {
        let source = member.source(&[("kind", kind), ("count", count)], None);
        let mut processors = member.begin(&source, 1);
        let mut outbox = Outbox::new(64);
        let mut expected = Vec::new();
        while processors[0].idle(&mut outbox).unwrap() == Done::No {
            if let Some(Item::Batch(batch)) = outbox.take() {
                expected.push(batch);
            }
        }
        let grid = Arc::clone(&member.grid);
        testing::verify_processor(source.supplier).grid(grid).expect(expected).in_order().run();
    }
}

#[test]
fn rows_come_at_their_rate_on_the_members_clock() {
    let member = Member::new();
    let source = member.source(&[("kind", "sequence"), ("rate", "1000")], None);
    assert!(!source.is_bounded);
    let mut processors = member.begin(&source, 1);
    let mut rows = || drive(processors[0].as_mut(), Outbox::new(8), 20).0.ids.len();
    assert_eq!(rows(), 1);
    assert_eq!(rows(), 0);
    member.clock.advance(10_000);
    assert_eq!(rows(), 10);
    member.clock.advance(1_000_000);
    assert_eq!(rows(), 1000);
}

#[test]
fn all_instances_of_an_execution_share_the_wall_clock_of_the_first() {
    let member = Member::new();
    let policy =
        EventTimePolicy { time_column: 3, lag: 0, idle_timeout: 5_000_000, max_future: None };
    let source = member.source(&[("kind", "sequence"), ("rate", "1000000")], Some(policy));
    let mut processors = member.begin(&source, 2);
    member.clock.advance(1_000_000);
    let start = 1_700_000_000_000_000;
    let first = drive(processors[0].as_mut(), Outbox::new(64), 4).0;
    let second = drive(processors[1].as_mut(), Outbox::new(64), 4).0;
    assert_eq!(first.watermarks[0], start);
    assert_eq!(second.watermarks[0], start + source::BLOCK_ROWS as i64);
}

#[test]
fn a_series_has_both_ends_and_its_direction() {
    let member = Member::new();
    let values = |first, last, step| {
        let source = series_source(first, last, step).unwrap();
        assert!(source.is_bounded);
        drive(member.begin(&source, 1)[0].as_mut(), Outbox::new(8), 1000).0.ids
    };
    assert_eq!(values(1, 5, 1), [1, 2, 3, 4, 5]);
    assert_eq!(values(1, 6, 2), [1, 3, 5]);
    assert_eq!(values(5, 1, -2), [5, 3, 1]);
    assert_eq!(values(3, 3, -7), [3]);
    assert_eq!(values(1, 5, -1), [0; 0]);
    assert_eq!(values(i64::MAX - 1, i64::MAX, 1), [i64::MAX - 1, i64::MAX]);
    assert_eq!(values(i64::MIN, i64::MAX, i64::MAX), [i64::MIN, -1, i64::MAX - 1]);
    assert!(matches!(series_source(1, 5, 0), Err(Error::Invalid { code: "22023", .. })));
}

#[test]
fn a_stream_of_rate_zero_never_ends_and_a_negative_rate_is_refused() {
    let member = Member::new();
    let source = stream_source(0).unwrap();
    assert!(!source.is_bounded);
    let mut processors = member.begin(&source, 1);
    member.clock.advance(1_000_000_000);
    let (output, done) = drive(processors[0].as_mut(), Outbox::new(8), 100);
    assert_eq!((output, done), (Output::default(), Done::No));
    assert!(matches!(stream_source(-1), Err(Error::Invalid { code: "22023", .. })));
}

#[test]
fn declared_columns_must_be_ones_the_generator_makes() {
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    let resolve = |kind: &str, columns: Vec<Field>| {
        let request = MappingRequest {
            external_name: "g".to_owned(),
            options: BTreeMap::from([("kind".to_owned(), kind.to_owned())]),
            external_columns: vec![None; columns.len()],
            schema: Some(Arc::new(Schema::new(columns))),
        };
        Generator.resolve(&request)
    };
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let columns = vec![Field::new("ts", time, true), Field::new("k", DataType::Int64, true)];
    assert_eq!(resolve("sequence", columns.clone()).unwrap().fields().len(), 2);
    let error = resolve("nexmark", columns).unwrap_err();
    assert!(matches!(error, Error::Invalid { code: "42703", .. }), "{error}");
    let error = resolve("sequence", vec![Field::new("k", DataType::Utf8, true)]).unwrap_err();
    assert!(matches!(error, Error::Invalid { code: "42804", .. }), "{error}");
}
