//! Limits on the width of a query, counted on its syntax tree, and on what its names stand for (WITH
//! queries, views), counted before anything rewrites the plan: a short text can stand for a plan of
//! any size.

use std::{collections::HashSet, ops::ControlFlow};

use datafusion::{
    common::tree_node::TreeNodeRecursion,
    logical_expr::LogicalPlan,
    sql::sqlparser::ast::{self, Expr, Query, Select, SetExpr, Visit, Visitor},
};

use super::{
    fold,
    limits::{at_most, too_complex},
    written_out,
};
use crate::{Error, Result, dml::placeholder};

/// Most values of VALUES lists that are not all literals: each is an expression to plan.
pub const COMPUTED_VALUES_MAX: usize = 10_000;

/// Most columns of one SELECT list, as in PostgreSQL.
pub const TARGET_ENTRIES_MAX: usize = 1664;

/// Most WITH queries of a statement. Each may read the one before, which makes a plan as deep.
const WITH_QUERIES_MAX: usize = 256;

/// Most relations of one FROM: what joins know of each other's columns grows with their square.
const FROM_RELATIONS_MAX: usize = 64;

/// Most sort keys, and most grouping keys: orders are compared with each other.
const KEYS_MAX: usize = 512;

/// Most WHEN of one CASE: each becomes a branch that is evaluated by itself.
const CASE_BRANCHES_MAX: usize = 5_000;

/// Most subqueries inside each other in expressions: each level is analysed twice, once by itself and
/// once as a part of what it stands in.
const SUBQUERY_DEPTH_MAX: usize = 16;

/// Most different windows of a query; any number of functions may share one. Each is a step that
/// sorts, and knows the orders of those below it and of their columns: time and memory grow with
/// more than the square of their number.
const WINDOWS_MAX: usize = 128;

/// Most relations of a query, with WITH queries written out in each place where they are named:
/// eleven of them, each joining the one before with itself, read the first 1024 times.
const RELATIONS_MAX: usize = 1_000;

/// Most steps of a plan, with the queries that CTEs and views stand for written out in each place
/// where they are named.
const PLAN_STEPS_MAX: usize = 4_000;

/// Refuses queries that are wider than anybody can want: 54011 for columns, as in PostgreSQL, 54001
/// for the rest.
pub fn check_query(query: &Query) -> Result<()> {
    match query.visit(&mut Widths::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// What [`check_query`] has counted.
#[derive(Default)]
struct Widths {
    with_queries: usize,
    subquery_depth: usize,
    /// Windows met so far, as text.
    windows: HashSet<String>,
    /// The query being visited, and those around it.
    scopes: Vec<Scope>,
}

/// A query: what its WITH queries stand for, and how many relations it reads itself.
#[derive(Default)]
struct Scope {
    /// Names of its WITH queries: the visitor meets these first, in this order.
    pending: Vec<String>,
    /// Relations that each of them reads, as far as they have been met.
    sizes: Vec<usize>,
    relations: usize,
}

impl Visitor for Widths {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        let pending: Vec<String> = tables.map(|table| fold(&table.alias.name)).collect();
        self.with_queries += pending.len();
        self.scopes.push(Scope { pending, ..Scope::default() });
        let order = match query.order_by.as_ref().map(|order| &order.kind) {
            Some(ast::OrderByKind::Expressions(keys)) => keys.len(),
            _ => 0,
        };
        flow(at_most(self.with_queries, WITH_QUERIES_MAX, "WITH queries"))?;
        flow(at_most(order, KEYS_MAX, "sort keys"))?;
        match query.body.as_ref() {
            SetExpr::Values(values) => flow(check_values(values)),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Error> {
        flow(self.leave_query())
    }

    fn pre_visit_relation(&mut self, name: &ast::ObjectName) -> ControlFlow<Error> {
        flow(self.read(name))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        let keys = match &select.group_by {
            ast::GroupByExpr::Expressions(keys, _) => keys.len(),
            ast::GroupByExpr::All(_) => 0,
        };
        let relations = select.from.iter().map(|from| 1 + from.joins.len()).sum();
        flow(check_targets(select.projection.len()))?;
        flow(at_most(relations, FROM_RELATIONS_MAX, "relations in one FROM"))?;
        flow(at_most(keys, KEYS_MAX, "grouping keys"))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Case { conditions, .. } => {
                flow(at_most(conditions.len(), CASE_BRANCHES_MAX, "branches of one CASE"))
            }
            Expr::Function(ast::Function { over: Some(window), .. }) => {
                self.windows.insert(window.to_string());
                flow(at_most(self.windows.len(), WINDOWS_MAX, "different windows"))
            }
            _ if is_subquery(expr) => {
                self.subquery_depth += 1;
                let what = "subqueries inside each other";
                flow(at_most(self.subquery_depth, SUBQUERY_DEPTH_MAX, what))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        self.subquery_depth -= usize::from(is_subquery(expr));
        ControlFlow::Continue(())
    }
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. })
}

impl Widths {
    /// A relation is named: a WITH query stands for all that it reads.
    fn read(&mut self, name: &ast::ObjectName) -> Result<()> {
        let name = match name.0.as_slice() {
            [name] => name.as_ident().map(fold),
            _ => None,
        };
        let size_in = |scope: &Scope| {
            let position = scope.pending.iter().position(|pending| Some(pending) == name.as_ref());
            position.and_then(|position| scope.sizes.get(position).copied())
        };
        let size = self.scopes.iter().rev().find_map(size_in).unwrap_or(1);
        self.add(size)
    }

    /// The innermost query ends: it is one of the WITH queries around it, or part of that query.
    fn leave_query(&mut self) -> Result<()> {
        let size = self.scopes.pop().map_or(0, |scope| scope.relations);
        match self.scopes.last_mut() {
            Some(scope) if scope.sizes.len() < scope.pending.len() => {
                scope.sizes.push(size.max(1));
                Ok(())
            }
            _ => self.add(size),
        }
    }

    fn add(&mut self, size: usize) -> Result<()> {
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        scope.relations += size;
        let what = "relations, with WITH queries written out where they are named";
        at_most(scope.relations, RELATIONS_MAX, what)
    }
}

/// A VALUES list is as long as its text may be when it holds data, and short when it is a program.
fn check_values(values: &ast::Values) -> Result<()> {
    let width = values.rows.first().map_or(0, |row| row.content.len());
    check_targets(width)?;
    // The wire bounds the number of parameters.
    let is_computed = |cell: &&Expr| !is_literal(cell) && !is_parameter(cell);
    let computed = values.rows.iter().flat_map(|row| &row.content).filter(is_computed);
    at_most(computed.count(), COMPUTED_VALUES_MAX, "expressions in VALUES that are no literals")
        .map_err(|error| error.with_hint("Load many rows with COPY."))
}

/// Whether an expression is a literal: a number with or without a sign, a string, TRUE, NULL.
pub fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => !matches!(value.value, ast::Value::Placeholder(_)),
        Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => {
            matches!(expr.as_ref(), Expr::Value(value)
                if matches!(value.value, ast::Value::Number(..)))
        }
        _ => false,
    }
}

/// Whether an expression is `$n`, or that as a value of the type it is known to have.
fn is_parameter(expr: &Expr) -> bool {
    match expr {
        Expr::Cast { expr, .. } => is_parameter(expr),
        expr => placeholder(expr).is_some(),
    }
}

/// Refuses a result of more columns than PostgreSQL's (54011).
fn check_targets(count: usize) -> Result<()> {
    match count > TARGET_ENTRIES_MAX {
        true => {
            let message = format!("target lists can have at most {TARGET_ENTRIES_MAX} entries");
            Err(Error::new("54011", message).with_detail(format!("It has {count}.")))
        }
        false => Ok(()),
    }
}

/// Refuses a plan that has grown beyond all reason through names that stand for queries or columns
/// (54001), or that answers too many columns (54011). Time is bounded by the limit, not by the plan.
pub fn check_plan(plan: &LogicalPlan) -> Result<()> {
    check_targets(plan.schema().fields().len())?;
    let (mut steps, mut windows) = (0, 0);
    plan.apply_with_subqueries(|step| {
        steps += 1;
        windows += usize::from(matches!(step, LogicalPlan::Window(_)));
        Ok(match steps > PLAN_STEPS_MAX {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    at_most(windows, WINDOWS_MAX, "different windows, with WITH queries and views written out")?;
    match steps > PLAN_STEPS_MAX {
        true => Err(too_complex(format!(
            "With its WITH queries and views written out, it has more than {PLAN_STEPS_MAX} steps."
        ))),
        false => written_out::check(plan),
    }
}

fn flow(result: Result<()>) -> ControlFlow<Error> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

#[cfg(test)]
mod tests {
    use super::check_query;
    use crate::parse::parse_query;

    #[test]
    fn with_queries_count_where_they_are_named() {
        let doubling = |depth: usize| {
            let more: Vec<String> = (1..depth)
                .map(|n| format!("c{n} AS (SELECT a.x FROM c{} a, c{} b)", n - 1, n - 1))
                .collect();
            let sql = format!(
                "WITH c0 AS (SELECT 1 AS x), {} SELECT * FROM c{}",
                more.join(", "),
                depth - 1
            );
            check_query(&parse_query(&sql).unwrap())
        };
        assert!(doubling(10).is_ok());
        let error = doubling(60).unwrap_err();
        assert_eq!(error.code, "54001");
        assert!(error.detail.unwrap().starts_with("It has 1024 relations"));
    }

    #[test]
    fn wide_queries_are_refused() {
        let code = |sql: &str| check_query(&parse_query(sql).unwrap()).err().map(|e| e.code);
        let join = vec!["t"; 65].join(" CROSS JOIN ");
        assert_eq!(code(&format!("SELECT 1 FROM {join}")), Some("54001"));
        let keys = vec!["k"; 513].join(",");
        assert_eq!(code(&format!("SELECT 1 FROM t GROUP BY {keys}")), Some("54001"));
        assert_eq!(code(&format!("SELECT 1 FROM t ORDER BY {keys}")), Some("54001"));
        let nested = format!("SELECT {}1{}", "(SELECT ".repeat(17), ")".repeat(17));
        assert_eq!(code(&nested), Some("54001"));
        let branches = "WHEN 1 THEN 2 ".repeat(5_001);
        assert_eq!(code(&format!("SELECT CASE k {branches} END FROM t")), Some("54001"));
        assert_eq!(code(&format!("VALUES ({})", vec!["1"; 1665].join(","))), Some("54011"));
        let windows = |count: usize, order: fn(usize) -> String| {
            let sums: Vec<String> =
                (0..count).map(|n| format!("sum(k) OVER (ORDER BY {})", order(n))).collect();
            code(&format!("SELECT {} FROM t", sums.join(",")))
        };
        assert_eq!(windows(128, |n| format!("k + {n}")), None);
        assert_eq!(windows(129, |n| format!("k + {n}")), Some("54001"));
        assert_eq!(windows(1_000, |_| "k".to_owned()), None);
        let calls = vec!["(abs(1))"; 10_001].join(",");
        assert_eq!(code(&format!("VALUES {calls}")), Some("54001"));
        let literals = vec!["(1)"; 10_001].join(",");
        assert_eq!(code(&format!("VALUES {literals}")), None);
        let parameters: Vec<String> =
            (1..=20_000).map(|n| format!("(CAST(${n} AS BIGINT))")).collect();
        assert_eq!(code(&format!("VALUES {}", parameters.join(","))), None);
    }
}
