//! Limit on what conditions become when they are pushed down: the optimizer moves a condition below
//! the SELECT lists it reads and writes what a column stands for in place of the column, each time.
//!
//! ```text
//! SELECT * FROM (SELECT v + v AS v FROM (SELECT v + v AS v FROM t)) WHERE v > 0
//!   t             v                                    1 part
//!   inner list    v + v                                3
//!   outer list    v + v, each of them v + v            7
//!   WHERE         … > 0                                9; above thirty such lists, four billion
//! ```
//! Each expression is counted once, from the tables up, so counting takes as long as the plan is, not
//! as long as what it stands for. SELECT lists are not merged where that would repeat work, and what
//! an aggregate, a window function or a LIMIT answers is not written out: it counts as one part.

use std::collections::HashMap;

use datafusion::{
    common::{
        Column, TableReference,
        tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor},
    },
    error::Result,
    logical_expr::{Distinct, Expr, Join, JoinType, LogicalPlan, Subquery},
};

use super::limits::too_complex;
use crate::functions::external;

/// Most operands and operators that writing out columns adds to a condition: ten passes of the
/// optimizer go through all of them, which takes about a second.
pub const CONDITION_PARTS_MAX: usize = 40_000;

/// Refuses conditions that columns make too long (54001). What the text itself says, such as a list
/// behind IN, has limits of its own and does not count.
pub fn check(plan: &LogicalPlan) -> crate::Result<()> {
    plan.visit(&mut Counter::default())?;
    Ok(())
}

/// See the module.
#[derive(Default)]
struct Counter {
    /// Parts that each column of a plan stands for, of the plans whose reader comes next.
    columns: Vec<Vec<usize>>,
    /// Most parts of a column so far: what a column of a query further out may stand for.
    largest: usize,
    /// Parts of all expressions so far, as they are written.
    as_written: usize,
}

/// The columns an expression can read, with their parts.
type Scope<'a> = HashMap<(Option<&'a TableReference>, &'a str), usize>;

impl<'n> TreeNodeVisitor<'n> for Counter {
    type Node = LogicalPlan;

    fn f_up(&mut self, plan: &'n LogicalPlan) -> Result<TreeNodeRecursion> {
        let inputs = plan.inputs();
        let below = self.columns.split_off(self.columns.len().saturating_sub(inputs.len()));
        let mut scope = Scope::new();
        for (input, columns) in inputs.iter().zip(&below) {
            let names = input.schema().iter().map(|(table, field)| (table, field.name().as_str()));
            scope.extend(names.zip(columns.iter().copied()));
        }
        let mut expressions = Vec::new();
        plan.apply_expressions(|expression| {
            expressions.push(self.parts(expression, &scope)?);
            Ok(TreeNodeRecursion::Continue)
        })?;
        if matches!(plan, LogicalPlan::Filter(_) | LogicalPlan::Join(_)) {
            expressions.iter().try_for_each(|parts| self.check(*parts))?;
        }
        let mut columns = output(plan, below, expressions);
        columns.resize(plan.schema().fields().len(), 1);
        self.largest = columns.iter().copied().fold(self.largest, usize::max);
        self.columns.push(columns);
        Ok(TreeNodeRecursion::Continue)
    }
}

impl Counter {
    /// Operands and operators of an expression with its columns written out.
    fn parts(&mut self, expression: &Expr, scope: &Scope<'_>) -> Result<usize> {
        let mut parts = 0_usize;
        expression.apply(|node| {
            let more = match node {
                Expr::Alias(_) => return Ok(TreeNodeRecursion::Continue),
                Expr::Column(Column { relation, name, .. }) => {
                    scope.get(&(relation.as_ref(), name.as_str())).copied().unwrap_or(1)
                }
                Expr::OuterReferenceColumn(..) => self.largest.max(1),
                Expr::ScalarSubquery(subquery) => self.subquery(subquery)?,
                Expr::Exists(exists) => self.subquery(&exists.subquery)?,
                Expr::InSubquery(list) => self.subquery(&list.subquery)?,
                Expr::SetComparison(list) => self.subquery(&list.subquery)?,
                _ => 1,
            };
            parts = parts.saturating_add(more);
            self.as_written += 1;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(parts)
    }

    /// The parts of a subquery's first column; its conditions are checked.
    fn subquery(&mut self, subquery: &Subquery) -> Result<usize> {
        subquery.subquery.visit(self)?;
        let columns = self.columns.pop().unwrap_or_default();
        Ok(columns.first().copied().unwrap_or(1))
    }

    fn check(&self, parts: usize) -> Result<()> {
        let added = parts.saturating_sub(self.as_written);
        match added > CONDITION_PARTS_MAX {
            true => Err(external(too_complex(format!(
                "Writing out the columns of subqueries, WITH queries and views adds {added} operands \
                 and operators to a condition; at most {CONDITION_PARTS_MAX} are planned."
            )))),
            false => Ok(()),
        }
    }
}

/// Parts of a plan's columns, from those of its inputs and of its expressions; columns that are
/// missing at the end count as one.
fn output(plan: &LogicalPlan, mut below: Vec<Vec<usize>>, expressions: Vec<usize>) -> Vec<usize> {
    match plan {
        LogicalPlan::Projection(_) => expressions,
        LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.as_slice() {
            [Expr::GroupingSet(_)] => Vec::new(),
            keys => expressions.into_iter().take(keys.len()).collect(),
        },
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::Repartition(_) => below.pop().unwrap_or_default(),
        LogicalPlan::Join(Join { join_type, .. }) => match join_type {
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                below.pop().unwrap_or_default()
            }
            _ => below.concat(),
        },
        LogicalPlan::Unnest(unnest) => {
            let input = below.pop().unwrap_or_default();
            let parts = |index: &usize| input.get(*index).copied().unwrap_or(1);
            unnest.dependency_indices.iter().map(parts).collect()
        }
        LogicalPlan::Union(_) => below
            .into_iter()
            .reduce(|left, right| left.into_iter().zip(right).map(|(a, b)| a.max(b)).collect())
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::LogicalPlan;

    use super::check;
    use crate::functions::testing::context;

    fn plan(sql: &str) -> LogicalPlan {
        let state = context().state();
        futures::executor::block_on(state.create_logical_plan(sql)).unwrap()
    }

    /// The detail of the refusal, `None` if it is planned.
    fn refusal(sql: &str) -> Option<String> {
        let error = check(&plan(sql)).err()?;
        assert_eq!(error.code, "54001", "{sql}");
        error.detail
    }

    /// A query over `deep`: so many SELECT lists, each over the one before, the first over `v, k`.
    fn over(list: &str, depth: usize, query: &str) -> String {
        let lists: Vec<String> =
            (1..=depth).map(|n| format!("c{n} AS (SELECT {list} FROM c{})", n - 1)).collect();
        let first = "c0 AS (SELECT * FROM (VALUES (1, 2)) AS t(v, k))";
        format!("WITH {first}, {}, deep AS (SELECT * FROM c{depth}) {query}", lists.join(", "))
    }

    const DOUBLED: &str = "v + v AS v, k";

    #[test]
    fn conditions_over_columns_that_double_are_refused() {
        let sql = |depth| over(DOUBLED, depth, "SELECT * FROM deep WHERE v > 0");
        assert_eq!(refusal(&sql(14)), None);
        let detail = refusal(&sql(15)).unwrap();
        assert!(detail.contains("adds 65"), "{detail}");
        assert!(detail.ends_with("at most 40000 are planned."), "{detail}");
        assert!(refusal(&sql(100)).is_some(), "2 to the power of 100 is no small number");
    }

    #[test]
    fn every_kind_of_condition_is_counted() {
        for query in [
            "SELECT * FROM deep JOIN (VALUES (1)) AS u(x) ON v > x",
            "SELECT * FROM deep JOIN (VALUES (1)) AS u(x) ON v = x",
            "SELECT v, count(*) FROM deep GROUP BY v HAVING v > 0",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM deep WHERE v > 0)",
            "SELECT * FROM deep WHERE EXISTS (SELECT 1 WHERE v > 0)",
            "SELECT * FROM (SELECT v FROM deep UNION ALL SELECT 1) AS u WHERE v > 0",
            "SELECT * FROM (SELECT DISTINCT v FROM deep ORDER BY v) AS u WHERE v > 0",
            "SELECT * FROM (SELECT (SELECT v FROM deep) AS x) AS u WHERE x > 0",
        ] {
            assert!(refusal(&over(DOUBLED, 20, query)).is_some(), "{query}");
        }
    }

    #[test]
    fn what_is_not_written_out_is_not_refused() {
        for query in [
            "SELECT * FROM deep",
            "SELECT * FROM deep ORDER BY v",
            "SELECT * FROM deep WHERE k > 0",
            "SELECT k, sum(v) FROM deep GROUP BY k HAVING sum(v) > 0",
            "SELECT * FROM (SELECT v FROM deep LIMIT 3) AS u WHERE v > 0",
        ] {
            assert_eq!(refusal(&over(DOUBLED, 30, query)), None, "{query}");
        }
        let sum = over("v + 1 AS v, k", 60, "SELECT * FROM deep WHERE v > 0");
        assert_eq!(refusal(&sum), None);
    }

    #[test]
    fn what_the_text_says_is_not_counted() {
        let list = vec!["1"; 90_000].join(", ");
        let inner = format!("(SELECT v IN ({list}) AS b FROM (VALUES (1)) AS t(v)) AS s");
        assert_eq!(refusal(&format!("SELECT * FROM {inner} WHERE b")), None);
        assert!(refusal(&format!("SELECT * FROM {inner} WHERE b = b")).is_some());
    }
}
