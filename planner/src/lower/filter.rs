//! Filter: however many nodes of the plan ask something of the same rows, one vertex asks it all.
//! Cheap conditions go first; those that may raise are asked only of the rows the others keep.
//!
//! ```text
//! Filter(CASE WHEN k <> 0 THEN … 10 / k > 1 … END = 1)        filter(CASE WHEN k <> 0
//!   Filter(k <> 0)                                     ──→           THEN 10 / k > 1 END)
//!     TableScan                                                  scan
//! ```
//! The analyzer writes the CASE ([`crate::rules::guards::guard`]), the optimizer moves the
//! plain conditions below it; here they meet again.

use std::sync::Arc;

use datafusion::{
    common::{
        ScalarValue,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{self as df, Operator},
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::{BinaryExpr, CaseExpr, CastExpr, Literal},
    },
};
use runtime::processors;

use super::{Lowering, Stage, expression::named_by};
use crate::Result;

type Physical = Arc<dyn PhysicalExpr>;

/// The conditions of one filter vertex, all of which a row must meet.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// Asked of every row.
    plain: Vec<Physical>,
    /// Asked of the rows that the plain ones keep.
    guarded: Vec<Physical>,
}

impl Lowering<'_> {
    pub(super) fn filter(&mut self, filter: &df::Filter) -> Result<Stage> {
        let input = self.relation(&filter.input)?;
        let predicate = self.physical(&filter.predicate, filter.input.schema())?;
        self.filtered_by(input, predicate)
    }

    /// Adds a filter, or adds to the one that `input` is.
    pub(super) fn filtered_by(&mut self, input: Stage, predicate: Physical) -> Result<Stage> {
        let (input, mut conditions) = match self.filters.get(&input.vertex).cloned() {
            Some((below, conditions)) if self.remove_newest(input.vertex) => (below, conditions),
            _ => (input, Conditions::default()),
        };
        conditions.add(&named_by(&predicate, &input.schema));
        let predicate = conditions.predicate()?;
        let supplier = processors::filter(predicate, Arc::clone(&input.schema));
        let stage = self.local("filter", &input, supplier);
        self.filters.insert(stage.vertex, (input, conditions));
        Ok(stage)
    }
}

impl Conditions {
    /// Adds the conjuncts of a predicate, each once.
    fn add(&mut self, predicate: &Physical) {
        if let Some((left, right)) = conjunction(predicate) {
            self.add(left);
            self.add(right);
            return;
        }
        match guard(predicate) {
            Some((guards, guarded)) => {
                self.add(guards);
                add_conjuncts(guarded, &mut self.guarded);
            }
            None => add_conjuncts(predicate, &mut self.plain),
        }
    }

    /// The one predicate.
    fn predicate(&self) -> Result<Physical> {
        let mut plain = self.plain.clone();
        plain.sort_by_key(cost);
        let and = |conditions: Vec<Physical>| {
            conditions
                .into_iter()
                .reduce(|left, right| Arc::new(BinaryExpr::new(left, Operator::And, right)))
        };
        Ok(match (and(plain), and(self.guarded.clone())) {
            (Some(plain), Some(guarded)) => {
                Arc::new(CaseExpr::try_new(None, vec![(plain, guarded)], None)?)
            }
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => Arc::new(Literal::new(ScalarValue::Boolean(Some(true)))),
        })
    }
}

fn add_conjuncts(predicate: &Physical, conditions: &mut Vec<Physical>) {
    if let Some((left, right)) = conjunction(predicate) {
        add_conjuncts(left, conditions);
        add_conjuncts(right, conditions);
    } else if !conditions.contains(predicate) {
        conditions.push(Arc::clone(predicate));
    }
}

fn conjunction(predicate: &Physical) -> Option<(&Physical, &Physical)> {
    let binary = predicate.downcast_ref::<BinaryExpr>()?;
    (*binary.op() == Operator::And).then(|| (binary.left(), binary.right()))
}

/// The guards and the guarded condition, if the analyzer's guard is what this is.
fn guard(predicate: &Physical) -> Option<(&Physical, &Physical)> {
    let comparison = predicate.downcast_ref::<BinaryExpr>()?;
    let one = comparison.right().downcast_ref::<Literal>()?;
    let case = comparison.left().downcast_ref::<CaseExpr>()?;
    let is_guard = *comparison.op() == Operator::Eq
        && *one.value() == ScalarValue::Int16(Some(1))
        && case.expr().is_none()
        && case.else_expr().is_none();
    let [(guards, answer)] = case.when_then_expr() else { return None };
    is_guard.then_some((guards, answer.downcast_ref::<CastExpr>()?.expr()))
}

/// Calls in an expression: what a comparison of columns and constants has none of.
fn cost(expr: &Physical) -> usize {
    let mut calls = 0;
    let counted = expr.apply(|node| {
        calls += usize::from(node.downcast_ref::<ScalarFunctionExpr>().is_some());
        Ok(TreeNodeRecursion::Continue)
    });
    // Counting cannot fail; an expression that did is asked last.
    if counted.is_ok() { calls } else { usize::MAX }
}
