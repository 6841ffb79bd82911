//! The broker behind `$KAFKA`: librdkafka's mock cluster, inside the test's own process.
//! Made on first use; it speaks the real protocol on a loopback port.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

/// How long messages may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// A mock broker and a producer to it.
pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Broker {
    /// Starts one broker.
    pub fn start() -> Result<Self, String> {
        let cluster = MockCluster::new(1).map_err(|error| error.to_string())?;
        let producer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("linger.ms", "0")
            .create()
            .map_err(|error| error.to_string())?;
        Ok(Self { cluster, producer })
    }

    /// `host:port` of the broker.
    pub fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Makes a topic.
    pub fn create_topic(&self, topic: &str, partition_count: i32) -> Result<(), String> {
        self.cluster.create_topic(topic, partition_count, 1).map_err(|error| error.to_string())
    }

    /// Sends payloads in order to one topic partition and waits until they are acknowledged.
    pub fn send(&self, topic: &str, partition: i32, payloads: &[String]) -> Result<(), String> {
        for payload in payloads {
            let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(payload);
            self.producer.send(record).map_err(|(error, _)| error.to_string())?;
        }
        self.producer.flush(FLUSH_TIMEOUT).map_err(|error| error.to_string())
    }

    /// Stops answering.
    pub fn set_down(&self) -> Result<(), String> {
        self.cluster.broker_down(1).map_err(|error| error.to_string())
    }

    /// Answers again.
    pub fn set_up(&self) -> Result<(), String> {
        self.cluster.broker_up(1).map_err(|error| error.to_string())
    }
}
