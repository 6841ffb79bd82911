//! Where a job's rows end: a table, partitioned by its key so that the rows of one key are written
//! in order, or a mapping's connector.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use runtime::{
    dag::{Parallelism, Routing},
    processor::ProcessorSupplier,
    processors::{self, TableSinkSpec},
};
use storage::{Table, cluster::control::MappingRecord, table::WriteMode};

use super::{Lowering, Stage, StreamParts, stage::spread};
use crate::{Error, Result};

impl Lowering<'_> {
    /// Writes the rows of `input`, which are the table's visible columns, into it.
    pub(super) fn table_sink(
        &mut self,
        input: Stage,
        table: &Arc<Table>,
        mode: WriteMode,
    ) -> Result<()> {
        let record = table.record();
        if record.has_hidden_key && !input.is_append_only {
            let name = &record.name.name;
            return Err(retracts(&format!("table \"{name}\", which has no key,")));
        }
        let name = format!("sink({})", record.name.name);
        let routing = match record.has_hidden_key {
            true => spread(input.parallelism, Parallelism::Workers),
            false => Routing::Partitioned(record.key.clone()),
        };
        let spec = TableSinkSpec {
            table: Arc::clone(table),
            input: Arc::clone(&input.schema),
            mode,
            is_append_only: input.is_append_only,
        };
        let supplier = processors::table_sink(spec);
        self.routed(&name, &input, Parallelism::Workers, routing, supplier);
        Ok(())
    }

    /// Writes the rows of `input` into a mapping.
    pub(super) fn mapping_sink(&mut self, input: Stage, mapping: &MappingRecord) -> Result<()> {
        let supplier = sink_of(self.parts, mapping, &input.schema)?;
        if !input.is_append_only {
            return Err(retracts(&format!("mapping \"{}\"", mapping.name.name)));
        }
        self.local(&format!("sink({})", mapping.name.name), &input, supplier);
        Ok(())
    }
}

/// The refusal of rows that are taken back by what cannot do so.
fn retracts(target: &str) -> Error {
    Error::unsupported(format!("{target} cannot take back rows that are changed or deleted"))
        .with_hint(
            "Write into a table with a primary key, or select _diff, too: then every change is a row of \
             its own.",
        )
}

/// What writes rows of `input` into a mapping; 42809 if nothing can.
pub fn sink_of(
    parts: &StreamParts,
    mapping: &MappingRecord,
    input: &SchemaRef,
) -> Result<Arc<dyn ProcessorSupplier>> {
    let Some(connector) = parts.connectors.get(&mapping.connector) else {
        let message = format!("connector \"{}\" does not exist", mapping.connector);
        return Err(Error::new("42704", message));
    };
    connector.sink(mapping, input)?.ok_or_else(|| {
        let message = format!("cannot write to mapping \"{}\"", mapping.name.name);
        let detail = format!("Mappings of type {} can only be read.", connector.name());
        Error::new("42809", message).with_detail(detail)
    })
}
