//! `TYPE RabbitMQ`: a queue as a source, by AMQP 0-9-1. Messages are acknowledged when the snapshot that
//! covers them is good: what Jet calls an acknowledging source.
//!
//! ```text
//!   a thread for each instance       worker threads
//!   Client ── events, bounded ──►    RabbitSource::idle: decode, note ids
//!      ▲                                  │
//!      └──── acknowledgements ◄───────────┘ when a snapshot is good
//! ```
//! Why a client of our own: a consumer needs a dozen of the protocol's methods, the clients there are
//! bring an async runtime or dozens of crates, and a source must know what happens to every
//! acknowledgement. It reads, writes and checks frames in [`wire`], which does no I/O.
//!
//! Suggested reading order: [`seen`] (what makes it exactly once), [`link`] (the seam), [`source`];
//! [`settings`], [`wire`] and [`client`] (the real broker).

pub mod client;
pub mod link;
pub mod seen;
pub mod settings;
pub mod source;
pub mod wire;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use storage::cluster::control::MappingRecord;

use self::settings::Settings;
use crate::{
    Error, Result,
    connector::{Connector, MappingRequest, Source, SourceRequest},
    decode::{column::TYPE_KEY, format::Format, whole::WholeFormat},
    processor::ProcessorSupplier,
};

/// Why there is no connection.
#[derive(Debug)]
pub enum Trouble {
    /// It may pass.
    Away(String),
    /// It will not.
    Failed(Error),
}

impl Trouble {
    /// It may pass.
    pub fn away(reason: impl Into<String>) -> Self {
        Self::Away(reason.into())
    }
}

/// The connector.
#[derive(Debug)]
pub struct RabbitMq;

impl Connector for RabbitMq {
    fn name(&self) -> &'static str {
        settings::NAME
    }

    fn resolve(&self, request: &MappingRequest) -> Result<SchemaRef> {
        let settings = Settings::read(&request.external_name, &request.options)?;
        let schema = match &request.schema {
            Some(schema) => Arc::clone(schema),
            None => inferred(&settings)?,
        };
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        source::decoder(&settings, &schema, &request.external_columns, &all)?;
        Ok(schema)
    }

    fn source(&self, request: &SourceRequest) -> Result<Option<Source>> {
        let mapping = &request.mapping;
        let settings = Settings::read(&mapping.external_name, &mapping.options)?;
        let broker = Arc::new(client::RealBroker::new(settings.clone()));
        source::source(settings, broker, request).map(Some)
    }

    fn sink(
        &self,
        _mapping: &MappingRecord,
        _input: &SchemaRef,
    ) -> Result<Option<Arc<dyn ProcessorSupplier>>> {
        Ok(None)
    }
}

/// The column of a mapping that declares none: that of a format with one value.
fn inferred(settings: &Settings) -> Result<SchemaRef> {
    let field = |data_type| Field::new("this", data_type, true);
    let field = match settings.format {
        Format::Whole(WholeFormat::Raw) => field(DataType::Binary),
        Format::Whole(WholeFormat::Json) => {
            field(DataType::Utf8).with_metadata([(TYPE_KEY.to_owned(), "json".to_owned())].into())
        }
        Format::Whole(_) => field(DataType::Utf8),
        Format::JsonFlat | Format::Csv => {
            return Err(Error::Invalid {
                code: "42601",
                message: "a column list is required with 'json-flat' and 'csv'".to_owned(),
            });
        }
    };
    Ok(Arc::new(Schema::new(vec![field])))
}

#[cfg(test)]
pub(crate) mod tests;
