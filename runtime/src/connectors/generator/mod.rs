//! `TYPE Generator`: rows made in the process, for tests, demos and benchmarks. Every row is a
//! pure function of (seed, event number), so any number of instances, and any restart, make the
//! same rows.
//!
//! Numbers are dealt out in blocks to a fixed number of splits, and splits to instances:
//! ```text
//!   number   0        B        2B       3B       4B   …      B = BLOCK_ROWS
//!            │ block 0│ block 1│ block 2│ block 3│           block b belongs to split b mod S
//!   split    0        1        2  …     S−1      0           split s to instance s mod parallelism
//! ```
//! A snapshot holds the next number of each split, whoever made it; with another parallelism the
//! same splits are dealt out anew.

pub mod nexmark;
pub mod random;
pub mod schedule;
pub mod sequence;
pub mod settings;
pub mod source;
mod text;

#[cfg(test)]
mod tests;

pub use source::{series_source, stream_source};

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use storage::cluster::control::MappingRecord;

use self::settings::{Kind, Settings};
use crate::{
    Result,
    connector::{Connector, MappingRequest, Source, SourceRequest},
    processor::ProcessorSupplier,
};

/// The connector.
#[derive(Debug)]
pub struct Generator;

impl Connector for Generator {
    fn name(&self) -> &'static str {
        settings::NAME
    }

    fn resolve(&self, request: &MappingRequest) -> Result<SchemaRef> {
        let settings = Settings::read(&request.options)?;
        let own = match settings.kind {
            Kind::Sequence => sequence::schema(),
            Kind::Nexmark => nexmark::schema(),
        };
        settings::match_columns(&own, request)
    }

    fn source(&self, request: &SourceRequest) -> Result<Option<Source>> {
        source::mapping_source(request).map(Some)
    }

    fn sink(
        &self,
        _mapping: &MappingRecord,
        _input: &SchemaRef,
    ) -> Result<Option<Arc<dyn ProcessorSupplier>>> {
        Ok(None)
    }
}
