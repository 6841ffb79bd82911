//! `CREATE JOB … AS INSERT | SINK INTO target SELECT …` → a dag that ends in the target. The same
//! at every start of the job, so that state saved by one execution fits the next.

use std::sync::Arc;

use datafusion::{execution::SessionState, logical_expr::LogicalPlan};
use runtime::dag::Dag;
use storage::{Table, cluster::control::MappingRecord, table::WriteMode};

use super::{Lowering, StreamParts, optimise};
use crate::{Error, Result, rules::unbounded};

/// Where a job writes.
#[derive(Debug, Clone)]
pub enum JobTarget {
    /// A table.
    Table {
        /// The table.
        table: Arc<Table>,
        /// Insert, or Upsert for SINK INTO.
        mode: WriteMode,
    },
    /// A mapping.
    Mapping(Arc<MappingRecord>),
}

/// Plans a job. `input` is the analysed query, with exactly the target's visible columns, in order
/// and of their types.
pub fn plan_job(
    state: &SessionState,
    input: LogicalPlan,
    target: &JobTarget,
    parts: &StreamParts,
) -> Result<Dag> {
    unbounded::check(&input)?;
    check_columns(&input, target)?;
    let input = optimise(state, input)?;
    let mut lowering = Lowering::new(state, parts);
    let last = lowering.query(&input)?;
    match target {
        JobTarget::Table { table, mode } => lowering.table_sink(last, table, *mode),
        JobTarget::Mapping(mapping) => lowering.mapping_sink(last, mapping)?,
    }
    lowering.into_dag()
}

/// Whether the query's columns are the target's.
fn check_columns(input: &LogicalPlan, target: &JobTarget) -> Result<()> {
    let (schema, visible_count) = match target {
        JobTarget::Table { table, .. } => {
            let record = table.record();
            (&record.schema, record.schema.fields().len() - usize::from(record.has_hidden_key))
        }
        JobTarget::Mapping(mapping) => (&mapping.schema, mapping.schema.fields().len()),
    };
    let fields = input.schema().fields();
    let takes_any_row = matches!(target, JobTarget::Mapping(_)) && visible_count == 0;
    if takes_any_row {
        return Ok(());
    }
    if fields.len() != visible_count {
        let message = format!("query has {} columns but {visible_count} are written", fields.len());
        return Err(Error::new("42601", message));
    }
    for (given, wanted) in fields.iter().zip(schema.fields()) {
        if given.data_type() != wanted.data_type() {
            let message = format!(
                "column \"{}\" is of type {} but expression is of type {}",
                wanted.name(),
                crate::SqlType::of_field(wanted).name(),
                crate::SqlType::of_field(given).name()
            );
            return Err(Error::new("42804", message));
        }
    }
    Ok(())
}
