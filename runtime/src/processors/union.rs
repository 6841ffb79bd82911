//! `union`: the rows of all inputs, as they come (UNION ALL).
//! Names and nullability are the output's; no row is copied.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};

use super::operator::{OperatorSupplier, map_batches};
use crate::{
    Result,
    item::Item,
    processor::{Inbox, Outbox, Processor, ProcessorSupplier},
};

/// All inputs' rows, as they come; inputs have equal types, the output has `output`'s names.
pub fn union(output: SchemaRef) -> Arc<dyn ProcessorSupplier> {
    let schema = Arc::clone(&output);
    Arc::new(OperatorSupplier {
        description: "union".to_owned(),
        schema,
        make: move || {
            Ok(Box::new(Union { output: Arc::clone(&output), refused: None }) as Box<dyn Processor>)
        },
    })
}

struct Union {
    output: SchemaRef,
    refused: Option<Item>,
}

impl Processor for Union {
    fn process(&mut self, _: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        let Self { output, refused } = self;
        map_batches(refused, inbox, outbox, |batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.len()));
            let columns = batch.rows.columns().to_vec();
            let rows = RecordBatch::try_new_with_options(Arc::clone(output), columns, &options)?;
            Ok(Some(batch.with_rows(rows)))
        })
    }
}
