//! Conditions that may raise are asked only of the rows that the others keep: people write
//! `k <> 0 AND 10 / k > 1`, and PostgreSQL nearly always does what they mean.
//!
//! ```text
//! k <> 0 AND 10 / k > 1   →   k <> 0 AND CASE WHEN k <> 0 THEN (10 / k > 1)::smallint END = 1
//! ```
//! The plain condition stays beside the CASE, so that the optimizer can move it to the scan.

use arrow::datatypes::DataType;
use datafusion::{
    common::{
        DFSchema, ScalarValue,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{
        Case, Cast, Expr, Operator,
        expr::BinaryExpr,
        utils::{conjunction, split_conjunction_owned},
    },
    prelude::lit,
};

use super::{casts, numeric, semantics::KnownType};

/// `a AND b` in WHERE may not raise in `b` for rows that `a` leaves out: people write
/// `k <> 0 AND 10 / k > 1`. The conjuncts that may raise are asked only where the others hold. The
/// CASE around them answers a number, because DataFusion turns one of booleans back into AND.
pub fn guard(predicate: Expr, schema: &DFSchema) -> Expr {
    let conjuncts = split_conjunction_owned(predicate);
    let (risky, safe): (Vec<_>, Vec<_>) =
        conjuncts.into_iter().partition(|conjunct| may_raise(conjunct, schema));
    let guards: Vec<Expr> = safe.iter().filter(|expr| !has_subquery(expr)).cloned().collect();
    let (guards, risky) = match (conjunction(guards), conjunction(risky)) {
        (Some(guards), Some(risky)) if !has_subquery(&risky) => (guards, risky),
        (_, risky) => {
            let all = safe.into_iter().chain(risky);
            return conjunction(all).unwrap_or_else(|| lit(true));
        }
    };
    let answer = Expr::Cast(Cast::new(Box::new(risky), DataType::Int16));
    let guarded = Case::new(None, vec![(Box::new(guards), Box::new(answer))], None);
    let guarded = Expr::Case(guarded).eq(lit(1i16));
    conjunction(safe.into_iter().chain([guarded])).unwrap_or_else(|| lit(true))
}

/// A predicate without the conditions that a guard in it asks anyway; and whether there were any.
pub fn without_repeated_guards(predicate: Expr) -> (Expr, bool) {
    let conjuncts = split_conjunction_owned(predicate);
    let guards: Vec<Expr> = conjuncts.iter().filter_map(guards_of).flatten().collect();
    let count = conjuncts.len();
    let kept: Vec<Expr> =
        conjuncts.into_iter().filter(|conjunct| !guards.contains(conjunct)).collect();
    let is_changed = kept.len() < count;
    (conjunction(kept).unwrap_or_else(|| lit(true)), is_changed)
}

/// The conditions of a CASE that [`guard`] wrote.
fn guards_of(conjunct: &Expr) -> Option<Vec<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = conjunct else {
        return None;
    };
    let Expr::Case(Case { expr: None, when_then_expr, else_expr: None }) = left.as_ref() else {
        return None;
    };
    let [(guards, _)] = when_then_expr.as_slice() else { return None };
    (**right == lit(1i16)).then(|| split_conjunction_owned(guards.as_ref().clone()))
}

fn has_subquery(expr: &Expr) -> bool {
    let is_subquery = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
        ))
    };
    expr.exists(is_subquery).unwrap_or(true)
}

/// Whether evaluating it can fail on values people guard against: division, and casts that read a
/// text or narrow a number. (A sum that leaves its type fails wherever it stands.)
fn may_raise(expr: &Expr, schema: &DFSchema) -> bool {
    const RISKY: [&str; 3] = ["checked_divide", "checked_modulo", "mod"];
    let mut is_risky = false;
    let _ = expr.apply(|expr| {
        if let Expr::ScalarFunction(function) = expr {
            let name = function.func.name();
            is_risky |= RISKY.contains(&name) && !divides_by_constant(&function.args);
            is_risky |= name == casts::NAME && cast_may_raise(expr, &function.args, schema);
        }
        // A guard that is already there.
        let is_guard = matches!(expr, Expr::Case(_) | Expr::ScalarSubquery(_));
        Ok(if is_guard { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
    });
    is_risky
}

/// Whether the divisor is an integer constant that is not zero, whatever it is cast to.
fn divides_by_constant(args: &[Expr]) -> bool {
    let Some(divisor) = args.last().and_then(casts::constant) else { return false };
    divisor.data_type().is_integer()
        && ScalarValue::new_zero(&divisor.data_type()).is_ok_and(|zero| *divisor != zero)
}

/// Whether a cast of ours may fail: not that of a constant, which fails while planning, and not
/// that of an integer to a NUMERIC with room for it.
fn cast_may_raise(cast: &Expr, args: &[Expr], schema: &DFSchema) -> bool {
    let [operand] = args else { return true };
    if matches!(operand, Expr::Literal(..)) {
        return false;
    }
    let types = (operand.get_type_if_known(schema), cast.get_type_if_known(schema));
    match types {
        (Some(from), Some(DataType::Decimal128(precision, scale))) if from.is_integer() => {
            i16::from(precision) - i16::from(scale) < i16::from(numeric::integer_digits(&from))
        }
        _ => true,
    }
}
