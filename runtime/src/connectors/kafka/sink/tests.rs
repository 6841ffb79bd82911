//! The sink on a simulated log, and librdkafka's half on its mock cluster, for calls and errors.
//! `exactly_once` is about transactions.

mod exactly_once;
pub mod simulated_log;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::array::{Int64Array, RecordBatch};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, Consumer},
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::RDKafkaRespErr,
};
use storage::{Grid, GridConfig, cluster::control::JobError, env::Env};

use self::simulated_log::SimulatedTopic;
use super::KafkaSinkSupplier;
use crate::{
    Result,
    connectors::kafka::{encoder::RowEncoder, settings::Settings},
    delta::{DeltaBatch, Weight},
    job::Guarantee,
    processor::{Done, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::StateWriter,
    testing::{self, bigint_batch, bigint_schema, verify_processor},
};

/// Of a transaction into the simulated topic.
const LIFETIME_NANOS: u64 = 1_000_000_000;
/// Calls that may answer `No` in a row.
const CALLS_MAX: usize = 10_000;

fn settings(servers: &str, options: &[(&str, &str)]) -> Settings {
    let mut all = BTreeMap::from([
        ("bootstrap.servers".to_owned(), servers.to_owned()),
        ("valueFormat".to_owned(), "varchar".to_owned()),
    ]);
    all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Settings::read("topic", &all).unwrap()
}

fn encoder(settings: &Settings) -> RowEncoder {
    RowEncoder::new(settings, &bigint_schema(&["this"]), &[None]).unwrap()
}

fn ids(ids: &[i64]) -> RecordBatch {
    bigint_batch(&bigint_schema(&["this"]), &[ids])
}

/// Sinks of one BIGINT column into a simulated topic.
pub fn supplier(topic: &Arc<SimulatedTopic>) -> KafkaSinkSupplier {
    let topic = Arc::clone(topic);
    let encoder = encoder(&settings("nowhere:1", &[]));
    KafkaSinkSupplier::of_log(encoder, Arc::new(move |id| Ok(topic.log(id))), LIFETIME_NANOS)
}

fn grid(seed: u64) -> Arc<Grid> {
    Grid::open(GridConfig::default(), Env::simulated(seed).0).unwrap()
}

fn feed(sink: &mut dyn Processor, inbox: &mut Inbox) -> Result<()> {
    sink.process(0, inbox, &mut Outbox::new(8))
}

/// Calls until `Yes`.
fn until_yes(mut call: impl FnMut() -> Result<Done>) -> Result<()> {
    for _ in 0..CALLS_MAX {
        if call()? == Done::Yes {
            return Ok(());
        }
    }
    panic!("it never says yes");
}

#[test]
fn rows_arrive_once_in_every_way_of_being_called() {
    let topic = SimulatedTopic::new(1);
    let seen = Arc::clone(&topic);
    let before = Mutex::new(0);
    verify_processor(Arc::new(supplier(&topic)))
        .rows(0, DeltaBatch::insertions(ids(&[1, 2, 3])))
        .watermark(1)
        .rows(0, DeltaBatch::insertions(ids(&[4])))
        .rows(0, DeltaBatch::insertions(ids(&[5, 6])))
        .expect(Vec::new())
        .after_each(move |mode| {
            let all = seen.committed();
            let mut before = before.lock();
            let new: Vec<_> = all[*before..].iter().map(String::as_str).collect();
            assert_eq!(new, ["1", "2", "3", "4", "5", "6"], "{mode}");
            *before = all.len();
        })
        .run();
}

#[test]
fn a_topic_cannot_take_rows_back() {
    let minus = |rows| DeltaBatch { rows, weight: Weight::MinusOne };
    let mixed = |rows, weights: &[i64]| DeltaBatch {
        rows,
        weight: Weight::Array(Int64Array::from(weights.to_vec())),
    };
    let topic = SimulatedTopic::new(1);
    let refuse = |batch| {
        verify_processor(Arc::new(supplier(&topic))).rows(0, batch).run_to_error().sqlstate()
    };
    assert_eq!(refuse(minus(ids(&[1]))), "0A000");
    assert_eq!(refuse(mixed(ids(&[1, 2]), &[1, -1])), "0A000");
    assert_eq!(topic.committed(), Vec::<String>::new());
    verify_processor(Arc::new(supplier(&topic)))
        .rows(0, mixed(ids(&[7, 8, 9]), &[2, 0, 1]))
        .after_each({
            let topic = Arc::clone(&topic);
            move |_| assert!(topic.committed().ends_with(&["7", "7", "9"].map(str::to_owned)))
        })
        .run();
}

#[test]
fn at_least_once_waits_for_the_broker_at_a_barrier() {
    let (topic, grid) = (SimulatedTopic::new(1), grid(1));
    let troubles: Arc<Mutex<Vec<Option<JobError>>>> = Arc::default();
    let told = Arc::clone(&troubles);
    let context = ProcessorContext {
        guarantee: Guarantee::AtLeastOnce,
        trouble: Arc::new(move |trouble| told.lock().push(trouble)),
        ..testing::context(&grid)
    };
    let mut sink = supplier(&topic).create(1).unwrap().remove(0);
    sink.init(&context).unwrap();
    let mut inbox = Inbox::default();
    inbox.push(DeltaBatch::insertions(ids(&[1])));
    feed(&mut *sink, &mut inbox).unwrap();
    topic.set_away(true);
    assert_eq!(sink.save(&mut StateWriter::new(1, false)).unwrap(), Done::No);
    assert_eq!(troubles.lock().len(), 1);
    assert_eq!(troubles.lock()[0].as_ref().unwrap().code, "08001");
    inbox.push(DeltaBatch::insertions(ids(&[2])));
    inbox.push(DeltaBatch::insertions(ids(&[3])));
    feed(&mut *sink, &mut inbox).unwrap();
    assert_eq!(inbox.len(), 1, "a full queue pushes back");
    topic.set_away(false);
    until_yes(|| {
        feed(&mut *sink, &mut inbox)?;
        sink.save(&mut StateWriter::new(2, false))
    })
    .unwrap();
    assert_eq!(troubles.lock().last(), Some(&None));
    until_yes(|| sink.complete(usize::MAX, &mut Outbox::new(1))).unwrap();
    assert_eq!(topic.committed(), ["1", "2", "3"]);
}

/// A mock broker, and a sink into its topic.
struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
    grid: Arc<Grid>,
    troubles: Arc<Mutex<Vec<Option<JobError>>>>,
}

impl Mock {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("topic", 1, 1).unwrap();
        let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
        Self { cluster, grid, troubles: Arc::default() }
    }

    fn sink(&self, guarantee: Guarantee, options: &[(&str, &str)]) -> Result<Box<dyn Processor>> {
        let settings = settings(&self.cluster.bootstrap_servers(), options);
        let encoder = encoder(&settings);
        let mut sink = KafkaSinkSupplier::new("m", settings, encoder).create(1)?.remove(0);
        let troubles = Arc::clone(&self.troubles);
        let trouble = Arc::new(move |trouble| troubles.lock().push(trouble));
        sink.init(&ProcessorContext { guarantee, trouble, ..testing::context(&self.grid) })?;
        Ok(sink)
    }

    /// The first values of the topic.
    fn read(&self, count: usize) -> Vec<String> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "reader")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset("topic", 0, rdkafka::Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let mut values = Vec::new();
        for _ in 0..CALLS_MAX {
            if values.len() == count {
                return values;
            }
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(10)) {
                let value = message.payload().unwrap_or_default().to_vec();
                values.push(String::from_utf8(value).unwrap());
            }
        }
        panic!("found only {values:?}");
    }
}

fn give(sink: &mut dyn Processor, rows: &[i64]) -> Result<()> {
    let mut inbox = Inbox::default();
    inbox.push(DeltaBatch::insertions(ids(rows)));
    until_yes(|| {
        feed(sink, &mut inbox)?;
        Ok(if inbox.is_empty() { Done::Yes } else { Done::No })
    })
}

#[test]
fn librdkafka_acknowledges_what_it_was_given() {
    let mock = Mock::new();
    let mut sink = mock.sink(Guarantee::AtLeastOnce, &[]).unwrap();
    give(&mut *sink, &[1, 2, 3]).unwrap();
    until_yes(|| sink.save(&mut StateWriter::new(1, false))).unwrap();
    assert_eq!(mock.read(3), ["1", "2", "3"]);
}

#[test]
fn librdkafka_commits_transactions_and_goes_on() {
    let mock = Mock::new();
    let mut sink = mock.sink(Guarantee::ExactlyOnce, &[]).unwrap();
    for snapshot in 1..=3 {
        give(&mut *sink, &[snapshot as i64]).unwrap();
        until_yes(|| sink.epoch(snapshot, &mut Outbox::new(1))).unwrap();
        let mut state = StateWriter::new(snapshot, false);
        until_yes(|| sink.save(&mut state)).unwrap();
        assert_eq!(state.chunks.len(), 2);
        until_yes(|| sink.committed(snapshot)).unwrap();
    }
    assert_eq!(mock.read(3), ["1", "2", "3"]);
}

#[test]
fn an_outage_is_told_and_waited_for() {
    let mock = Mock::new();
    let mut sink = mock.sink(Guarantee::AtLeastOnce, &[]).unwrap();
    give(&mut *sink, &[1]).unwrap();
    until_yes(|| sink.save(&mut StateWriter::new(1, false))).unwrap();
    mock.cluster.broker_down(1).unwrap();
    give(&mut *sink, &[2]).unwrap();
    until_yes(|| {
        assert_eq!(sink.save(&mut StateWriter::new(2, false))?, Done::No);
        Ok(if mock.troubles.lock().is_empty() { Done::No } else { Done::Yes })
    })
    .unwrap();
    assert_eq!(mock.troubles.lock()[0].as_ref().unwrap().code, "08001");
    mock.cluster.broker_up(1).unwrap();
    until_yes(|| sink.save(&mut StateWriter::new(2, false))).unwrap();
    assert_eq!(mock.troubles.lock().last(), Some(&None));
    assert_eq!(mock.read(2), ["1", "2"]);
}

#[test]
fn what_no_retry_will_cure_fails_with_its_sqlstate() {
    let mock = Mock::new();
    let mut sink = mock.sink(Guarantee::None, &[("message.max.bytes", "1000")]).unwrap();
    give(&mut *sink, &[1]).unwrap();
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    mock.cluster.request_errors(rdkafka::types::RDKafkaApiKey::Produce, &[denied]);
    let mut outcome = give(&mut *sink, &[2]);
    for _ in 0..CALLS_MAX {
        if outcome.is_err() {
            break;
        }
        outcome = sink.save(&mut StateWriter::new(1, false)).map(drop);
    }
    assert_eq!(outcome.unwrap_err().sqlstate(), "42501");
}
