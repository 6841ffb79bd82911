//! `generate_stream(rate)`: an unbounded column `v` of 0, 1, 2 … with `rate` rows a second, from
//! one processor. Rate 0 is silent for ever; a negative one is an error.

use datafusion::{
    common::Result as DfResult,
    datasource::provider_as_source,
    logical_expr::{LogicalPlan, LogicalPlanBuilder, planner::RelationPlannerContext},
    sql::sqlparser::ast::FunctionArg,
};

use super::arguments::{Arguments, integer_of};
use crate::{
    catalog::mapping::{MappingProvider, SourceKind},
    lower::StreamParts,
};

/// Plans a call.
pub fn plan(
    arguments: Vec<FunctionArg>,
    parts: &StreamParts,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<LogicalPlan> {
    let mut arguments = Arguments::bind("generate_stream", &["rate"], arguments)?;
    let Some(rate) = arguments.constant(0, context)? else { return Err(arguments.missing(0)) };
    let rate = match integer_of(&rate) {
        Some(rate) if rate >= 0 => rate,
        _ => return Err(arguments.wrong(0, "an integer, zero or more")),
    };
    let provider = MappingProvider::of(SourceKind::Stream { rate }, parts.clone());
    LogicalPlanBuilder::scan("generate_stream", provider_as_source(provider), None)?.build()
}
