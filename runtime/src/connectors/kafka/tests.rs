//! Tests of the Kafka source on librdkafka's mock cluster.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Field, Int64Type, Schema, TimeUnit},
};
use parking_lot::{Condvar, Mutex};
use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer},
};
use storage::{
    Grid, GridConfig,
    cluster::control::{ColumnRecord, JobError, ObjectId, ObjectName},
    env::Env,
};

use super::*;
use crate::{
    Error,
    item::{IDLE, Item},
    processor::{Done, Outbox, Processor, ProcessorContext},
    state::{StateChunk, StateWriter},
    testing,
    time::EventTimePolicy,
};

const TOPIC: &str = "trades";
/// A test waits so long for the broker at most, in waits of `WAIT`.
const WAITS_MAX: usize = 3_000;
const WAIT: Duration = Duration::from_millis(10);

/// A mock broker with a topic, and a member that reads it.
struct Bench {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    grid: Arc<Grid>,
    /// Signalled by wakes.
    bell: Arc<(Mutex<bool>, Condvar)>,
    troubles: Arc<Mutex<Vec<Option<JobError>>>>,
}

impl Bench {
    fn new(partitions: i32) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, partitions, 1).unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("linger.ms", "0")
            .create()
            .unwrap();
        let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
        let (bell, troubles) = Default::default();
        Self { cluster, producer, grid, bell, troubles }
    }

    fn produce(&self, partition: i32, values: &[String]) {
        for value in values {
            let record = BaseRecord::<str, str>::to(TOPIC).partition(partition).payload(value);
            let record = record.key("k");
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(Duration::from_secs(10)).unwrap();
    }

    fn source(&self, options: &[(&str, &str)], event_time: Option<EventTimePolicy>) -> Source {
        let mut all = BTreeMap::from([
            ("bootstrap.servers".to_owned(), self.cluster.bootstrap_servers()),
            ("valueFormat".to_owned(), "json-flat".to_owned()),
        ]);
        all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        source(&self.grid, all, event_time).unwrap()
    }

    fn begin(&self, source: &Source, parallelism: usize) -> Result<Vec<Box<dyn Processor>>> {
        let mut processors = source.supplier.create(parallelism)?;
        for (index, processor) in processors.iter_mut().enumerate() {
            let (bell, troubles) = (Arc::clone(&self.bell), Arc::clone(&self.troubles));
            let context = ProcessorContext {
                index,
                parallelism,
                wake: Arc::new(move || {
                    *bell.0.lock() = true;
                    bell.1.notify_all();
                }),
                trouble: Arc::new(move |trouble| troubles.lock().push(trouble)),
                ..testing::context(&self.grid)
            };
            processor.init(&context)?;
        }
        Ok(processors)
    }

    /// Calls all instances until `is_enough`, or until all are exhausted.
    fn run(
        &self,
        processors: &mut [Box<dyn Processor>],
        output: &mut Output,
        mut is_enough: impl FnMut(&Output) -> bool,
    ) -> Result<()> {
        let mut outbox = Outbox::stubborn();
        for _ in 0..WAITS_MAX {
            let mut exhausted = 0;
            let before = output.ids.len();
            for processor in processors.iter_mut() {
                exhausted += usize::from(processor.idle(&mut outbox)? == Done::Yes);
                output.take(&mut outbox);
            }
            if exhausted == processors.len() || is_enough(output) {
                return Ok(());
            }
            if output.ids.len() == before {
                let mut has_rung = self.bell.0.lock();
                if !std::mem::take(&mut *has_rung) {
                    self.bell.1.wait_for(&mut has_rung, WAIT);
                }
            }
        }
        panic!("waited too long; so far {output:?}");
    }
}

fn columns() -> Arc<Schema> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("ts", time, true),
    ]))
}

fn source(
    grid: &Arc<Grid>,
    options: BTreeMap<String, String>,
    event_time: Option<EventTimePolicy>,
) -> Result<Source> {
    let schema = columns();
    let record = |field: &Arc<Field>| ColumnRecord {
        name: field.name().clone(),
        sql_type: String::new(),
        is_not_null: false,
        default_sql: None,
        external_name: None,
    };
    let request = MappingRequest {
        external_name: TOPIC.to_owned(),
        options: options.clone(),
        schema: Some(Arc::clone(&schema)),
        external_columns: vec![None; 3],
    };
    assert_eq!(Kafka.resolve(&request)?, schema);
    let mapping = Arc::new(MappingRecord {
        id: ObjectId(1),
        name: ObjectName::public("trades"),
        external_name: TOPIC.to_owned(),
        connector: "Kafka".to_owned(),
        options,
        columns: schema.fields().iter().map(record).collect(),
        schema,
        watermark: None,
    });
    let request = SourceRequest {
        mapping,
        projection: vec![2, 0],
        struct_fields: BTreeMap::new(),
        event_time,
        grid: Arc::clone(grid),
    };
    Ok(Kafka.source(&request)?.unwrap())
}

#[derive(Debug, Default)]
struct Output {
    ids: Vec<i64>,
    watermarks: Vec<i64>,
}

impl Output {
    fn take(&mut self, outbox: &mut Outbox) {
        while let Some(item) = outbox.take() {
            match item {
                Item::Batch(batch) => self.ids.extend(ids(&batch.rows)),
                Item::Watermark(watermark) => self.watermarks.push(watermark.time),
                other => panic!("{other:?}"),
            }
        }
    }

    fn sorted(mut self) -> Vec<i64> {
        self.ids.sort_unstable();
        self.ids
    }
}

fn ids(rows: &RecordBatch) -> Vec<i64> {
    assert_eq!(rows.column(0).null_count(), 0);
    rows.column(1).as_primitive::<Int64Type>().values().to_vec()
}

fn message(id: i64) -> String {
    format!(r#"{{"name":"n{id}","id":{id},"other":[{id}],"ts":{id}}}"#)
}

fn messages(ids: impl IntoIterator<Item = i64>) -> Vec<String> {
    ids.into_iter().map(message).collect()
}

const BOUNDED: [(&str, &str); 2] = [("auto.offset.reset", "earliest"), ("end_offset", "latest")];

#[test]
fn a_bounded_read_gives_every_message_once_whatever_the_parallelism() {
    let bench = Bench::new(4);
    // Topic partition 3 is silent.
    for partition in 0..3 {
        bench.produce(partition, &messages((0..5000).map(|n| n * 3 + i64::from(partition))));
    }
    let source = bench.source(&BOUNDED, None);
    assert!(source.is_bounded);
    for parallelism in [1, 2, 5] {
        let mut output = Output::default();
        let mut processors = bench.begin(&source, parallelism).unwrap();
        bench.run(&mut processors, &mut output, |_| false).unwrap();
        assert_eq!(output.sorted(), (0..15_000).collect::<Vec<_>>(), "{parallelism}");
    }
}

#[test]
fn end_offsets_are_exclusive_and_unnamed_topic_partitions_are_not_read() {
    let bench = Bench::new(3);
    for partition in 0..3 {
        bench.produce(partition, &messages((0..10).map(|n| n + 10 * i64::from(partition))));
    }
    let options = [("auto.offset.reset", "earliest"), ("end_offset", "0:3, 2:1")];
    let source = bench.source(&options, None);
    let mut output = Output::default();
    let mut processors = bench.begin(&source, 1).unwrap();
    bench.run(&mut processors, &mut output, |_| false).unwrap();
    assert_eq!(output.sorted(), [0, 1, 2, 20]);
}

#[test]
fn poison_is_skipped_and_counted_or_fails_naming_its_place() {
    let bench = Bench::new(1);
    let poison = [r#"{"id":"x"}"#, "not json", r#"{"id":1e30}"#].map(str::to_owned);
    bench.produce(0, &messages([1, 2]));
    bench.produce(0, &poison);
    bench.produce(0, &messages([3]));

    let mut options = BOUNDED.to_vec();
    options.push(("on_error", "skip"));
    let mut output = Output::default();
    let mut processors = bench.begin(&bench.source(&options, None), 1).unwrap();
    bench.run(&mut processors, &mut output, |_| false).unwrap();
    assert_eq!(output.sorted(), [1, 2, 3]);
    let metrics = bench.grid.metrics().list();
    let skipped = metrics.iter().find(|(name, ..)| name == "tidewater_skipped_rows_total");
    assert_eq!(skipped.map(|(_, _, value)| *value), Some(3), "{metrics:?}");

    let mut processors = bench.begin(&bench.source(&BOUNDED, None), 1).unwrap();
    let error = bench.run(&mut processors, &mut Output::default(), |_| false).unwrap_err();
    let Error::User { code: "22P02", message } = error else { panic!("{error:?}") };
    for part in ["\"trades\"", "partition 0", "offset 2", "\"id\"", "\"x\""] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_restart_goes_on_where_the_saved_offsets_say() {
    // More than one round of reading can take, so that the stop falls in the middle.
    const COUNT: i64 = 30_000;
    let bench = Bench::new(3);
    for partition in 0..3 {
        bench.produce(partition, &messages((0..COUNT).map(|n| n * 3 + i64::from(partition))));
    }
    let source = bench.source(&BOUNDED, None);
    let mut output = Output::default();
    let mut processors = bench.begin(&source, 2).unwrap();
    bench.run(&mut processors, &mut output, |output| !output.ids.is_empty()).unwrap();
    let mut chunks: Vec<StateChunk> = Vec::new();
    for processor in &mut processors {
        let mut outbox = Outbox::stubborn();
        while processor.epoch(1, &mut outbox).unwrap() == Done::No {
            output.take(&mut outbox);
        }
        output.take(&mut outbox);
        let mut state = StateWriter::default();
        assert_eq!(processor.save(&mut state).unwrap(), Done::Yes);
        chunks.extend(state.chunks);
    }
    drop(processors);
    assert!(output.ids.len() < 3 * COUNT as usize, "there must be something left to read");
    // What is produced after the first start is beyond its end, also for the second.
    bench.produce(0, &messages([-1]));
    let mut processors = bench.begin(&source, 3).unwrap();
    for processor in &mut processors {
        chunks.iter().for_each(|chunk| processor.restore(chunk).unwrap());
    }
    bench.run(&mut processors, &mut output, |_| false).unwrap();
    assert_eq!(output.sorted(), (0..3 * COUNT).collect::<Vec<_>>());
}

#[test]
fn a_stream_begins_at_the_latest_offsets_and_outlives_its_broker() {
    let bench = Bench::new(2);
    bench.produce(0, &messages([1, 2, 3]));
    let policy =
        EventTimePolicy { time_column: 0, lag: 0, idle_timeout: 200_000, max_future: None };
    let source = bench.source(&[], Some(policy));
    assert!(!source.is_bounded);
    let mut output = Output::default();
    let mut processors = bench.begin(&source, 1).unwrap();
    bench.produce(0, &messages([4, 5]));
    bench.run(&mut processors, &mut output, |output| output.ids == [4, 5]).unwrap();
    // Topic partition 1 is silent: after a while time goes on without it, and then all is idle.
    bench.run(&mut processors, &mut output, |output| output.watermarks.len() == 2).unwrap();
    assert_eq!(output.watermarks, [5_000, IDLE]);

    bench.produce(0, &messages([6]));
    bench.run(&mut processors, &mut output, |output| output.ids.ends_with(&[6])).unwrap();
    bench.cluster.broker_down(1).unwrap();
    let troubles = Arc::clone(&bench.troubles);
    let is_away = |_: &Output| matches!(troubles.lock().last(), Some(Some(_)));
    bench.run(&mut processors, &mut output, is_away).unwrap();
    let told = output.watermarks.len();
    let mut calls = 0;
    let mut a_while = |_: &Output| {
        calls += 1;
        calls > 60
    };
    bench.run(&mut processors, &mut output, &mut a_while).unwrap();
    let idle = output.watermarks[told..].iter().filter(|time| **time == IDLE).count();
    assert_eq!(idle, 0, "an outage is not silence");

    bench.cluster.broker_up(1).unwrap();
    bench.produce(1, &messages([7]));
    bench.run(&mut processors, &mut output, |output| output.ids.ends_with(&[7])).unwrap();
    let is_over = |_: &Output| matches!(troubles.lock().last(), Some(None));
    bench.run(&mut processors, &mut output, is_over).unwrap();
    assert_eq!(output.sorted(), [4, 5, 6, 7]);
}

#[test]
fn after_a_silence_of_all_the_first_to_speak_makes_nobody_late() {
    let bench = Bench::new(3);
    let policy =
        EventTimePolicy { time_column: 0, lag: 0, idle_timeout: 500_000, max_future: None };
    let source = bench.source(&[], Some(policy));
    let mut output = Output::default();
    let mut processors = bench.begin(&source, 2).unwrap();
    bench.run(&mut processors, &mut output, |output| output.watermarks.len() == 2).unwrap();
    assert_eq!(output.watermarks, [IDLE, IDLE], "one an instance");

    bench.produce(0, &messages([100]));
    bench.run(&mut processors, &mut output, |output| output.ids == [100]).unwrap();
    bench.produce(1, &messages([50]));
    let times = |output: &Output| {
        let moved = |time: &&i64| **time != IDLE && **time != i64::MIN;
        output.watermarks.iter().filter(moved).copied().collect::<Vec<i64>>()
    };
    bench.run(&mut processors, &mut output, |output| times(output).len() >= 2).unwrap();
    assert_eq!(output.ids, [100, 50]);
    assert_eq!(times(&output)[0], 50_000, "topic partition 2 is left out, 1 no longer");
}

#[test]
fn a_bounded_read_without_a_broker_fails_at_once_with_08001() {
    let bench = Bench::new(1);
    // Nothing listens on port 1 of the loopback.
    let servers = [("bootstrap.servers", "127.0.0.1:1")];
    let options: Vec<_> = BOUNDED.into_iter().chain(servers).collect();
    let source = bench.source(&options, None);
    let clock = Arc::clone(&bench.grid.env().clock);
    let start = clock.monotonic_nanos();
    let Err(Error::Connection(message)) = bench.begin(&source, 1) else { panic!("it began") };
    assert!(message.contains("127.0.0.1:1"), "{message}");
    let elapsed = clock.monotonic_nanos() - start;
    assert!(elapsed < 1_000_000_000, "{elapsed} ns");
}

#[test]
fn a_topic_that_does_not_exist_fails_by_name() {
    let cluster: MockCluster<_> = MockCluster::new(1).unwrap();
    let bench = Bench { cluster, ..Bench::new(1) };
    bench
        .cluster
        .topic_error(TOPIC, rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    let source = bench.source(&BOUNDED, None);
    let error = bench.begin(&source, 1).err();
    let Some(Error::User { code: "42P01", message }) = error else { panic!("{error:?}") };
    assert!(message.contains("\"trades\""), "{message}");
}

#[test]
fn wrong_options_are_refused_by_name_without_a_broker() {
    let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
    let good = [("bootstrap.servers", "127.0.0.1:1"), ("valueFormat", "json-flat")];
    for (name, value, code, word) in [
        ("bootstrap.server", "x", "22023", "\"bootstrap.server\""),
        ("fetch.wait.max.ms", "soon", "22023", "\"fetch.wait.max.ms\""),
        ("auto.offset.reset", "newest", "22023", "'earliest'"),
        ("group.id", "mine", "22023", "consumer group"),
        ("end_offset", "0:x", "22023", "partition:offset"),
        ("end_offset", "0:1,0:2", "22023", "once"),
        ("on_error", "poison_table", "0A000", "poison_table"),
        ("valueFormat", "avro", "0A000", "avro"),
        ("valueFormat", "jsn", "22023", "'json-flat'"),
        ("keyFormat", "csv", "22023", "keyFormat"),
        ("header", "true", "22023", "csv"),
        ("valueFormat", "raw", "42703", "one value"),
    ] {
        let mut options: BTreeMap<String, String> =
            good.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        options.insert(name.to_owned(), value.to_owned());
        match source(&grid, options, None).err() {
            Some(Error::Invalid { code: found, message }) => {
                assert_eq!(found, code, "{message}");
                assert!(message.contains(word), "{message}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
