//! Aggregate over TUMBLE or HOP → a sliding window, its input partitioned by the other keys.
//!
//! ```text
//! GROUP BY window_end, lower(k)     project: window_end, lower(k), sum   ← order of the plan
//!   Window(ts)               ──→      window: lower(k), start, end, sum  ← order of the operator
//!     …                                 ↑ partitioned by lower(k)
//!                                     project: ts, lower(k), x
//! ```
//! The window node itself vanishes: rows are never repeated, panes are shared.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::{
    common::DFSchema,
    logical_expr::{self as df, Expr, expr::AggregateFunctionParams, utils::conjunction},
    physical_expr::{
        PhysicalExpr,
        expressions::{Column, cast},
    },
};
use runtime::{
    dag::{Parallelism, Routing},
    processors::{self, AggregateFunction, AggregateSpec, NamedExpr, SlidingWindowSpec},
};

use super::{
    Lowering, Stage,
    expression::{column_index, is_non_null_literal},
    stage::spread,
    window::{Descent, WindowColumn, missing_watermark},
};
use crate::{Error, Result, rules::unbounded};

/// The expressions a window operator reads, each once, and the projection that computes them.
struct WindowInput {
    stage: Stage,
    exprs: Vec<NamedExpr>,
    is_projected: bool,
}

/// What a column of the plan's output is in the operator's.
#[derive(Clone, Copy)]
enum Output {
    Key(usize),
    Start,
    End,
    Aggregate(usize),
}

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &df::Aggregate) -> Result<Stage> {
        let group_count = aggregate.group_expr.len();
        let mut exprs = aggregate.group_expr.clone();
        exprs.extend(aggregate.aggr_expr.iter().cloned());
        let Some(descent) = Descent::to_window(&aggregate.input, exprs)? else {
            return Err(unbounded::unwindowed("GROUP BY"));
        };
        let outputs = outputs_of(&descent, group_count)?;
        if !outputs.iter().any(|output| matches!(output, Output::Start | Output::End)) {
            return Err(unbounded::group_without_window());
        }
        let (before, after) = split_predicates(&descent, group_count)?;
        let mut input = self.relation(&descent.window.input)?;
        let schema = descent.window.input.schema();
        if let Some(predicate) = conjunction(before) {
            let predicate = self.physical(&predicate, schema)?;
            input = self.filtered_by(input, predicate)?;
        }
        let time = descent.window.time_index()?;
        if input.is_unbounded && input.event_time != Some(time) {
            return Err(missing_watermark(schema.field(time).name()));
        }
        let spec = self.window_spec(&mut input, &descent, &outputs, aggregate)?;
        let stage = self.window_stage(input, spec);
        let stage = self.window_output(stage, &outputs, aggregate)?;
        match conjunction(after) {
            Some(predicate) => {
                let predicate = rename_groups(&predicate, &descent, aggregate)?;
                let predicate = self.physical(&predicate, &aggregate.schema)?;
                self.filtered_by(stage, predicate)
            }
            None => Ok(stage),
        }
    }

    /// Projects what the window reads, unless the input has it already, and says where it is.
    fn window_spec(
        &mut self,
        input: &mut Stage,
        descent: &Descent,
        outputs: &[Output],
        aggregate: &df::Aggregate,
    ) -> Result<SlidingWindowSpec> {
        let schema = descent.window.input.schema();
        let time = descent.window.time_index()?;
        let mut reads = WindowInput::new(input.clone());
        let time_column = reads.time_column(time)?;
        let (mut keys, mut key_names, mut aggregates) = (vec![], vec![], vec![]);
        for (position, (expr, output)) in descent.exprs.iter().zip(outputs).enumerate() {
            let field = aggregate.schema.field(position);
            match output {
                Output::Start | Output::End => {}
                Output::Key(_) => {
                    keys.push(reads.column(self.physical(expr, schema)?, field.name()));
                    key_names.push(field.name().clone());
                }
                Output::Aggregate(_) => {
                    aggregates.push(self.aggregate_spec(expr, schema, field, &mut reads)?);
                }
            }
        }
        *input = reads.finish(self)?;
        Ok(SlidingWindowSpec {
            input: Arc::clone(&input.schema),
            time_column,
            size: descent.window.shape.size,
            slide: descent.window.shape.slide,
            offset: descent.window.shape.offset,
            keys,
            key_names,
            aggregates,
            is_append_only: true,
        })
    }

    /// The window's vertex, with all rows of a key in one instance.
    fn window_stage(&mut self, input: Stage, spec: SlidingWindowSpec) -> Stage {
        let (parallelism, routing) = if spec.keys.is_empty() {
            let one = Parallelism::Exactly(1);
            (one, spread(input.parallelism, one))
        } else {
            (Parallelism::Workers, Routing::Partitioned(spec.keys.clone()))
        };
        let supplier = processors::sliding_window(spec);
        let stage = self.routed("window", &input, parallelism, routing, supplier);
        Stage { event_time: None, ..stage }
    }

    /// Puts the operator's columns into the order, and the bounds into the type, of the plan.
    fn window_output(
        &mut self,
        stage: Stage,
        outputs: &[Output],
        aggregate: &df::Aggregate,
    ) -> Result<Stage> {
        let key_count = outputs.iter().filter(|output| matches!(output, Output::Key(_))).count();
        let mut exprs = Vec::with_capacity(outputs.len());
        for (position, output) in outputs.iter().enumerate() {
            let index = match output {
                Output::Key(key) => *key,
                Output::Start => key_count,
                Output::End => key_count + 1,
                Output::Aggregate(aggregate) => key_count + 2 + aggregate,
            };
            let field = aggregate.schema.field(position);
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
            let is_same_type = stage.schema.field(index).data_type() == field.data_type();
            let expr = match is_same_type {
                true => column,
                false => cast(column, &stage.schema, field.data_type().clone())?,
            };
            exprs.push(NamedExpr { expr, name: field.name().clone() });
        }
        self.project(stage, exprs)
    }

    fn aggregate_spec(
        &self,
        expr: &Expr,
        schema: &DFSchema,
        field: &Field,
        reads: &mut WindowInput,
    ) -> Result<AggregateSpec> {
        let Expr::AggregateFunction(call) = expr.clone().unalias() else {
            return Err(Error::new("XX000", format!("{expr} is not an aggregate")));
        };
        let AggregateFunctionParams { args, distinct, filter, order_by, .. } = &call.params;
        let name = call.func.name();
        let function = function_of(name, args)?;
        if !order_by.is_empty() {
            return Err(Error::unsupported(format!("ORDER BY inside {name} of a window")));
        }
        let mut column = |expr: &Expr| -> Result<Arc<dyn PhysicalExpr>> {
            let index = reads.column(self.physical(expr, schema)?, &expr.schema_name().to_string());
            Ok(Arc::new(Column::new(&expr.schema_name().to_string(), index)))
        };
        let argument = match (function, args.as_slice()) {
            (AggregateFunction::CountStar, _) => None,
            (_, [argument]) => Some(column(argument)?),
            _ => {
                let message = format!("{name} of {} arguments over a window", args.len());
                return Err(Error::unsupported(message));
            }
        };
        let filter = filter.as_deref().map(&mut column).transpose()?;
        Ok(AggregateSpec {
            function,
            argument,
            filter,
            is_distinct: *distinct,
            result_type: field.data_type().clone(),
            name: field.name().clone(),
        })
    }
}

impl WindowInput {
    fn new(stage: Stage) -> Self {
        Self { stage, exprs: Vec::new(), is_projected: false }
    }

    /// The time column as a µs timestamp; BIGINT times are µs already.
    fn time_column(&mut self, index: usize) -> Result<usize> {
        let field = self.stage.schema.field(index);
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        let name = field.name().clone();
        if *field.data_type() != DataType::Int64 {
            return Ok(self.column(column, &name));
        }
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        let column = cast(column, &self.stage.schema, timestamp)?;
        Ok(self.column(column, &name))
    }

    /// The position of an expression in what the window reads.
    fn column(&mut self, expr: Arc<dyn PhysicalExpr>, name: &str) -> usize {
        self.is_projected |= column_index(&expr).is_none();
        if let Some(index) = self.exprs.iter().position(|named| named.expr.eq(&expr)) {
            return index;
        }
        self.exprs.push(NamedExpr { expr, name: name.to_owned() });
        self.exprs.len() - 1
    }

    /// The stage that has exactly these columns.
    fn finish(self, lowering: &mut Lowering) -> Result<Stage> {
        lowering.project(self.stage, self.exprs)
    }
}

/// What each output column is: the group columns, then the aggregates.
fn outputs_of(descent: &Descent, group_count: usize) -> Result<Vec<Output>> {
    let mut outputs = Vec::with_capacity(descent.exprs.len());
    let mut key_count = 0;
    for (position, expr) in descent.exprs.iter().enumerate() {
        if position >= group_count {
            if descent.reads_bounds(expr)? {
                let message = "an aggregate cannot read the bounds of its own window";
                return Err(Error::unsupported(message));
            }
            outputs.push(Output::Aggregate(position - group_count));
            continue;
        }
        if matches!(expr, Expr::GroupingSet(_)) {
            return Err(Error::unsupported("GROUPING SETS over a stream"));
        }
        let bound = match expr {
            Expr::Column(column) => descent.kind_of(column)?,
            _ if descent.reads_bounds(expr)? => {
                let message = "a stream cannot be grouped by an expression over a window's bounds";
                let hint = "Group by window_start or window_end themselves.";
                return Err(Error::unsupported(message).with_hint(hint));
            }
            _ => WindowColumn::Input,
        };
        outputs.push(match bound {
            WindowColumn::Start => Output::Start,
            WindowColumn::End => Output::End,
            WindowColumn::Input => {
                key_count += 1;
                Output::Key(key_count - 1)
            }
        });
    }
    Ok(outputs)
}

/// Predicates over rows go before the window, those over bounds and keys behind it.
fn split_predicates(descent: &Descent, group_count: usize) -> Result<(Vec<Expr>, Vec<Expr>)> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let groups = &descent.exprs[..group_count];
    for predicate in &descent.predicates {
        if !descent.reads_bounds(predicate)? {
            before.push(predicate.clone());
            continue;
        }
        let is_over_groups = predicate
            .column_refs()
            .into_iter()
            .all(|column| groups.contains(&Expr::Column(column.clone())));
        if !is_over_groups {
            let message = "a condition on a window's bounds reads columns that are not grouped by";
            return Err(Error::unsupported(message));
        }
        after.push(predicate.clone());
    }
    Ok((before, after))
}

/// A predicate over the window's schema, over the aggregation's output.
fn rename_groups(predicate: &Expr, descent: &Descent, aggregate: &df::Aggregate) -> Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let columns = aggregate.schema.columns();
    let renamed = predicate.clone().transform_up(|node| {
        let group = descent.exprs.iter().position(|group| *group == node);
        Ok(match group {
            Some(index) => Transformed::yes(Expr::Column(columns[index].clone())),
            None => Transformed::no(node),
        })
    })?;
    Ok(renamed.data)
}

/// Our accumulator for an aggregate of that name.
fn function_of(name: &str, args: &[Expr]) -> Result<AggregateFunction> {
    let is_star = args.is_empty() || args.iter().all(is_non_null_literal);
    Ok(match name {
        "count" if is_star => AggregateFunction::CountStar,
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "avg" | "mean" => AggregateFunction::Avg,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "var" | "var_samp" | "var_sample" | "variance" => AggregateFunction::VarSamp,
        "var_pop" | "var_population" => AggregateFunction::VarPop,
        "stddev" | "stddev_samp" => AggregateFunction::StddevSamp,
        "stddev_pop" => AggregateFunction::StddevPop,
        _ => {
            let message = format!("aggregate {name} over a window of a stream");
            let hint = "Windows have count, sum, avg, min, max, variance and stddev.";
            return Err(Error::unsupported(format!("{message} is not supported")).with_hint(hint));
        }
    })
}
