//! What the operators share: `OperatorSupplier`, one closure that makes processors, and
//! [`map_batches`], the loop of every operator that turns one batch into at most one.

use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};

use crate::{
    Result,
    delta::DeltaBatch,
    item::Item,
    job::Guarantee,
    processor::{Inbox, Outbox, Processor, ProcessorSupplier},
};

/// A supplier whose processors are all made alike; what tells them apart comes with `init`.
pub(crate) struct OperatorSupplier<F> {
    pub(crate) description: String,
    pub(crate) schema: SchemaRef,
    pub(crate) make: F,
}

impl<F> ProcessorSupplier for OperatorSupplier<F>
where
    F: Fn() -> Result<Box<dyn Processor>> + Send + Sync,
{
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        (0..count).map(|_| (self.make)()).collect()
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}

/// A supplier of processors that have a state.
pub(crate) struct Stateful<S> {
    pub(crate) supplier: S,
    /// What it means; see [`ProcessorSupplier::state`].
    pub(crate) state: String,
}

impl<S: ProcessorSupplier> ProcessorSupplier for Stateful<S> {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        self.supplier.create(count)
    }

    fn describe(&self) -> String {
        self.supplier.describe()
    }

    fn schema(&self) -> SchemaRef {
        self.supplier.schema()
    }

    fn commits(&self) -> bool {
        self.supplier.commits()
    }

    fn state(&self) -> Option<String> {
        Some(self.state.clone())
    }

    fn is_state_of_job(&self, guarantee: Guarantee) -> bool {
        self.supplier.is_state_of_job(guarantee)
    }
}

/// `[k Int64, v Utf8]`: what the rows of a state are.
pub(crate) fn columns_text<'a>(fields: impl IntoIterator<Item = &'a Arc<Field>>) -> String {
    let column = |field: &Arc<Field>| format!("{} {}", field.name(), field.data_type());
    let columns: Vec<_> = fields.into_iter().map(column).collect();
    format!("[{}]", columns.join(", "))
}

/// Feeds each waiting batch to `operator` and emits what it answers. A batch leaves the inbox only
/// when its result has left too: a refused result waits in `refused` and is not state, because a
/// processor restored meanwhile gets the batch again.
pub(crate) fn map_batches(
    refused: &mut Option<Item>,
    inbox: &mut Inbox,
    outbox: &mut Outbox,
    mut operator: impl FnMut(&DeltaBatch) -> Result<Option<DeltaBatch>>,
) -> Result<()> {
    while let Some(batch) = inbox.peek() {
        let result = match refused.take() {
            Some(item) => Some(item),
            None if !outbox.has_room() => return Ok(()),
            None => operator(batch)?.map(Item::Batch),
        };
        if let Some(item) = result {
            *refused = outbox.offer(item);
            if refused.is_some() {
                return Ok(());
            }
        }
        inbox.take();
    }
    Ok(())
}
