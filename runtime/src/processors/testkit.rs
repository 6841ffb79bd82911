//! What the operators' tests share: batches, expressions and a context without a cluster.
//! The checks themselves are `testing::verify_processor`'s.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion_common::ScalarValue;
use datafusion_expr_common::operator::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion_physical_expr_common::physical_expr::PhysicalExpr;

use crate::delta::{DeltaBatch, Weight};

/// A schema of nullable BIGINT columns.
pub(super) fn bigints(names: &[&str]) -> SchemaRef {
    let fields: Vec<_> =
        names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
    Arc::new(Schema::new(fields))
}

/// A batch of BIGINT columns, each given as a slice.
pub(super) fn batch(schema: &SchemaRef, columns: &[&[i64]]) -> RecordBatch {
    let columns = columns
        .iter()
        .zip(schema.fields())
        .map(|(values, field)| {
            let array: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
            arrow::compute::cast(&array, field.data_type()).unwrap()
        })
        .collect();
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

/// Insertions.
pub(super) fn plus(rows: RecordBatch) -> DeltaBatch {
    DeltaBatch::insertions(rows)
}

/// Retractions.
pub(super) fn minus(rows: RecordBatch) -> DeltaBatch {
    DeltaBatch { rows, weight: Weight::MinusOne }
}

/// Rows with their own weights.
pub(super) fn mixed(rows: RecordBatch, weights: &[i64]) -> DeltaBatch {
    DeltaBatch { rows, weight: Weight::Array(Int64Array::from(weights.to_vec())) }
}

/// The column of that position.
pub(super) fn column(schema: &SchemaRef, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(index).name(), index))
}

/// A BIGINT constant.
pub(super) fn literal(value: i64) -> Arc<dyn PhysicalExpr> {
    Arc::new(Literal::new(ScalarValue::Int64(Some(value))))
}

/// `left operator right`.
pub(super) fn binary(
    left: Arc<dyn PhysicalExpr>,
    operator: Operator,
    right: Arc<dyn PhysicalExpr>,
) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(left, operator, right))
}
