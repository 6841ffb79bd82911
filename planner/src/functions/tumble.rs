//! `TUMBLE(TABLE t, DESCRIPTOR(ts), size [, offset])`: each row in the one window that holds its
//! time. Windows are half open and aligned to the epoch.

use datafusion::{
    common::Result as DfResult,
    logical_expr::{LogicalPlan, planner::RelationPlannerContext},
    sql::sqlparser::ast::FunctionArg,
};

use super::{
    arguments::Arguments,
    hop,
    window::{WindowNode, WindowShape},
};

const PARAMETERS: &[&str] = &["input", "time_col", "window_size", "window_offset"];

/// Plans a call.
pub fn plan(
    arguments: Vec<FunctionArg>,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<LogicalPlan> {
    let mut arguments = Arguments::bind("tumble", PARAMETERS, arguments)?;
    let (input, time, is_number) = hop::input_and_time(&mut arguments, context)?;
    let size = hop::positive(&mut arguments, 2, is_number, context)?;
    let offset = arguments.duration(3, is_number, context)?.unwrap_or(0);
    let shape = WindowShape { size, slide: size, offset };
    Ok(WindowNode::try_new(input, time, shape)?.into_plan())
}
