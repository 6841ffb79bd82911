//! `TYPE Discard`: a sink that keeps nothing but two numbers, the count of its rows and an
//! order-free hash of them. Equality checks and benchmarks end here; rows never leave the member.
//!
//! The hash of a row is the pinned hash of the tables over all its columns; the hash of the stream
//! is the wrapping sum of row hash × weight. So a retraction cancels its insertion, and neither
//! order nor batching nor parallelism can be seen. `sys.metrics` shows both:
//! `tidewater_discard_rows_total{mapping}` and, as a signed number, `tidewater_discard_hash{mapping}`.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, StructArray},
    buffer::NullBuffer,
    datatypes::{DataType, Schema, SchemaRef},
};
use storage::{cluster::control::MappingRecord, metrics::Metric, partition::hash::hash_columns};

use crate::{
    Error, Result,
    connector::{Connector, MappingRequest, Source, SourceRequest},
    connectors::options::Options,
    delta::{DeltaBatch, Weight},
    processor::{Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
};

/// The connector.
#[derive(Debug)]
pub struct Discard;

const NAME: &str = "Discard";

impl Connector for Discard {
    fn name(&self) -> &'static str {
        NAME
    }

    fn resolve(&self, request: &MappingRequest) -> Result<SchemaRef> {
        Options::new(NAME, &request.options).refuse_all()?;
        match &request.schema {
            Some(schema) => Ok(Arc::clone(schema)),
            None => Err(Error::Invalid {
                code: "42601",
                message: "a mapping of type Discard needs a column list".to_owned(),
            }),
        }
    }

    fn source(&self, _request: &SourceRequest) -> Result<Option<Source>> {
        Ok(None)
    }

    fn sink(
        &self,
        mapping: &MappingRecord,
        input: &SchemaRef,
    ) -> Result<Option<Arc<dyn ProcessorSupplier>>> {
        let _ = input;
        let mapping = mapping.name.name.as_str().into();
        Ok(Some(Arc::new(DiscardSupplier { mapping })))
    }
}

struct DiscardSupplier {
    mapping: Arc<str>,
}

impl ProcessorSupplier for DiscardSupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        let sink = |_| -> Box<dyn Processor> {
            Box::new(DiscardSink {
                mapping: Arc::clone(&self.mapping),
                rows: Metric::default(),
                hash: Metric::default(),
                hashes: Vec::new(),
            })
        };
        Ok((0..count).map(sink).collect())
    }

    fn describe(&self) -> String {
        format!("discard({})", self.mapping)
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }
}

/// The processor.
struct DiscardSink {
    mapping: Arc<str>,
    rows: Metric,
    hash: Metric,
    /// Scratch: hashes of one batch.
    hashes: Vec<u64>,
}

impl Processor for DiscardSink {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        let metrics = context.grid.metrics();
        let labels = [("mapping", &*self.mapping)];
        self.rows = metrics.register("tidewater_discard_rows_total", &labels);
        self.hash = metrics.register("tidewater_discard_hash", &labels);
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, _outbox: &mut Outbox) -> Result<()> {
        while let Some(batch) = inbox.take() {
            self.discard(&batch)?;
        }
        Ok(())
    }
}

impl DiscardSink {
    fn discard(&mut self, batch: &DeltaBatch) -> Result<()> {
        let mut columns = Vec::with_capacity(batch.rows.num_columns());
        for column in batch.rows.columns() {
            flatten(column, None, &mut columns)?;
        }
        hash_columns(&columns, &mut self.hashes)?;
        let sum = |hashes: &[u64]| hashes.iter().fold(0_u64, |sum, hash| sum.wrapping_add(*hash));
        let (count, hash) = match &batch.weight {
            Weight::One => (batch.len() as i64, sum(&self.hashes)),
            Weight::MinusOne => (-(batch.len() as i64), sum(&self.hashes).wrapping_neg()),
            Weight::Array(weights) => {
                let weighted = weights.values().iter().zip(&self.hashes);
                let hash = weighted.fold(0_u64, |sum, (weight, hash)| {
                    sum.wrapping_add(hash.wrapping_mul(*weight as u64))
                });
                (weights.values().iter().sum(), hash)
            }
        };
        self.rows.add(count);
        self.hash.add(hash as i64);
        Ok(())
    }
}

/// Replaces a struct by its children, null where it is.
fn flatten(column: &ArrayRef, parent: Option<&NullBuffer>, out: &mut Vec<ArrayRef>) -> Result<()> {
    let nulls = NullBuffer::union(parent, column.nulls());
    match column.data_type() {
        DataType::Struct(_) => {
            let column: &StructArray = column.as_struct();
            for child in column.columns() {
                flatten(child, nulls.as_ref(), out)?;
            }
        }
        _ if parent.is_none() => out.push(Arc::clone(column)),
        _ => {
            let data = column.to_data().into_builder().nulls(nulls).build()?;
            out.push(arrow::array::make_array(data));
        }
    }
    Ok(())
}
