//! JSON of 200 B from a real broker (4 topic partitions, pre-filled) into a table: filter, HOP count,
//! TUMBLE max; and into another topic, exactly once with a snapshot every second: a projection.
//! Messages a CPU-second of our server; the broker's CPU is not counted. Flink and Hazelcast are not
//! run: Flink's figures are quoted. DuckDB must find the same rows, and a `read_committed` consumer
//! every message once, before a time counts.

use std::{path::PathBuf, process::Command, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use tidewater_bench::{
    Result,
    python::{Engine, Peer},
    report::{self, Line},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};

/// A workload: the job's table and query, the answer in DuckDB's SQL over `e(id, k, price, us)`, Flink's
/// messages a CPU-second.
struct Work {
    name: &'static str,
    table: &'static str,
    query: &'static str,
    columns: &'static str,
    answer: &'static str,
    flink: f64,
}

const WINDOWS: &str = "(k BIGINT, window_end TIMESTAMP, n BIGINT, PRIMARY KEY (k, window_end))";
const WINDOW_COLUMNS: &str = "{'k': 'BIGINT', 'window_end': 'TIMESTAMP', 'n': 'BIGINT'}";

const WORKS: [Work; 3] = [
    Work {
        name: "filter",
        table: "(id BIGINT PRIMARY KEY, price BIGINT)",
        query: "SELECT id, price FROM trades WHERE price < 100",
        columns: "{'id': 'BIGINT', 'price': 'BIGINT'}",
        answer: "SELECT id, price FROM e WHERE price < 100",
        flink: 425e3,
    },
    Work {
        name: "HOP 10 s / 2 s count per key",
        table: WINDOWS,
        query: "SELECT k, window_end, count(*) AS n FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '2' SECOND)) GROUP BY k, window_start, window_end",
        columns: WINDOW_COLUMNS,
        answer: "SELECT k, make_timestamp((us // 2000000 + step) * 2000000) AS window_end, count(*) AS n FROM e, range(1, 6) r(step) GROUP BY ALL",
        flink: 302e3,
    },
    Work {
        name: "TUMBLE 10 s max per key",
        table: WINDOWS,
        query: "SELECT k, window_end, max(price) AS n FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end",
        columns: WINDOW_COLUMNS,
        answer: "SELECT k, make_timestamp((us // 10000000 + 1) * 10000000) AS window_end, max(price) AS n FROM e GROUP BY ALL",
        flink: 378e3,
    },
];

/// The events of `fill` in DuckDB's SQL.
const EVENTS: &str = "CREATE TABLE e AS SELECT id, ((mixed >> 20) % 10000)::BIGINT AS k, ((mixed >> 40) % 10000)::BIGINT AS price, \
     (1700000000000 + id // 10) * 1000 AS us \
     FROM (SELECT id, ((id::HUGEINT * 11400714819323198485) % 18446744073709551616)::UBIGINT AS mixed FROM range({count}) r(id))";

/// A broker of the test recipe, stopped when dropped.
struct Broker {
    port: u16,
    folder: PathBuf,
}

impl Broker {
    fn start() -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let broker = Self {
            port,
            folder: std::env::temp_dir().join(format!("tidewater-bench-kafka-{port}")),
        };
        broker.tool(&["start"])?;
        Ok(broker)
    }

    fn tool(&self, arguments: &[&str]) -> Result<()> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../sql-tests/kafka/kafka");
        let status = Command::new(script)
            .args(arguments)
            .env("KAFKA_DIR", &self.folder)
            .env("KAFKA_PORT", self.port.to_string())
            .stdout(std::process::Stdio::null())
            .status()?;
        if status.success() { Ok(()) } else { Err(format!("kafka {arguments:?} failed").into()) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Best effort: the benchmark is over.
        let _ = self.tool(&["stop", "--kill"]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn main() -> Result<()> {
    let count = setting("EVENTS", 4_000_000);
    let broker = Broker::start()?;
    broker.tool(&["topic", "trades", "4"])?;
    fill(broker.port, count)?;
    let mut judge = Peer::start(Engine::DuckDb)?;
    judge.query(&EVENTS.replace("{count}", &count.to_string()))?;
    report::head(&format!("Kafka JSON, {count} messages of 200 B, 4 topic partitions"));
    for work in WORKS {
        let (ours, wire) = start(&broker)?;
        wire.run(&format!("CREATE TABLE t {}", work.table))?;
        let job = format!("CREATE JOB work AS SINK INTO t {}", work.query);
        let cpu = run_job(&ours, &wire, &job)?;
        let output = std::env::temp_dir().join(format!("tidewater-bench-{}.csv", broker.port));
        wire.copy_out("COPY (SELECT * FROM t) TO STDOUT (FORMAT csv)", &output)?;
        let same = judge.assert_same_rows(&output, work.columns, work.answer);
        std::fs::remove_file(&output)?;
        same.map_err(|error| format!("{}: {error}", work.name))?;
        report::line(&Line {
            work: work.name.to_owned(),
            ours: count as f64 / cpu,
            peer: Some((work.flink, "Flink, not run".to_owned())),
            unit: "msg/cpu-s",
            is_less_better: false,
            cpu_seconds: cpu,
            rss_bytes: ours.rss_bytes()?,
        });
        report::remark(&format!("{} rows in the table", wire.value("SELECT count(*) FROM t")?));
    }
    topic_to_topic(&broker, count)
}

/// A server that knows the topic.
fn start(broker: &Broker) -> Result<(Tidewater, Wire)> {
    let ours = Tidewater::start(None, &[])?;
    let wire = Wire::connect(ours.port)?;
    wire.run(&format!(
        "CREATE MAPPING trades (id BIGINT, k BIGINT, price BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) \
         TYPE Kafka OPTIONS ('bootstrap.servers' = '127.0.0.1:{}', 'valueFormat' = 'json-flat', \
         'auto.offset.reset' = 'earliest', 'end_offset' = 'latest', 'idle_timeout' = '60 s')",
        broker.port
    ))?;
    Ok((ours, wire))
}

/// Runs the job `work` to its end; the server's CPU-seconds.
fn run_job(ours: &Tidewater, wire: &Wire, create_job: &str) -> Result<f64> {
    let before = ours.cpu_seconds()?;
    wire.run(create_job)?;
    let over = "SELECT status IN ('COMPLETED', 'FAILED') FROM sys.jobs WHERE name = 'work'";
    wire.until_true(over, Duration::from_secs(300))?;
    let outcome = wire.value("SELECT status || coalesce(': ' || last_error, '') FROM sys.jobs")?;
    if outcome != "COMPLETED" {
        return Err(outcome.into());
    }
    Ok(ours.cpu_seconds()? - before)
}

/// A projection from the topic into another one, exactly once; every message must be there once.
fn topic_to_topic(broker: &Broker, count: u64) -> Result<()> {
    broker.tool(&["topic", "prices", "4"])?;
    let (ours, wire) = start(broker)?;
    wire.run(&format!(
        "CREATE MAPPING prices (id BIGINT, k BIGINT, price BIGINT, ts TIMESTAMP) TYPE Kafka \
         OPTIONS ('bootstrap.servers' = '127.0.0.1:{}', 'valueFormat' = 'json-flat')",
        broker.port
    ))?;
    let job = "CREATE JOB work OPTIONS ('processingGuarantee' = 'exactlyOnce', 'snapshotIntervalMillis' = '1000') \
               AS INSERT INTO prices SELECT id, k, price, ts FROM trades";
    let cpu = run_job(&ours, &wire, job)?;
    each_id_is_there_once(broker.port, "prices", count)?;
    report::line(&Line {
        work: "into a topic, exactly once".to_owned(),
        ours: count as f64 / cpu,
        peer: Some((152e3, "Flink, not run".to_owned())),
        unit: "msg/cpu-s",
        is_less_better: false,
        cpu_seconds: cpu,
        rss_bytes: ours.rss_bytes()?,
    });
    let snapshots = wire.value("SELECT coalesce(last_snapshot_id, 0) FROM sys.jobs")?;
    report::remark(&format!("every id once for a read_committed consumer; {snapshots} snapshots"));
    Ok(())
}

/// Reads a topic of four partitions to its end as a `read_committed` consumer does.
fn each_id_is_there_once(port: u16, topic: &str, count: u64) -> Result<()> {
    const PARTITIONS: i32 = 4;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", format!("127.0.0.1:{port}"))
        .set("group.id", "judge")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let mut is_there = vec![false; count as usize];
    let (mut found, mut ended) = (0, 0);
    while ended < PARTITIONS {
        let message = match consumer.poll(Duration::from_secs(30)) {
            Some(Ok(message)) => message,
            Some(Err(KafkaError::PartitionEOF(_))) => {
                ended += 1;
                continue;
            }
            Some(Err(error)) => return Err(error.into()),
            None => return Err(format!("topic {topic} does not end").into()),
        };
        let text = std::str::from_utf8(message.payload().ok_or("a message without a value")?)?;
        let id = text.split_once("\"id\":").and_then(|(_, rest)| rest.split([',', '}']).next());
        let id: usize = id.ok_or_else(|| format!("no id in {text}"))?.trim().parse()?;
        let seen = is_there.get_mut(id).ok_or_else(|| format!("id {id} was never sent"))?;
        if std::mem::replace(seen, true) {
            return Err(format!("id {id} is there twice").into());
        }
        found += 1;
    }
    if found == count { Ok(()) } else { Err(format!("{found} of {count} ids").into()) }
}

/// Sends JSON of about 200 B in order of event time, in turn to the four topic partitions.
fn fill(port: u16, count: u64) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", format!("127.0.0.1:{port}"))
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "500000")
        .create()?;
    for id in 0..count {
        let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (k, price, note) = ((mixed >> 20) % 10_000, (mixed >> 40) % 10_000, mixed % 1_000_000);
        let ts = 1_700_000_000_000 + id / 10;
        let payload = format!(
            "{{\"id\":{id},\"k\":{k},\"price\":{price},\"ts\":{ts},\"venue\":\"XETR\",\"note\":\"{note:0>80}\",\"flag\":true}}"
        );
        let partition = (id % 4) as i32;
        let mut record =
            BaseRecord::<(), String>::to("trades").partition(partition).payload(&payload);
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            record = back;
            producer.flush(Duration::from_millis(50)).ok();
        }
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}
