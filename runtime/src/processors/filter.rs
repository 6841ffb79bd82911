//! `filter`: keeps the rows for which a condition is true, each with its weight.
//! A batch that passes whole is passed on untouched.

use std::sync::Arc;

use arrow::{
    array::{AsArray, BooleanArray},
    compute::{FilterBuilder, filter_record_batch},
    datatypes::{Int64Type, SchemaRef},
};
use datafusion_physical_expr_common::physical_expr::PhysicalExpr;

use super::{
    expression::{evaluate_predicate, text},
    operator::{OperatorSupplier, map_batches},
};
use crate::{
    Result,
    delta::{DeltaBatch, Weight},
    item::Item,
    processor::{Inbox, Outbox, Processor, ProcessorSupplier},
};

/// Rows for which `predicate` is true.
pub fn filter(predicate: Arc<dyn PhysicalExpr>, input: SchemaRef) -> Arc<dyn ProcessorSupplier> {
    Arc::new(OperatorSupplier {
        description: format!("filter({})", text(&predicate)),
        schema: input,
        make: move || {
            Ok(Box::new(Filter { predicate: Arc::clone(&predicate), refused: None })
                as Box<dyn Processor>)
        },
    })
}

struct Filter {
    predicate: Arc<dyn PhysicalExpr>,
    refused: Option<Item>,
}

impl Processor for Filter {
    fn process(&mut self, _: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        let Self { predicate, refused } = self;
        map_batches(refused, inbox, outbox, |batch| {
            let mask = evaluate_predicate(predicate, &batch.rows)?;
            select(batch, &mask)
        })
    }
}

/// The rows of `batch` that `mask` (without nulls) selects; `None` if there are none.
pub(super) fn select(batch: &DeltaBatch, mask: &BooleanArray) -> Result<Option<DeltaBatch>> {
    let selected_count = mask.true_count();
    if selected_count == 0 {
        return Ok(None);
    }
    if selected_count == batch.len() {
        return Ok(Some(batch.clone()));
    }
    let Weight::Array(weights) = &batch.weight else {
        let rows = filter_record_batch(&batch.rows, mask)?;
        return Ok(Some(DeltaBatch { rows, weight: batch.weight.clone() }));
    };
    let filter = FilterBuilder::new(mask).optimize().build();
    let rows = filter.filter_record_batch(&batch.rows)?;
    let weights = filter.filter(weights)?.as_primitive::<Int64Type>().clone();
    Ok(Some(DeltaBatch { rows, weight: Weight::Array(weights) }))
}
