//! `project`: one column for each expression.
//! Weights pass unchanged: a projection says nothing about how often a row occurs.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::{Field, Schema, SchemaRef},
};

use super::{
    expression::{NamedExpr, evaluate, text},
    operator::{OperatorSupplier, map_batches},
};
use crate::{
    Error, Result,
    item::Item,
    processor::{Inbox, Outbox, Processor, ProcessorSupplier},
};

/// One column for each expression.
pub fn project(exprs: Vec<NamedExpr>, input: SchemaRef) -> Arc<dyn ProcessorSupplier> {
    let output = output_schema(&exprs, &input);
    let columns: Vec<_> = exprs
        .iter()
        .map(|NamedExpr { expr, name }| {
            let source = text(expr);
            if source == *name { source } else { format!("{source} as {name}") }
        })
        .collect();
    // A schema that cannot be computed is the planner's mistake; it is told at creation, because
    // this function cannot fail.
    let schema = output.clone().unwrap_or_else(|_| Arc::new(Schema::empty()));
    Arc::new(OperatorSupplier {
        description: format!("project({})", columns.join(", ")),
        schema,
        make: move || {
            Ok(Box::new(Project { exprs: exprs.clone(), output: output.clone()?, refused: None })
                as Box<dyn Processor>)
        },
    })
}

fn output_schema(exprs: &[NamedExpr], input: &Schema) -> Result<SchemaRef> {
    let fields = exprs.iter().map(|NamedExpr { expr, name }| {
        Ok(Field::new(name, expr.data_type(input)?, expr.nullable(input)?))
    });
    let fields = fields
        .collect::<Result<Vec<_>>>()
        .map_err(|error| Error::Internal(format!("projection does not fit its input: {error}")))?;
    Ok(Arc::new(Schema::new(fields)))
}

struct Project {
    exprs: Vec<NamedExpr>,
    output: SchemaRef,
    refused: Option<Item>,
}

impl Processor for Project {
    fn process(&mut self, _: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        let Self { exprs, output, refused } = self;
        map_batches(refused, inbox, outbox, |batch| {
            let columns =
                exprs.iter().map(|named| evaluate(&named.expr, &batch.rows)).collect::<Result<_>>();
            // The row count must be said: a projection may have no columns.
            let options = RecordBatchOptions::new().with_row_count(Some(batch.len()));
            let rows = RecordBatch::try_new_with_options(Arc::clone(output), columns?, &options)?;
            Ok(Some(batch.with_rows(rows)))
        })
    }
}
