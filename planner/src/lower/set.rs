//! UNION ALL, VALUES and SELECT without FROM.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, new_null_array},
    compute::concat_batches,
    datatypes::{DataType, Field, Schema, SchemaRef},
    record_batch::RecordBatchOptions,
};
use datafusion::{
    common::DFSchema,
    logical_expr::{self as df, Expr},
};
use runtime::{dag::Parallelism, processors};

use super::{Lowering, Stage};
use crate::{Error, Result};

impl Lowering<'_> {
    pub(super) fn union(&mut self, union: &df::Union) -> Result<Stage> {
        let mut inputs = Vec::with_capacity(union.inputs.len());
        for input in &union.inputs {
            inputs.push(self.relation(input)?);
        }
        let Some(first) = inputs.first().cloned() else {
            return Err(Error::new("XX000", "a union without inputs"));
        };
        let is_equal = inputs.iter().all(|input| input.parallelism == first.parallelism);
        let parallelism = if is_equal { first.parallelism } else { Parallelism::Workers };
        // The watermark of a union is its inputs' minimum: it needs them to speak of one column.
        let has_event_time = inputs.iter().all(|input| input.event_time == first.event_time);
        let is_unbounded = inputs.iter().any(|input| input.is_unbounded);
        let schema: SchemaRef = Arc::new(union.schema.as_arrow().clone());
        let supplier = processors::union(Arc::clone(&schema));
        let vertex = self.merged("union", &inputs, parallelism, supplier);
        let event_time = first.event_time.filter(|_| has_event_time);
        let is_append_only = inputs.iter().all(|input| input.is_append_only);
        Ok(Stage { vertex, parallelism, schema, event_time, is_unbounded, is_append_only })
    }

    pub(super) fn values(&mut self, values: &df::Values) -> Result<Stage> {
        let schema: SchemaRef = Arc::new(values.schema.as_arrow().clone());
        let mut rows = Vec::with_capacity(values.values.len());
        for row in &values.values {
            rows.push(self.constant_row(row, &schema)?);
        }
        let batch = concat_batches(&schema, &rows)?;
        let supplier = processors::values(vec![batch], schema);
        Ok(self.source("values", Parallelism::Exactly(1), supplier))
    }

    /// One row of constants, or none: `SELECT 1`, `WHERE false`. The one row has a column of its
    /// own, because a batch without columns has no rows to repeat constants for.
    pub(super) fn empty(&mut self, empty: &df::EmptyRelation) -> Result<Stage> {
        let declared: SchemaRef = Arc::new(empty.schema.as_arrow().clone());
        let (schema, batches) = if empty.produce_one_row {
            let schema = Arc::new(Schema::new(vec![Field::new("row", DataType::Null, true)]));
            let row = RecordBatch::try_new(
                Arc::clone(&schema),
                vec![new_null_array(&DataType::Null, 1)],
            )?;
            (schema, vec![row])
        } else {
            (declared, vec![])
        };
        let supplier = processors::values(batches, schema);
        Ok(self.source("values", Parallelism::Exactly(1), supplier))
    }

    fn constant_row(&self, row: &[Expr], schema: &SchemaRef) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let empty = Arc::new(Schema::empty());
        let input = RecordBatch::try_new_with_options(empty, vec![], &options)?;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(row.len());
        for (expr, field) in row.iter().zip(schema.fields()) {
            let expr = self.physical(expr, &DFSchema::empty())?;
            let value = expr.evaluate(&input)?.into_array(1)?;
            columns.push(arrow::compute::cast(&value, field.data_type())?);
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}
