//! `CREATE JOB … AS INSERT | SINK INTO target SELECT …` → a dag that ends in the target. The same
//! at every start of the job, so that state saved by one execution fits the next.

use std::sync::Arc;

use datafusion::{
    catalog::default_table_source::source_as_provider, common::tree_node::TreeNode,
    execution::SessionState, logical_expr::LogicalPlan,
};
use runtime::dag::Dag;
use storage::{Table, cluster::control::MappingRecord, table::WriteMode};

use super::{Lowering, StreamParts, optimise};
use crate::{Error, Result, catalog::changes::ChangesProvider, rules::unbounded};

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
    check_own_changes(&input, target)?;
    let mut lowering = Lowering::new(state, parts);
    lowering.is_of_job = true;
    let last = lowering.query(&input)?;
    match target {
        JobTarget::Table { table, mode } => lowering.table_sink(last, table, *mode)?,
        JobTarget::Mapping(mapping) => lowering.mapping_sink(last, mapping)?,
    }
    lowering.into_dag()
}

/// Refuses a job that would follow its own changes without end.
fn check_own_changes(input: &LogicalPlan, target: &JobTarget) -> Result<()> {
    let JobTarget::Table { table, .. } = target else { return Ok(()) };
    let record = table.record();
    let is_own = input.exists(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(false) };
        let provider = source_as_provider(&scan.source)?;
        let changes = provider.downcast_ref::<ChangesProvider>();
        Ok(changes.is_some_and(|changes| changes.table().record().id == record.id))
    })?;
    if !is_own {
        return Ok(());
    }
    let name = &record.name.name;
    let message = format!("a job that writes to the table \"{name}\", whose changes it reads,");
    Err(Error::unsupported(format!("{message} is not supported"))
        .with_detail("It would read what it writes, and never be done.")
        .with_hint("Write into another table."))
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
