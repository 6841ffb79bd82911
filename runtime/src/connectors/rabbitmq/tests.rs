//! The source on a queue in memory.

pub(crate) mod simulated_queue;

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::AsArray,
    datatypes::{DataType, Field, Int64Type, Schema},
};
use storage::{
    Grid, GridConfig,
    cluster::control::{ColumnRecord, MappingRecord, ObjectId, ObjectName},
    env::Env,
};

use self::simulated_queue::{QueueBroker, SimulatedQueue};
use super::*;
use crate::{
    item::{IDLE, Item},
    job::Guarantee,
    processor::{Done, Outbox, Processor, ProcessorContext},
    state::{StateChunk, StateWriter},
    testing,
    time::EventTimePolicy,
};

fn options(given: &[(&str, &str)]) -> BTreeMap<String, String> {
    let all = [("url", "amqp://broker"), ("valueFormat", "json-flat"), ("prefetch", "50")];
    all.iter().chain(given).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

fn request(
    grid: &Arc<Grid>,
    given: &[(&str, &str)],
    event_time: Option<EventTimePolicy>,
) -> SourceRequest {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let mapping = MappingRecord {
        id: ObjectId(1),
        name: ObjectName::public("m"),
        external_name: "q".to_owned(),
        connector: settings::NAME.to_owned(),
        options: options(given),
        columns: vec![ColumnRecord {
            name: "id".to_owned(),
            sql_type: "bigint".to_owned(),
            is_not_null: false,
            default_sql: None,
            external_name: None,
        }],
        schema,
        watermark: None,
    };
    SourceRequest {
        mapping: Arc::new(mapping),
        projection: vec![0],
        struct_fields: BTreeMap::new(),
        event_time,
        grid: Arc::clone(grid),
    }
}

/// A source over that queue.
pub(crate) fn supplier(
    queue: &Arc<SimulatedQueue>,
    grid: &Arc<Grid>,
    given: &[(&str, &str)],
    event_time: Option<EventTimePolicy>,
) -> Arc<dyn ProcessorSupplier> {
    let request = request(grid, given, event_time);
    let settings = Settings::read("q", &request.mapping.options).unwrap();
    let broker = Arc::new(QueueBroker(Arc::clone(queue)));
    source::source(settings, broker, &request).unwrap().supplier
}

struct Bench {
    grid: Arc<Grid>,
    queue: Arc<SimulatedQueue>,
    guarantee: Guarantee,
}

impl Bench {
    fn new(guarantee: Guarantee) -> Self {
        let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
        Self { grid, queue: SimulatedQueue::calm(1), guarantee }
    }

    fn begin(&self, given: &[(&str, &str)], saved: &[StateChunk]) -> Box<dyn Processor> {
        let mut source =
            supplier(&self.queue, &self.grid, given, None).create(1).unwrap().remove(0);
        let context =
            ProcessorContext { guarantee: self.guarantee, ..testing::context(&self.grid) };
        source.init(&context).unwrap();
        saved.iter().for_each(|chunk| source.restore(chunk).unwrap());
        source
    }
}

/// Calls a source until nothing comes; the ids of its rows.
fn run(source: &mut Box<dyn Processor>) -> Result<Vec<i64>> {
    let mut outbox = Outbox::stubborn();
    let mut ids = Vec::new();
    for _ in 0..200 {
        assert_eq!(source.idle(&mut outbox)?, Done::No);
        while let Some(item) = outbox.take() {
            let Item::Batch(batch) = item else { continue };
            ids.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
        }
    }
    Ok(ids)
}

fn save(source: &mut Box<dyn Processor>, snapshot: u64) -> Vec<StateChunk> {
    let mut writer = StateWriter { snapshot, ..StateWriter::default() };
    assert_eq!(source.save(&mut writer).unwrap(), Done::Yes);
    writer.chunks
}

#[test]
fn messages_are_acknowledged_when_the_snapshot_is_good_and_not_before() {
    let bench = Bench::new(Guarantee::ExactlyOnce);
    bench.queue.publish(0..10);
    let mut source = bench.begin(&[], &[]);
    assert_eq!(run(&mut source).unwrap().len(), 10);
    let saved = save(&mut source, 1);
    assert!(source.awaits_commit());
    assert_eq!(bench.queue.left(), 10);
    assert_eq!(source.committed(1).unwrap(), Done::Yes);
    run(&mut source).unwrap();
    assert_eq!(bench.queue.left(), 0);
    assert!(!source.awaits_commit());
    assert!(!saved.is_empty() && save(&mut source, 2).is_empty(), "they are forgotten");
}

#[test]
fn what_a_restored_snapshot_covers_is_no_row_again() {
    let bench = Bench::new(Guarantee::ExactlyOnce);
    bench.queue.publish(0..10);
    let mut source = bench.begin(&[], &[]);
    run(&mut source).unwrap();
    let saved = save(&mut source, 1);
    bench.queue.publish(10..15);
    assert_eq!(run(&mut source).unwrap().len(), 5);
    drop(source);
    let mut next = bench.begin(&[], &saved);
    let mut ids = run(&mut next).unwrap();
    ids.sort_unstable();
    assert_eq!(ids, [10, 11, 12, 13, 14]);
    let saved = save(&mut next, 2);
    assert_eq!(next.committed(2).unwrap(), Done::Yes);
    run(&mut next).unwrap();
    assert_eq!(bench.queue.left(), 0);
    assert_eq!(saved.iter().map(|chunk| chunk.rows.num_rows()).sum::<usize>(), 15);
}

#[test]
fn without_ids_a_message_needs_another_guarantee() {
    let bench = Bench::new(Guarantee::ExactlyOnce);
    bench.queue.publish_without_id("{\"id\":1}");
    let error = run(&mut bench.begin(&[], &[])).unwrap_err();
    assert_eq!(error.sqlstate(), "22023");
    assert!(error.to_string().contains("'atLeastOnce'"), "{error}");
    let lenient = Bench { guarantee: Guarantee::AtLeastOnce, ..bench };
    let mut source = lenient.begin(&[], &[]);
    assert_eq!(run(&mut source).unwrap(), [1]);
    save(&mut source, 1);
    assert_eq!(lenient.queue.left(), 1);
    assert_eq!(source.committed(1).unwrap(), Done::Yes);
    run(&mut source).unwrap();
    assert_eq!(lenient.queue.left(), 0);
}

#[test]
fn without_a_guarantee_messages_go_with_their_rows() {
    let bench = Bench::new(Guarantee::None);
    bench.queue.publish(0..200);
    let mut source = bench.begin(&[], &[]);
    assert_eq!(run(&mut source).unwrap().len(), 200, "more than the prefetch");
    assert_eq!(bench.queue.left(), 0);
    assert!(!source.awaits_commit());
}

#[test]
fn poison_is_named_by_its_id_or_skipped() {
    let bench = Bench::new(Guarantee::ExactlyOnce);
    bench.queue.publish(0..1);
    bench.queue.publish_as("bad", "{\"id\":\"x\"}");
    let error = run(&mut bench.begin(&[], &[])).unwrap_err();
    assert_eq!(error.sqlstate(), "22P02");
    assert!(error.to_string().contains("message \"bad\" of queue \"q\""), "{error}");
    let mut source = bench.begin(&[("on_error", "skip")], &[]);
    assert_eq!(run(&mut source).unwrap(), [0]);
    save(&mut source, 1);
    assert_eq!(source.committed(1).unwrap(), Done::Yes);
    run(&mut source).unwrap();
    assert_eq!(bench.queue.left(), 0, "what is skipped is acknowledged as well");
}

#[test]
fn time_follows_the_rows_and_rests_when_none_come() {
    let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
    let queue = SimulatedQueue::calm(1);
    queue.publish(1..9);
    let policy = EventTimePolicy { time_column: 0, lag: 2, idle_timeout: 60_000, max_future: None };
    let mut source = supplier(&queue, &grid, &[], Some(policy)).create(1).unwrap().remove(0);
    source.init(&testing::context(&grid)).unwrap();
    let mut outbox = Outbox::stubborn();
    let mut times = Vec::new();
    for _ in 0..5_000 {
        assert_eq!(source.idle(&mut outbox).unwrap(), Done::No);
        while let Some(item) = outbox.take() {
            if let Item::Watermark(watermark) = item {
                times.push(watermark.time);
            }
        }
        if times.last() == Some(&IDLE) {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
    assert_eq!(times.last(), Some(&IDLE), "{times:?}");
    assert_eq!(times[times.len() - 2], 6, "the newest less the lag: {times:?}");
}

#[test]
fn a_mapping_says_what_it_needs() {
    let resolve = |given: &[(&str, &str)], schema| {
        RabbitMq.resolve(&MappingRequest {
            external_name: "q".to_owned(),
            options: options(given),
            schema,
            external_columns: Vec::new(),
        })
    };
    assert_eq!(resolve(&[], None).unwrap_err().sqlstate(), "42601");
    let raw = resolve(&[("valueFormat", "raw")], None).unwrap();
    assert_eq!(raw.field(0).data_type(), &DataType::Binary);
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let list = Arc::new(Schema::new(vec![Field::new("l", list, true)]));
    assert_eq!(resolve(&[], Some(list)).unwrap_err().sqlstate(), "0A000");
}
