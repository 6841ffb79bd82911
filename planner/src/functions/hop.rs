//! `HOP(TABLE t, DESCRIPTOR(ts), size, slide [, offset])`: each row in every window of that size
//! that holds its time; a window starts every `slide`. Size comes first, as in Hazelcast.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    common::{ExprSchema, Result as DfResult},
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, planner::RelationPlannerContext},
    sql::sqlparser::ast::FunctionArg,
};

use super::{
    arguments::Arguments,
    external,
    window::{WindowNode, WindowShape, is_time_type},
};
use crate::Error;

const PARAMETERS: &[&str] = &["input", "time_col", "window_size", "slide_size", "window_offset"];

/// Windows a row may be in: more would only be a mistake in the units.
const WINDOWS_PER_ROW_MAX: i64 = 100_000;

/// Plans a call.
pub fn plan(
    arguments: Vec<FunctionArg>,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<LogicalPlan> {
    let mut arguments = Arguments::bind("hop", PARAMETERS, arguments)?;
    let (input, time, is_number) = input_and_time(&mut arguments, context)?;
    let size = positive(&mut arguments, 2, is_number, context)?;
    let slide = positive(&mut arguments, 3, is_number, context)?;
    if size / slide > WINDOWS_PER_ROW_MAX {
        let message = format!("a row may be in at most {WINDOWS_PER_ROW_MAX} windows");
        return Err(external(Error::new("54000", message)));
    }
    let offset = arguments.duration(4, is_number, context)?.unwrap_or(0);
    Ok(WindowNode::try_new(input, time, WindowShape { size, slide, offset })?.into_plan())
}

/// Arguments 0 and 1: the planned input, its time column, and whether that is BIGINT.
pub fn input_and_time(
    arguments: &mut Arguments,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<(LogicalPlan, Expr, bool)> {
    let input = arguments.table(0, context)?;
    let time = arguments.column(1, &input, context)?;
    let Expr::Column(column) = &time else { return Err(arguments.wrong(1, "a column")) };
    let data_type = input.schema().data_type(column)?.clone();
    if is_time_type(&data_type) {
        return Ok((input, time, data_type == DataType::Int64));
    }
    let DataType::Timestamp(_, zone) = data_type else {
        return Err(arguments.wrong(1, "a column of type timestamp, timestamptz or bigint"));
    };
    Ok((in_micros(input, column, DataType::Timestamp(TimeUnit::Microsecond, zone))?, time, false))
}

/// `input` with the time column in µs, as tables have it: DataFusion's own functions answer ns.
fn in_micros(
    input: LogicalPlan,
    time: &datafusion::common::Column,
    data_type: DataType,
) -> DfResult<LogicalPlan> {
    let exprs: Vec<Expr> = input
        .schema()
        .columns()
        .into_iter()
        .map(|column| {
            let is_time = column == *time;
            let (relation, name) = (column.relation.clone(), column.name.clone());
            match is_time {
                true => {
                    cast(Expr::Column(column), data_type.clone()).alias_qualified(relation, name)
                }
                false => Expr::Column(column),
            }
        })
        .collect();
    LogicalPlanBuilder::from(input).project(exprs)?.build()
}

/// A length of time above zero, µs.
pub fn positive(
    arguments: &mut Arguments,
    index: usize,
    is_number_allowed: bool,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<i64> {
    match arguments.duration(index, is_number_allowed, context)? {
        Some(micros) if micros > 0 => Ok(micros),
        Some(_) => Err(arguments.wrong(index, "greater than zero")),
        None => Err(arguments.missing(index)),
    }
}
