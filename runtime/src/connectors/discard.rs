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
    Result,
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
            // Without columns it takes rows of any shape.
            None => Ok(Arc::new(Schema::empty())),
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
        if columns.is_empty() {
            // Rows without columns: all alike, so only their number counts.
            self.hashes.clear();
            self.hashes.resize(batch.len(), 0);
        } else {
            hash_columns(&columns, &mut self.hashes)?;
        }
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

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Int64Array, RecordBatch, StringArray},
        buffer::NullBuffer,
        datatypes::Field,
    };
    use storage::{Grid, GridConfig, cluster::control::ObjectId, env::Env};

    use super::*;
    use crate::testing::verify_processor;

    fn rows(numbers: &[i64]) -> RecordBatch {
        let texts: StringArray = numbers.iter().map(|n| Some(format!("text {n}"))).collect();
        let fields =
            vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)];
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(numbers.to_vec())), Arc::new(texts)];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    fn mapping() -> MappingRecord {
        MappingRecord {
            id: ObjectId(1),
            name: storage::cluster::control::ObjectName::public("d"),
            external_name: "d".to_owned(),
            connector: NAME.to_owned(),
            options: Default::default(),
            schema: rows(&[]).schema(),
            columns: Vec::new(),
            watermark: None,
        }
    }

    /// Count and hash after discarding `batches` in all ways the test kit knows.
    fn discarded(batches: Vec<DeltaBatch>) -> (i64, i64) {
        let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
        let metric = |name: &str| grid.metrics().register(name, &[("mapping", "d")]);
        let (count, hash) =
            (metric("tidewater_discard_rows_total"), metric("tidewater_discard_hash"));
        let found = Arc::new(parking_lot::Mutex::new(None));
        let supplier = Discard.sink(&mapping(), &rows(&[]).schema()).unwrap().unwrap();
        let mut run = verify_processor(supplier).grid(Arc::clone(&grid));
        for batch in batches {
            run = run.rows(0, batch);
        }
        let first = Arc::clone(&found);
        run.expect(Vec::new())
            .after_each(move |way| {
                let now = (count.get(), hash.get());
                assert_eq!(*first.lock().get_or_insert(now), now, "{way}");
                count.set(0);
                hash.set(0);
            })
            .run();
        found.lock().expect("it ran")
    }

    #[test]
    fn neither_order_nor_batches_change_the_hash_but_every_value_does() {
        let whole = discarded(vec![DeltaBatch::insertions(rows(&[1, 2, 3, 3]))]);
        assert_eq!(whole.0, 4);
        let parts = [&[3][..], &[2, 3], &[1]];
        let parts = parts.map(|part| DeltaBatch::insertions(rows(part))).to_vec();
        assert_eq!(discarded(parts), whole);
        let other = discarded(vec![DeltaBatch::insertions(rows(&[1, 2, 3, 4]))]);
        assert_ne!(other.1, whole.1);
        let fewer = discarded(vec![DeltaBatch::insertions(rows(&[1, 2, 3]))]);
        assert_ne!(fewer.1, whole.1);
    }

    #[test]
    fn retractions_cancel_insertions() {
        let mixed = Weight::Array(Int64Array::from(vec![2, -1, 0]));
        let batches = vec![
            DeltaBatch { rows: rows(&[7, 8, 9]), weight: mixed },
            DeltaBatch { rows: rows(&[7]), weight: Weight::MinusOne },
            DeltaBatch { rows: rows(&[8]), weight: Weight::One },
        ];
        assert_eq!(discarded(batches), discarded(vec![DeltaBatch::insertions(rows(&[7]))]));
    }

    #[test]
    fn values_under_a_null_struct_do_not_count() {
        let record = |hidden: i64| {
            let child: ArrayRef = Arc::new(Int64Array::from(vec![5, hidden]));
            let fields = vec![Field::new("x", DataType::Int64, true)].into();
            let nulls = NullBuffer::from(vec![true, false]);
            let column = StructArray::new(fields, vec![child], Some(nulls));
            let field = Field::new("s", column.data_type().clone(), true);
            let schema = Arc::new(Schema::new(vec![field]));
            RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap()
        };
        let hash = |hidden| discarded(vec![DeltaBatch::insertions(record(hidden))]);
        assert_eq!(hash(1), hash(2));
    }
}
