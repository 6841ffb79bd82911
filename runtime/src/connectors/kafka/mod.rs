//! `TYPE Kafka`: topics as sources. Topic partitions are assigned to instances by us, offsets are
//! the state of the source; no consumer group is joined and nothing is committed to the broker.
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

pub mod batch;
pub mod format;
pub mod link;
pub mod progress;
pub mod reader;
pub mod settings;
pub mod source;
pub mod source_time;

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
        _mapping: &MappingRecord,
        _input: &SchemaRef,
    ) -> Result<Option<Arc<dyn ProcessorSupplier>>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
