//! An optimised logical plan → `Dag`, one file per relational shape.
//!
//! ```text
//! Projection(k, count)                     client ← to-one ← project
//!   Aggregate(window_start, k)      ──→        window          (one state per key)
//!     Window(TUMBLE 10 s)                        ↑ partitioned by k
//!       Filter                               filter ← isolated ← scan(trades)
//!         TableScan
//! ```
//! Rows stay on the worker that read them (isolated edges) until a keyed operator or sink needs
//! all rows of a key in one place (partitioned) or one instance must see everything (to-one).

mod aggregate;
mod expression;
mod fields;
mod filter;
mod job;
mod join;
mod project;
mod scan;
mod set;
mod sink;
mod stage;
mod window;

#[cfg(test)]
mod tests;

pub use job::{JobTarget, plan_job};
pub use sink::sink_of;
pub use stage::{Lowering, Stage};

use std::{fmt, sync::Arc};

use datafusion::{
    common::{Result as DfResult, tree_node::Transformed},
    execution::SessionState,
    logical_expr::LogicalPlan,
    optimizer::{Optimizer, optimizer::OptimizerRule},
};
use runtime::{connector::Connectors, execution::Engine};
use storage::Grid;

use fields::ScanFields;

use crate::{
    Error, OutputColumn, Result,
    functions::window::WindowNode,
    rules::{guards, unbounded},
    stream_plan::StreamPlan,
};

/// What dags are made of and run on.
#[derive(Clone)]
pub struct StreamParts {
    /// Tables and clock.
    pub grid: Arc<Grid>,
    /// Runs dags.
    pub engine: Arc<Engine>,
    /// Makes sources and sinks.
    pub connectors: Connectors,
}

impl fmt::Debug for StreamParts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamParts({})", self.connectors.names().join(", "))
    }
}

/// Plans an unbounded SELECT; `plan` is analysed, not yet optimised.
pub fn plan_stream(
    state: &SessionState,
    plan: LogicalPlan,
    columns: Vec<OutputColumn>,
    parts: &StreamParts,
) -> Result<StreamPlan> {
    unbounded::check(&plan)?;
    let plan = optimise(state, plan)?;
    let mut lowering = Lowering::new(state, parts);
    let last = lowering.query(&plan)?;
    Ok(StreamPlan::new(columns, lowering.into_dag()?, last.vertex, parts.clone()))
}

/// DataFusion's optimizer without the rules that are wrong for streams.
fn optimise(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = state
        .optimizers()
        .iter()
        .filter(|rule| !is_wrong_for_streams(rule.name()))
        .map(Arc::clone)
        .collect();
    let plan = plan.transform_up_with_subqueries(ask_guards_once)?.data;
    Ok(Optimizer::with_rules(rules).optimize(plan, state, |_, _| {})?)
}

/// A filter vertex asks guards before what they guard ([`filter`]), so they need not stand beside it
/// as well, where the optimizer would make a column of them to compute them once.
fn ask_guards_once(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Filter(mut filter) = plan else { return Ok(Transformed::no(plan)) };
    let (predicate, is_changed) = guards::without_repeated_guards(filter.predicate);
    filter.predicate = predicate;
    Ok(match is_changed {
        true => Transformed::yes(LogicalPlan::Filter(filter)),
        false => Transformed::no(LogicalPlan::Filter(filter)),
    })
}

/// Rules that turn one aggregation into two, or that trade a filter for a join: a window is
/// aggregated once, by operators that know DISTINCT and FILTER themselves.
fn is_wrong_for_streams(rule: &str) -> bool {
    matches!(rule, "single_distinct_aggregation_to_group_by" | "unions_to_filter")
}

impl Lowering<'_> {
    /// Lowers a whole query, having looked which event times it needs.
    fn query(&mut self, plan: &LogicalPlan) -> Result<Stage> {
        self.wants_event_time = has_window(plan);
        self.scan_fields = ScanFields::of(plan);
        self.relation(plan)
    }

    /// Lowers one relation: only picks the file that knows its shape.
    fn relation(&mut self, plan: &LogicalPlan) -> Result<Stage> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::SubqueryAlias(alias) => self.relation(&alias.input),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => self.empty(empty),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Extension(_) => self.window_function(plan),
            other => Err(refusal(other)),
        }
    }
}

/// What is said of a shape no file here knows.
fn refusal(plan: &LogicalPlan) -> Error {
    let what = match plan {
        LogicalPlan::Sort(_) => "ORDER BY",
        LogicalPlan::Distinct(_) => "DISTINCT",
        LogicalPlan::Window(_) => "OVER",
        LogicalPlan::Subquery(_) => "a correlated subquery",
        LogicalPlan::Unnest(_) => "UNNEST",
        LogicalPlan::RecursiveQuery(_) => "WITH RECURSIVE",
        _ => "this query",
    };
    Error::unsupported(format!("{what} is not supported in a streaming query or job"))
}

fn has_window(plan: &LogicalPlan) -> bool {
    WindowNode::of(plan).is_some() || plan.inputs().into_iter().any(has_window)
}
