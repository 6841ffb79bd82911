//! `generate_series(start, stop [, step])`: both bounds included. Inside `TABLE(…)` its column is
//! Hazelcast's `v`; without, it has PostgreSQL's name: the alias, or the function's.

use std::sync::Arc;

use arrow::{
    array::types::IntervalMonthDayNano,
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use datafusion::{
    common::{Result as DfResult, ScalarValue},
    datasource::provider_as_source,
    functions_table::generate_series::{GenSeriesArgs, GenerateSeriesTable},
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, planner::RelationPlannerContext},
    sql::sqlparser::ast::FunctionArg,
};

use super::{
    arguments::{Arguments, integer_of},
    external,
    relation::Call,
};
use crate::{
    Error,
    catalog::mapping::{MappingProvider, SourceKind},
    lower::StreamParts,
};

/// Plans a call.
pub fn plan(
    arguments: Vec<FunctionArg>,
    call: &Call,
    parts: &StreamParts,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<LogicalPlan> {
    let mut arguments = Arguments::bind("generate_series", &["start", "stop", "step"], arguments)?;
    let Some(start) = arguments.constant(0, context)? else { return Err(arguments.missing(0)) };
    let Some(stop) = arguments.constant(1, context)? else { return Err(arguments.missing(1)) };
    let step = arguments.constant(2, context)?;
    let scan = match start.data_type() {
        DataType::Timestamp(..) | DataType::Date32 => {
            let Some(ScalarValue::IntervalMonthDayNano(Some(step))) = step else {
                return Err(arguments.wrong(2, "an interval"));
            };
            times(&start, &stop, step)?
        }
        _ => {
            let step = step.unwrap_or(ScalarValue::Int64(Some(1)));
            integers(&arguments, &start, &stop, &step, parts)?
        }
    };
    let name = match (&call.alias, call.is_in_table) {
        (_, true) => "v".to_owned(),
        (Some(alias), false) => crate::parse::fold(&alias.name),
        (None, false) => "generate_series".to_owned(),
    };
    let column = Expr::Column(scan.schema().columns().remove(0));
    let column = match column_type(&scan) {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            cast(column, DataType::Timestamp(TimeUnit::Microsecond, zone))
        }
        _ => column,
    };
    let column = column.alias_qualified(Some("generate_series"), name);
    LogicalPlanBuilder::from(scan).project([column])?.build()
}

fn column_type(scan: &LogicalPlan) -> DataType {
    scan.schema().field(0).data_type().clone()
}

/// A series of integers; empty if a bound is null, as in PostgreSQL.
fn integers(
    arguments: &Arguments,
    start: &ScalarValue,
    stop: &ScalarValue,
    step: &ScalarValue,
    parts: &StreamParts,
) -> DfResult<LogicalPlan> {
    let mut values = [0; 3];
    let mut has_null = false;
    for (index, value) in [start, stop, step].into_iter().enumerate() {
        match integer_of(value) {
            Some(value) => values[index] = value,
            None if value.is_null() => has_null = true,
            None => return Err(arguments.wrong(index, "an integer")),
        }
    }
    let [start, stop, step] = if has_null { [1, 0, 1] } else { values };
    if step == 0 {
        return Err(external(Error::new("22023", "step size cannot equal zero")));
    }
    let provider = MappingProvider::of(SourceKind::Series { start, stop, step }, parts.clone());
    LogicalPlanBuilder::scan("generate_series", provider_as_source(provider), None)?.build()
}

/// A series of times, by DataFusion's own table.
fn times(
    start: &ScalarValue,
    stop: &ScalarValue,
    step: IntervalMonthDayNano,
) -> DfResult<LogicalPlan> {
    let zone = match start.data_type() {
        DataType::Timestamp(_, zone) => zone,
        _ => None,
    };
    let data_type = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
    let nanos = |value: &ScalarValue| match value.cast_to(&data_type) {
        Ok(ScalarValue::TimestampNanosecond(Some(nanos), _)) => Ok(nanos),
        _ => Err(external(Error::new("22008", "timestamp out of range"))),
    };
    let (start, end) = (nanos(start)?, nanos(stop)?);
    if step.months == 0 && step.days == 0 && step.nanoseconds == 0 {
        return Err(external(Error::new("22023", "step size cannot equal zero")));
    }
    let name = "generate_series";
    let args = GenSeriesArgs::TimestampArgs { start, end, step, tz: zone, include_end: true, name };
    let schema = Arc::new(Schema::new(vec![Field::new("v", data_type, false)]));
    let table = Arc::new(GenerateSeriesTable::new(schema, args));
    LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.build()
}
