//! `Settings`: the OPTIONS of a Kafka mapping, validated without contacting a broker. Options that
//! are not ours are librdkafka's, by their own names, and checked by it.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{config::ClientConfig, error::KafkaError};

use crate::{
    Error, Result,
    connectors::options::{EVENT_TIME_OPTIONS, OnError, Options, quoted},
    decode::{csv::Header, format::Format, whole::WholeFormat},
};

/// TYPE as users write it.
pub const NAME: &str = "Kafka";

const OWN: [&str; 7] = [
    "valueFormat",
    "keyFormat",
    "auto.offset.reset",
    "end_offset",
    "on_error",
    "header",
    "preferredLocalParallelism",
];
const FORMATS: [&str; 9] =
    ["json-flat", "json", "csv", "raw", "varchar", "text", "int", "integer", "bigint"];

/// Properties of librdkafka that the source sets itself, and why.
const RESERVED: [(&str, &str); 9] = [
    ("group.id", "a mapping joins no consumer group; offsets are part of the job's state"),
    ("enable.auto.commit", "offsets are part of the job's state"),
    ("enable.auto.offset.store", "offsets are part of the job's state"),
    ("enable.partition.eof", "it is always on"),
    ("statistics.interval.ms", "statistics are not shown"),
    ("transactional.id", "it belongs to the job, and to each of its sinks"),
    ("enable.idempotence", "it is always on"),
    ("acks", "all replicas acknowledge what is written"),
    ("delivery.report.only.error", "it is always on"),
];

/// What the sink asks of librdkafka unless the mapping says otherwise.
const PRODUCER_DEFAULTS: [(&str, &str); 11] = [
    ("client.id", "tidewater"),
    // Bytes and messages waiting in memory, for each instance: a full queue pushes back.
    ("queue.buffering.max.kbytes", "32768"),
    ("queue.buffering.max.messages", "1000000"),
    ("linger.ms", "5"),
    ("batch.size", "1000000"),
    // Keys lie where Kafka's own clients put them.
    ("partitioner", "murmur2_random"),
    ("socket.nagle.disable", "true"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("allow.auto.create.topics", "false"),
    ("topic.metadata.propagation.max.ms", "5000"),
];

/// What the source asks of librdkafka unless the mapping says otherwise.
const DEFAULTS: [(&str, &str); 8] = [
    ("client.id", "tidewater"),
    // Bytes waiting in memory, for each topic partition.
    ("queued.max.messages.kbytes", "16384"),
    // A topic partition that filled its queue is fetched again so soon after there is room.
    ("fetch.queue.backoff.ms", "2"),
    ("fetch.error.backoff.ms", "50"),
    ("socket.nagle.disable", "true"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("allow.auto.create.topics", "false"),
];

/// The broker aborts a transaction that is open for longer: so long wait readers of committed rows at
/// most for a member that died and did not come back. Kafka's own limit is 15 minutes.
const TRANSACTION_TIMEOUT_MS: u64 = 300_000;
/// Less than this no snapshot can be waited for.
const TRANSACTION_TIMEOUT_MS_MIN: u64 = 10_000;

/// Where a topic partition is read from when the execution is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOffset {
    /// The oldest record.
    Earliest,
    /// What is produced from now on.
    Latest,
}

/// Where reading ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndOffset {
    /// Never.
    Unbounded,
    /// At the end as it is when the execution starts.
    Latest,
    /// Before these offsets; other topic partitions are not read.
    Explicit(BTreeMap<i32, i64>),
}

/// The options.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Topic name.
    pub topic: String,
    /// `bootstrap.servers`.
    pub servers: String,
    /// Encoding of values.
    pub value_format: Format,
    /// Encoding of keys, if they are read.
    pub key_format: Option<Format>,
    /// Whether a CSV message begins with a header.
    pub header: Header,
    /// Where to begin.
    pub start: StartOffset,
    /// Where to end.
    pub end: EndOffset,
    /// What to do about poison.
    pub on_error: OnError,
    /// Instances on each member.
    pub parallelism: Option<usize>,
    /// Properties for librdkafka's consumer.
    pub client: ClientConfig,
    /// How long the broker lets a transaction be open.
    pub transaction_timeout: Duration,
    /// Properties for its producer.
    pub producer: ClientConfig,
}

impl Settings {
    /// Reads and validates OPTIONS of a mapping on `topic`.
    pub fn read(topic: &str, values: &BTreeMap<String, String>) -> Result<Self> {
        let options = Options::new(NAME, values);
        let Some(servers) = options.get("bootstrap.servers").filter(|value| !value.is_empty())
        else {
            return Err(options.missing("bootstrap.servers", "host:port, or several with commas"));
        };
        let Some(value_format) = options.get("valueFormat") else {
            return Err(options.missing("valueFormat", &format!("one of {}", quoted(&FORMATS))));
        };
        let value_format = format(&options, "valueFormat", value_format)?;
        let key_format = match options.get("keyFormat") {
            None => None,
            Some(name) => Some(format(&options, "keyFormat", name)?),
        };
        if key_format == Some(Format::Csv) {
            return Err(options.wrong("keyFormat", "csv", "a format of one value, or 'json-flat'"));
        }
        let has_header = options.boolean("header", false)?;
        if has_header && value_format != Format::Csv {
            return Err(options.wrong("header", "true", "it only with 'valueFormat'='csv'"));
        }
        let parallelism = match options.get("preferredLocalParallelism") {
            None => None,
            Some(_) => Some(options.number("preferredLocalParallelism", 1, 1)?.min(1024) as usize),
        };
        Ok(Self {
            topic: topic_name(topic)?,
            servers: servers.to_owned(),
            value_format,
            key_format,
            header: if has_header { Header::OfMessage } else { Header::None },
            start: start_offset(&options)?,
            end: end_offset(&options)?,
            on_error: options.on_error()?,
            parallelism,
            client: client_config(values)?,
            transaction_timeout: Duration::from_millis(options.number(
                "transaction.timeout.ms",
                TRANSACTION_TIMEOUT_MS_MIN,
                TRANSACTION_TIMEOUT_MS,
            )?),
            producer: producer_config(values),
        })
    }
}

fn format(options: &Options, option: &str, name: &str) -> Result<Format> {
    Ok(match name {
        "json-flat" => Format::JsonFlat,
        "csv" => Format::Csv,
        "json" => Format::Whole(WholeFormat::Json),
        "raw" => Format::Whole(WholeFormat::Raw),
        "varchar" | "text" => Format::Whole(WholeFormat::Varchar),
        "int" | "integer" => Format::Whole(WholeFormat::Integer),
        "bigint" => Format::Whole(WholeFormat::Bigint),
        "avro" | "java" | "protobuf" | "parquet" => {
            return Err(Error::Invalid {
                code: "0A000",
                message: format!("{option} '{name}' is not supported"),
            });
        }
        _ => return Err(options.wrong(option, name, &format!("one of {}", quoted(&FORMATS)))),
    })
}

/// Kafka's own rule for topic names.
fn topic_name(topic: &str) -> Result<String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || !topic.chars().all(is_legal) {
        return Err(Error::Invalid {
            code: "42602",
            message: format!("invalid topic name \"{topic}\"; set EXTERNAL NAME"),
        });
    }
    Ok(topic.to_owned())
}

fn start_offset(options: &Options) -> Result<StartOffset> {
    match options.get("auto.offset.reset") {
        None | Some("latest" | "largest" | "end") => Ok(StartOffset::Latest),
        Some("earliest" | "smallest" | "beginning") => Ok(StartOffset::Earliest),
        Some(other) => Err(options.wrong("auto.offset.reset", other, "'earliest' or 'latest'")),
    }
}

fn end_offset(options: &Options) -> Result<EndOffset> {
    let Some(text) = options.get("end_offset") else { return Ok(EndOffset::Unbounded) };
    if text == "latest" {
        return Ok(EndOffset::Latest);
    }
    let mut offsets = BTreeMap::new();
    for pair in text.split(',') {
        let parsed = pair.trim().split_once(':').and_then(|(partition, offset)| {
            Some((partition.parse::<i32>().ok()?, offset.parse::<i64>().ok()?))
        });
        match parsed {
            Some((partition, offset)) if partition >= 0 && offset >= 0 => {
                if offsets.insert(partition, offset).is_some() {
                    let expected = "each topic partition once";
                    return Err(options.wrong("end_offset", text, expected));
                }
            }
            _ => {
                let expected = "'latest' or 'partition:offset,…'";
                return Err(options.wrong("end_offset", text, expected));
            }
        }
    }
    Ok(EndOffset::Explicit(offsets))
}

/// Properties for librdkafka: our defaults, then the mapping's, then what must be.
fn client_config(values: &BTreeMap<String, String>) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    for (name, value) in DEFAULTS {
        config.set(name, value);
    }
    for (name, value) in values {
        if OWN.contains(&name.as_str()) || EVENT_TIME_OPTIONS.contains(&name.as_str()) {
            continue;
        }
        if let Some((_, reason)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
            return Err(Error::Invalid {
                code: "22023",
                message: format!("option \"{name}\" cannot be set: {reason}"),
            });
        }
        config.set(name, value);
    }
    config.set("enable.partition.eof", "true");
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    // An offset out of range is an error, never a silent jump.
    config.set("auto.offset.reset", "error");
    config.create_native_config().map_err(|error| match error {
        KafkaError::ClientConfig(_, reason, name, value) => Error::Invalid {
            code: "22023",
            message: match reason.starts_with("No such") {
                true => format!("unknown option \"{name}\" for a mapping of type {NAME}"),
                false => format!("invalid value \"{value}\" for option \"{name}\": {reason}"),
            },
        },
        other => Error::Invalid { code: "22023", message: other.to_string() },
    })?;
    Ok(config)
}

/// Properties for a producer, of values that [`client_config`] has found good.
fn producer_config(values: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in PRODUCER_DEFAULTS {
        config.set(name, value);
    }
    let is_own = |name: &str| OWN.contains(&name) || EVENT_TIME_OPTIONS.contains(&name);
    for (name, value) in values.iter().filter(|(name, _)| !is_own(name)) {
        config.set(name, value);
    }
    config.set("enable.idempotence", "true");
    // What is acknowledged is counted, only what is not is told of.
    config.set("delivery.report.only.error", "true");
    config
}
