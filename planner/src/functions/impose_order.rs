//! `IMPOSE_ORDER(TABLE t, DESCRIPTOR(ts), lag)`: declares event time in a query: a watermark `lag`
//! behind the newest row. Rows behind the watermark are dropped and counted.

use datafusion::{
    common::Result as DfResult,
    logical_expr::{LogicalPlan, planner::RelationPlannerContext},
    sql::sqlparser::ast::FunctionArg,
};

use super::{arguments::Arguments, hop, window::ImposeOrderNode};

const PARAMETERS: &[&str] = &["input", "time_col", "lag"];

/// Plans a call.
pub fn plan(
    arguments: Vec<FunctionArg>,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<LogicalPlan> {
    let mut arguments = Arguments::bind("impose_order", PARAMETERS, arguments)?;
    let (input, time, is_number) = hop::input_and_time(&mut arguments, context)?;
    let lag = match arguments.duration(2, is_number, context)? {
        Some(lag) if lag >= 0 => lag,
        Some(_) => return Err(arguments.wrong(2, "zero or more")),
        None => return Err(arguments.missing(2)),
    };
    Ok(ImposeOrderNode::try_new(input, time, lag)?.into_plan())
}
