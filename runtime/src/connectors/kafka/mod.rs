//! `TYPE Kafka`: topics as sources and sinks. Topic partitions are assigned to instances by us, offsets
//! are the state of the source; no consumer group is joined.
//!
//! ```text
//!   librdkafka's own threads         supervisor thread             worker threads
//!   fetch → one queue an instance    metadata, offsets, outages    KafkaSource::idle
//!                │  ▲ bounded bytes          │                          │
//!                └──┼── TopicQueue::drain ───┼──────────────────────────┘ decodes in place
//!                   └─ wake on the first message
//! ```
//! [`link`] is what the instances of one execution share: the client, its supervisor, the topic
//! partitions with their first and last offsets. [`batch`] is the only file with `unsafe`.
//!
//! The way out is [`sink`]: [`encoder`] writes what [`format`] reads, [`topic_log`] is the seam to
//! librdkafka's [`producer`], [`transactions`] tells how every row is written once.

pub mod batch;
pub mod encoder;
pub mod format;
pub mod link;
pub mod outgoing;
pub mod producer;
pub mod progress;
pub mod reader;
pub mod settings;
pub mod sink;
pub mod source;
pub mod source_time;
pub mod topic_log;
pub mod transaction;
pub mod transactions;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use storage::cluster::control::MappingRecord;

use self::settings::Settings;
use crate::{
    Result,
    connector::{Connector, MappingRequest, Source, SourceRequest},
    processor::ProcessorSupplier,
};

/// The connector.
#[derive(Debug)]
pub struct Kafka;

impl Connector for Kafka {
    fn name(&self) -> &'static str {
        settings::NAME
    }

    fn resolve(&self, request: &MappingRequest) -> Result<SchemaRef> {
        let settings = Settings::read(&request.external_name, &request.options)?;
        let schema = match &request.schema {
            Some(schema) => Arc::clone(schema),
            None => format::infer(&settings)?,
        };
        // Whatever the columns cannot be decoded from is found now, not at the first message.
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        format::RowDecoder::new(&settings, &schema, &request.external_columns, &all)?;
        Ok(schema)
    }

    fn source(&self, request: &SourceRequest) -> Result<Option<Source>> {
        let mapping = &request.mapping;
        let settings = Settings::read(&mapping.external_name, &mapping.options)?;
        source::source(settings, request).map(Some)
    }

    fn sink(
        &self,
        mapping: &MappingRecord,
        _input: &SchemaRef,
    ) -> Result<Option<Arc<dyn ProcessorSupplier>>> {
        let settings = Settings::read(&mapping.external_name, &mapping.options)?;
        let external: Vec<Option<String>> =
            mapping.columns.iter().map(|column| column.external_name.clone()).collect();
        let encoder = encoder::RowEncoder::new(&settings, &mapping.schema, &external)?;
        let supplier = sink::KafkaSinkSupplier::new(&mapping.name.name, settings, encoder);
        Ok(Some(Arc::new(supplier)))
    }
}

#[cfg(test)]
mod tests;
