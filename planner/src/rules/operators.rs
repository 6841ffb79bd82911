//! Operators: which function computes them, which of them do not exist.
//! Numbers are never DataFusion's; times and intervals are where [`super::times`] says so.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::{
    common::{DFSchema, ScalarValue, tree_node::Transformed},
    error::{DataFusionError, Result},
    logical_expr::{
        Case, Cast, Expr, Operator,
        expr::{BinaryExpr, ScalarFunction},
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
    },
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    casts, numeric,
    semantics::{KnownType, binary_expr, call, changed},
    times::{arrow_computes, dates, times},
};
use crate::{
    Error, SqlType,
    functions::{
        arithmetic::{self, Arithmetic},
        cast::cast_function,
        declared_text,
        error::user_error,
        external, interval, math,
        text::bool_letter,
    },
    types::NUMERIC_PRECISION_MAX,
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
    let is_interval = |data_type: &DataType| matches!(data_type, DataType::Interval(_));
    if is_comparison(op) && is_interval(&left_type) && is_interval(&right_type) {
        // By length: a day is 24 hours, a month 30 days. Arrow would compare field by field.
        let [left, right] = [left, right].map(|side| call(interval::interval_length(), vec![side]));
        return Ok(Transformed::yes(binary_expr(left, op, right)));
    }
    if is_comparison(op) && is_text(&left_type) != is_text(&right_type) {
        let is_number = |data_type: &DataType| {
            data_type.is_numeric() || *data_type == DataType::Boolean || data_type.is_temporal()
        };
        if is_number(&left_type) || is_number(&right_type) {
            return Err(no_operator(&op.to_string(), &left, &right, schema));
        }
    }
    if is_pattern(op)
        && let Some(sql_type) = casts::char_type(&left, schema)
    {
        let left = declared_text::padded(left, &sql_type);
        return Ok(Transformed::yes(binary_expr(left, op, right)));
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
    if let Some(expr) = times(arithmetic, (&left, &left_type), (&right, &right_type)) {
        return Ok(Transformed::yes(expr));
    }
    let is_known = |data_type: &DataType| {
        data_type.is_numeric()
            || data_type.is_temporal()
            || is_text(data_type)
            || *data_type == DataType::Boolean
    };
    let is_arrows = arrow_computes(arithmetic, &left_type, &right_type);
    if is_known(&left_type) && is_known(&right_type) && !is_arrows {
        return Err(no_operator(&op.to_string(), &left, &right, schema));
    }
    Ok(Transformed::no(binary_expr(left, op, right)))
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
    if case.expr.is_none() {
        for (when, _) in &case.when_then_expr {
            match when.get_type_if_known(schema) {
                Some(DataType::Boolean | DataType::Null) | None => {}
                Some(other) => {
                    let found = SqlType::of_arrow(&other).name();
                    let message =
                        format!("argument of CASE/WHEN must be type boolean, not type {found}");
                    return Err(user_error("42804", message));
                }
            }
        }
    }
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
    if let Some(rounded) = rounding(&function, schema) {
        return Ok(Transformed::yes(rounded));
    }
    let is_changed = match function.func.name() {
        "coalesce" | "nullif" | "greatest" | "least" | "array_append" => {
            casts::unify_literals(&mut function.args, schema)?
        }
        "character_length" | "reverse" | "repeat" | "lpad" | "rpad" | "left" | "right"
        | "replace" | "translate" | "initcap" | "ascii" | "md5" | "substr" => {
            // DataFusion would print a number; PostgreSQL has no such function.
            let first = function.args.first().and_then(|arg| arg.get_type_if_known(schema));
            if first.is_some_and(|data_type| data_type.is_numeric()) {
                let types: Vec<DataType> = function
                    .args
                    .iter()
                    .map(|arg| arg.get_type_if_known(schema).unwrap_or(DataType::Null))
                    .collect();
                let name = match function.func.name() {
                    "character_length" => "length",
                    "substr" => "substring",
                    name => name,
                };
                return Err(arithmetic::no_function(name, &types));
            }
            false
        }
        "octet_length" | "bit_length" => pad_chars(&mut function.args, schema),
        "concat" | "concat_ws" | "format" | "quote_nullable" => {
            let mut is_changed = pad_chars(&mut function.args, schema);
            for arg in &mut function.args {
                let Some(data_type) = arg.get_type_if_known(schema) else { continue };
                if !is_text(&data_type) && data_type != DataType::Null {
                    *arg = match data_type {
                        // Printed, not cast: a cast would answer `true`.
                        DataType::Boolean => call(bool_letter(), vec![std::mem::take(arg)]),
                        _ => casts::to_text(std::mem::take(arg), &data_type),
                    };
                    is_changed = true;
                }
            }
            is_changed
        }
        _ => false,
    };
    Ok(changed(Expr::ScalarFunction(function), is_changed))
}

/// Arguments of CHAR(n) with their blanks, for what takes a value as it is printed. Answers whether
/// there are any.
fn pad_chars(args: &mut [Expr], schema: &DFSchema) -> bool {
    let mut is_changed = false;
    for arg in args {
        if let Some(sql_type) = casts::char_type(arg, schema) {
            *arg = declared_text::padded(std::mem::take(arg), &sql_type);
            is_changed = true;
        }
    }
    is_changed
}

/// `ceil`, `floor`, `trunc` and `round` of a NUMERIC leave no digits behind the point, or as many as
/// they are told; `round` of a DOUBLE PRECISION goes to even.
fn rounding(function: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
    let name = function.func.name();
    let (value, places) = match function.args.as_slice() {
        [value] => (value, None),
        [value, places] if matches!(name, "round" | "trunc") => (value, Some(places)),
        _ => return None,
    };
    let data_type = value.get_type_if_known(schema)?;
    match (data_type, places) {
        (DataType::Decimal128(digits, scale), Some(places)) => {
            rounded_to(function, value, (digits, scale), constant_places(places)?)
        }
        (integer, Some(places)) if integer.is_signed_integer() => {
            let digits = numeric::integer_digits(&integer);
            rounded_to(function, value, (digits, 0), constant_places(places)?)
        }
        (DataType::Decimal128(..), None) if name == "round" => Some(to_numeric(value.clone(), 0)),
        (DataType::Decimal128(..), None) => {
            Some(call(math::whole_numeric(name)?, vec![value.clone()]))
        }
        (DataType::Float32 | DataType::Float64, None) if name == "round" => {
            Some(call(math::round_even(), vec![value.clone()]))
        }
        _ => None,
    }
}

/// `round` or `trunc` of a NUMERIC of these digits and scale to so many places behind the point, or
/// before it if they are negative. `None` if that takes more digits than a NUMERIC has.
fn rounded_to(
    function: &ScalarFunction,
    value: &Expr,
    (digits, scale): (u8, i8),
    places: i8,
) -> Option<Expr> {
    let added = places.saturating_sub(scale);
    if added >= 0 {
        let fits = i16::from(digits) + i16::from(added) <= i16::from(NUMERIC_PRECISION_MAX);
        return fits.then(|| to_numeric(value.clone(), places));
    }
    if function.func.name() == "round" && places >= 0 {
        return Some(to_numeric(value.clone(), places));
    }
    // DataFusion keeps the type, which has to have room: 95 becomes 100.
    let mut function = function.clone();
    *function.args.first_mut()? = to_numeric(value.clone(), scale);
    Some(to_numeric(Expr::ScalarFunction(function), places.max(0)))
}

/// An expression as NUMERIC with so many places behind the point.
fn to_numeric(value: Expr, places: i8) -> Expr {
    let data_type = DataType::Decimal128(NUMERIC_PRECISION_MAX, places);
    call(cast_function(&Arc::new(Field::new("", data_type, true))), vec![value])
}

/// A small constant.
fn constant_places(expr: &Expr) -> Option<i8> {
    match casts::constant(expr)?.cast_to(&DataType::Int8) {
        Ok(ScalarValue::Int8(places)) => places,
        _ => None,
    }
}

/// 42883 for an operator over these operands, with PostgreSQL's hint.
pub fn no_operator(op: &str, left: &Expr, right: &Expr, schema: &DFSchema) -> DataFusionError {
    let name = |expr: &Expr| match expr.get_type_if_known(schema) {
        _ if matches!(expr, Expr::Literal(value, _) if is_text(&value.data_type())) => {
            "unknown".to_owned()
        }
        Some(data_type) => SqlType::of_arrow(&data_type).name(),
        None => "unknown".to_owned(),
    };
    let message = format!("operator does not exist: {} {op} {}", name(left), name(right));
    let hint = "No operator matches the given name and argument types. \
                You might need to add explicit type casts.";
    external(Error::new("42883", message).with_hint(hint))
}

/// A cast that does nothing but change the Arrow type; none if it is that already.
pub fn plain_cast(expr: Expr, from: &DataType, to: DataType) -> Expr {
    if *from == to { expr } else { Expr::Cast(Cast::new(Box::new(expr), to)) }
}

/// `~`, `~*` and their negations.
fn is_pattern(op: Operator) -> bool {
    use Operator as O;
    matches!(op, O::RegexMatch | O::RegexIMatch | O::RegexNotMatch | O::RegexNotIMatch)
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
