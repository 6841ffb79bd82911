//! Operators: which function computes them, which of them do not exist.
//! Times and intervals stay DataFusion's; numbers never do.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    common::{
        DFSchema, ScalarValue,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    error::{DataFusionError, Result},
    logical_expr::{
        Case, Cast, Expr, Operator,
        expr::{BinaryExpr, ScalarFunction},
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
        utils::{conjunction, split_conjunction_owned},
    },
    prelude::lit,
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    casts, numeric,
    semantics::{KnownType, binary_expr, call, changed},
};
use crate::{
    SqlType,
    functions::{
        arithmetic::{self, Arithmetic},
        error::user_error,
    },
};

/// Operators while SQL is planned: DataFusion asks for the type of `k + '3'` there and then.
#[derive(Debug, Default)]
pub struct PostgresOperators;

impl ExprPlanner for PostgresOperators {
    fn plan_binary_op(
        &self,
        raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let Some(op) = operator_of(&raw.op) else { return Ok(PlannerResult::Original(raw)) };
        let RawBinaryExpr { left, right, .. } = raw;
        let operands = BinaryExpr::new(Box::new(left), op, Box::new(right));
        Ok(PlannerResult::Planned(binary(operands, schema)?.data))
    }
}

/// The operators whose types are settled early; all others are DataFusion's to plan.
fn operator_of(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Modulo,
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}

/// A binary operator over operands whose own operators are already done.
pub fn binary(binary: BinaryExpr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let BinaryExpr { left, op, right } = binary;
    let (mut left, mut right) = (*left, *right);
    let mut operands = [left, right];
    let is_concat = op == Operator::StringConcat;
    let unifies = is_comparison(op) || Arithmetic::of(op).is_some();
    let is_changed = unifies && casts::unify_literals(&mut operands, schema)?;
    [left, right] = operands;
    let types = (left.get_type_if_known(schema), right.get_type_if_known(schema));
    let (Some(left_type), Some(right_type)) = types else {
        return Ok(changed(binary_expr(left, op, right), is_changed));
    };
    if let Some(arithmetic) = Arithmetic::of(op) {
        return operate(arithmetic, (left, left_type), (right, right_type), op, schema);
    }
    if is_comparison(op) && is_text(&left_type) != is_text(&right_type) {
        let is_number = |data_type: &DataType| {
            data_type.is_numeric() || *data_type == DataType::Boolean || data_type.is_temporal()
        };
        if is_number(&left_type) || is_number(&right_type) {
            return Err(no_operator(&op.to_string(), &left, &right, schema));
        }
    }
    if is_concat && is_text(&left_type) != is_text(&right_type) && !left_type.is_nested() {
        left = casts::to_text(left, &left_type);
        right = casts::to_text(right, &right_type);
        return Ok(Transformed::yes(binary_expr(left, op, right)));
    }
    Ok(changed(binary_expr(left, op, right), is_changed))
}

fn operate(
    arithmetic: Arithmetic,
    (left, left_type): (Expr, DataType),
    (right, right_type): (Expr, DataType),
    op: Operator,
    schema: &DFSchema,
) -> Result<Transformed<Expr>> {
    if let Some((left_to, right_to)) = numeric::common_type(&left_type, &right_type) {
        let left = plain_cast(left, &left_type, left_to);
        let right = plain_cast(right, &right_type, right_to);
        return Ok(Transformed::yes(call(arithmetic.function(), vec![left, right])));
    }
    if let Some(expr) = dates(arithmetic, (&left, &left_type), (&right, &right_type)) {
        return Ok(Transformed::yes(expr));
    }
    if is_text(&left_type) || is_text(&right_type) {
        return Err(no_operator(&op.to_string(), &left, &right, schema));
    }
    Ok(Transformed::no(binary_expr(left, op, right)))
}

/// `date + 3`, `date - 3`, `date - date`: days.
fn dates(
    arithmetic: Arithmetic,
    (left, left_type): (&Expr, &DataType),
    (right, right_type): (&Expr, &DataType),
) -> Option<Expr> {
    use DataType::{Date32, Int16, Int32};
    let days = |expr: &Expr| plain_cast(expr.clone(), &Date32, Int32);
    let number = |expr: &Expr, data_type: &DataType| plain_cast(expr.clone(), data_type, Int32);
    let apply = |left, right| call(arithmetic.function(), vec![left, right]);
    Some(match (arithmetic, left_type, right_type) {
        (Arithmetic::Subtract, Date32, Date32) => apply(days(left), days(right)),
        (Arithmetic::Add | Arithmetic::Subtract, Date32, Int16 | Int32) => {
            plain_cast(apply(days(left), number(right, right_type)), &Int32, Date32)
        }
        (Arithmetic::Add, Int16 | Int32, Date32) => {
            plain_cast(apply(number(left, left_type), days(right)), &Int32, Date32)
        }
        _ => return None,
    })
}

/// Unary minus.
pub fn negative(inner: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match inner.get_type_if_known(schema) {
        Some(data_type) if data_type.is_numeric() => {
            Ok(Transformed::yes(call(arithmetic::negate(), vec![inner])))
        }
        Some(DataType::Utf8) => {
            let message = "operator does not exist: - text";
            Err(user_error("42883", message))
        }
        _ => Ok(Transformed::no(Expr::Negative(Box::new(inner)))),
    }
}

/// CASE: literals among the results take the others' type, literals behind WHEN the operand's.
pub fn case(mut case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut is_changed = false;
    if let Some(operand) = &mut case.expr {
        let mut operands = vec![std::mem::take(operand.as_mut())];
        operands
            .extend(case.when_then_expr.iter_mut().map(|(when, _)| std::mem::take(when.as_mut())));
        is_changed |= casts::unify_literals(&mut operands, schema)?;
        let mut operands = operands.into_iter();
        **operand = operands.next().unwrap_or_default();
        for ((when, _), value) in case.when_then_expr.iter_mut().zip(operands) {
            **when = value;
        }
    }
    let mut results: Vec<&mut Expr> =
        case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut()).collect();
    results.extend(case.else_expr.as_deref_mut());
    let mut values: Vec<Expr> = results.iter_mut().map(|result| std::mem::take(*result)).collect();
    is_changed |= casts::unify_literals(&mut values, schema)?;
    for (result, value) in results.into_iter().zip(values) {
        *result = value;
    }
    Ok(changed(Expr::Case(case), is_changed))
}

/// Functions whose arguments share one type, and those that print their arguments.
pub fn function(mut function: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_changed = match function.func.name() {
        "coalesce" | "nullif" | "greatest" | "least" | "array_append" => {
            casts::unify_literals(&mut function.args, schema)?
        }
        "concat" | "concat_ws" => {
            let mut is_changed = false;
            for arg in &mut function.args {
                let Some(data_type) = arg.get_type_if_known(schema) else { continue };
                if !is_text(&data_type) && data_type != DataType::Null {
                    *arg = casts::to_text(std::mem::take(arg), &data_type);
                    is_changed = true;
                }
            }
            is_changed
        }
        _ => false,
    };
    Ok(changed(Expr::ScalarFunction(function), is_changed))
}

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
    let mut divisor = args.last();
    while let Some(Expr::Cast(cast)) = divisor {
        divisor = Some(&cast.expr);
    }
    let Some(Expr::Literal(divisor, _)) = divisor else { return false };
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

/// 42883 for an operator over these operands.
pub fn no_operator(op: &str, left: &Expr, right: &Expr, schema: &DFSchema) -> DataFusionError {
    let name = |expr: &Expr| match expr.get_type_if_known(schema) {
        Some(data_type) => SqlType::of_arrow(&data_type).name(),
        None => "unknown".to_owned(),
    };
    let message = format!("operator does not exist: {} {op} {}", name(left), name(right));
    user_error("42883", message)
}

fn plain_cast(expr: Expr, from: &DataType, to: DataType) -> Expr {
    if *from == to { expr } else { Expr::Cast(Cast::new(Box::new(expr), to)) }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Whether it is a text.
pub fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether µs timestamps are meant; DataFusion's own functions answer ns.
pub fn is_timestamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _))
}
