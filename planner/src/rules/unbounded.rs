//! Refuses, before anything runs, what a stream could not answer without endless state, and says
//! what to use instead. Every hint names only what exists.
//!
//! Two properties are proved bottom up: *unbounded* (reading it never ends; LIMIT ends it) and,
//! through it, that no operator above would have to wait for everything. Streams are append-only.

use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::{JoinType, tree_node::TreeNode},
    logical_expr::{Distinct, Expr, Join, LogicalPlan, TableScan},
};

use crate::{
    Error, Result,
    catalog::{changes::ChangesProvider, mapping::MappingProvider},
    functions::window::WindowNode,
};

/// Whether `plan` runs as a dag whose rows are sent as they come: it never ends, or does so only
/// because of a LIMIT with nothing above it that needs all rows.
pub fn is_unbounded(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_unbounded(&projection.input),
        LogicalPlan::Filter(filter) => is_unbounded(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => is_unbounded(&alias.input),
        LogicalPlan::Limit(limit) => is_unbounded(&limit.input),
        _ => never_ends(plan),
    }
}

/// Refuses shapes over an unbounded relation that need all of it.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    for input in plan.inputs() {
        check(input)?;
    }
    if has_stream_subquery(plan) {
        let message = "a subquery in an expression cannot read an unbounded relation";
        return Err(Error::unsupported(message).with_hint("Read it in FROM instead."));
    }
    match plan {
        LogicalPlan::Aggregate(aggregate) if never_ends(&aggregate.input) => {
            if has_window(&aggregate.input) { Ok(()) } else { Err(unwindowed("GROUP BY")) }
        }
        LogicalPlan::Distinct(distinct) if never_ends(plan) => match distinct {
            Distinct::All(input) if has_window(input) => Ok(()),
            Distinct::All(_) => Err(unwindowed("DISTINCT")),
            Distinct::On(_) => Err(unwindowed("DISTINCT ON")),
        },
        LogicalPlan::Sort(sort) if never_ends(&sort.input) => Err(unwindowed("ORDER BY")),
        LogicalPlan::Window(window) if never_ends(&window.input) => Err(unwindowed("OVER")),
        LogicalPlan::Join(join) => check_join(join),
        _ => Ok(()),
    }
}

/// The refusal of a shape that must see all rows of a stream.
pub fn unwindowed(what: &str) -> Error {
    let message = format!("{what} over an unbounded relation is not supported");
    let detail = "Its rows never end, so there is no time at which the result is complete.";
    let hint = match what {
        "GROUP BY" => {
            "Group by window_start and window_end of TUMBLE(TABLE …, DESCRIPTOR(…), INTERVAL '…') \
             or HOP(…)."
        }
        "DISTINCT" => "Select distinct rows with window_start and window_end of TUMBLE or HOP.",
        "ORDER BY" => {
            "Leave ORDER BY out, or write the stream into a table with CREATE JOB and order that."
        }
        _ => "Write the stream into a table with CREATE JOB and query that.",
    };
    Error::unsupported(message).with_detail(detail).with_hint(hint)
}

/// The refusal of a grouping that names no window.
pub fn group_without_window() -> Error {
    let hint = "Add window_start or window_end to GROUP BY.";
    Error::unsupported("GROUP BY over a window function must name the window").with_hint(hint)
}

/// The refusal of INSERT or SINK from an unbounded query outside a job, with the text to use.
pub fn bare_insert_refusal(statement_sql: &str) -> Error {
    let message = "INSERT from an unbounded query never ends and must be a job";
    let statement = statement_sql.trim().trim_end_matches(';');
    Error::unsupported(message).with_hint(format!("Use: CREATE JOB my_job AS {statement}"))
}

fn check_join(join: &Join) -> Result<()> {
    let (left, right) = (never_ends(&join.left), never_ends(&join.right));
    let hint = "Write one of them into a table with CREATE JOB and join the other with that table.";
    match (left, right, join.join_type) {
        (false, false, _) => Ok(()),
        (true, true, _) => {
            Err(Error::unsupported("a join of two unbounded relations is not supported")
                .with_hint(hint))
        }
        (_, _, JoinType::Inner) | (true, _, JoinType::Left) | (_, true, JoinType::Right) => Ok(()),
        (true, _, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark) => {
            let message = "EXISTS, IN, INTERSECT and EXCEPT of an unbounded relation";
            Err(Error::unsupported(format!("{message} are not supported"))
                .with_hint("Use JOIN or LEFT JOIN with a table by its key."))
        }
        _ => {
            let message =
                format!("{} JOIN that keeps unmatched rows of the bounded side", join.join_type);
            let detail = "A row without a match could still find one later.";
            Err(Error::unsupported(format!("{message} is not supported"))
                .with_detail(detail)
                .with_hint("Use INNER JOIN, or LEFT JOIN with the unbounded relation on the left."))
        }
    }
}

/// Whether reading `plan` never ends.
fn never_ends(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => is_unbounded_scan(scan),
        LogicalPlan::Limit(limit) if limit.fetch.is_some() => false,
        _ => plan.inputs().into_iter().any(never_ends),
    }
}

fn is_unbounded_scan(scan: &TableScan) -> bool {
    let Ok(provider) = source_as_provider(&scan.source) else { return false };
    // A source that cannot be made is found out when the scan is planned, with its own error.
    let is_stream = provider
        .downcast_ref::<MappingProvider>()
        .is_some_and(|mapping| mapping.is_unbounded().unwrap_or(false));
    is_stream || provider.downcast_ref::<ChangesProvider>().is_some()
}

fn has_window(plan: &LogicalPlan) -> bool {
    WindowNode::of(plan).is_some() || plan.inputs().into_iter().any(has_window)
}

/// Whether an expression of this node holds a subquery over a stream.
fn has_stream_subquery(plan: &LogicalPlan) -> bool {
    plan.expressions().iter().any(|expr| {
        let is_stream = |expr: &Expr| match expr {
            Expr::ScalarSubquery(subquery) => is_unbounded(&subquery.subquery),
            Expr::InSubquery(test) => is_unbounded(&test.subquery.subquery),
            Expr::Exists(test) => is_unbounded(&test.subquery.subquery),
            _ => false,
        };
        expr.exists(|expr| Ok(is_stream(expr))).unwrap_or(false)
    })
}
