//! Integer literals have PostgreSQL's types: INTEGER when they fit, else BIGINT, else NUMERIC;
//! DataFusion would make every one a BIGINT. A number that is syntax, not a value (an ordinal, a
//! LIMIT, an argument of a table function), is left alone.
//!
//! The visitor has no way to say "not below here", so such a number is marked on the way down
//! (its `long` flag, which nothing in SQL sets) and unmarked on the way up.

use datafusion::sql::sqlparser::{
    ast::{
        self, CastKind, DataType, ExactNumberInfo, Expr, Query, Select, TableFactor, UnaryOperator,
        Value,
    },
    tokenizer::Span,
};

use crate::types::NUMERIC_PRECISION_MAX;

/// Gives an unmarked integer literal its type, as a cast around it; a minus sign in front belongs
/// to the literal.
pub fn type_number(expr: &mut Expr) {
    if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } = expr
        && let Some(number) = negated(inner)
    {
        *expr = number;
        return;
    }
    let Expr::Value(value) = expr else { return };
    let Value::Number(text, false) = &value.value else { return };
    if let Some(number) = exponent_number(text, value.span) {
        *expr = number;
        return;
    }
    if let Some(data_type) = integer_type(text) {
        let number = std::mem::replace(expr, Expr::Tuple(Vec::new()));
        *expr = cast(number, data_type);
    }
}

/// `-` in front of a literal whose cast was added by [`type_number`]. `2147483648` alone is BIGINT,
/// but `-2147483648` is INTEGER.
fn negated(inner: &Expr) -> Option<Expr> {
    let (value, digits) = match inner {
        Expr::Cast { expr, .. } => match expr.as_ref() {
            Expr::Value(value) => (value, number_text(value)?),
            _ => return None,
        },
        Expr::Value(value) => (value, number_text(value)?),
        _ => return None,
    };
    let text = format!("-{digits}");
    let data_type = integer_type(&text)?;
    let span = value.span;
    let number = ast::ValueWithSpan { value: Value::Number(digits.to_owned(), false), span };
    let minus = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(Expr::Value(number)) };
    Some(cast(minus, data_type))
}

/// `1.5e3` as the NUMERIC it is, written without its exponent; one that a NUMERIC of ours cannot
/// hold (`1e300`) is a DOUBLE PRECISION.
fn exponent_number(text: &str, span: Span) -> Option<Expr> {
    let (mantissa, exponent) = text.split_once(['e', 'E'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = exponent.parse::<i64>().ok().and_then(|e| e.checked_add(whole.len() as i64))?;
    let number = |text| Expr::Value(ast::ValueWithSpan { value: Value::Number(text, false), span });
    let room = i64::from(NUMERIC_PRECISION_MAX);
    if point > room || point - (digits.len() as i64) < 1 - room {
        let literal = Value::SingleQuotedString(text.to_owned());
        let literal = Expr::Value(ast::ValueWithSpan { value: literal, span });
        return Some(cast(literal, DataType::Double(ExactNumberInfo::None)));
    }
    let (before, after) = match usize::try_from(point) {
        Ok(point) if point >= digits.len() => {
            let zeros = point - digits.len();
            (digits + &"0".repeat(zeros), String::new())
        }
        Ok(point) => (digits[..point].to_owned(), digits[point..].to_owned()),
        Err(_) => (String::new(), "0".repeat(point.unsigned_abs() as usize) + &digits),
    };
    let before = match before.trim_start_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    if after.is_empty() {
        let numeric = ExactNumberInfo::PrecisionAndScale(before.len() as u64, 0);
        return Some(cast(number(before.to_owned()), DataType::Numeric(numeric)));
    }
    Some(number(format!("{before}.{after}")))
}

fn number_text(value: &ast::ValueWithSpan) -> Option<&str> {
    match &value.value {
        Value::Number(text, false) => Some(text),
        _ => None,
    }
}

/// The type of an integer literal, sign included; `None` if it is none.
pub fn integer_type(text: &str) -> Option<DataType> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if text.parse::<i32>().is_ok() {
        return Some(DataType::Integer(None));
    }
    if text.parse::<i64>().is_ok() {
        return Some(DataType::BigInt(None));
    }
    let precision = digits.len() as u64;
    Some(DataType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, 0)))
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// Marks LIMIT, OFFSET, FETCH and the ordinals of ORDER BY.
pub fn protect_query(query: &mut Query) {
    mark_query(query, true);
}

/// Takes the marks off again.
pub fn release_query(query: &mut Query) {
    mark_query(query, false);
}

/// Marks the ordinals of GROUP BY and DISTINCT ON.
pub fn protect_select(select: &mut Select) {
    mark_select(select, true);
}

/// Takes the marks off again.
pub fn release_select(select: &mut Select) {
    mark_select(select, false);
}

/// Marks the arguments of a table function.
pub fn protect_table_factor(factor: &mut TableFactor) {
    mark_table_factor(factor, true);
}

/// Takes the marks off again.
pub fn release_table_factor(factor: &mut TableFactor) {
    mark_table_factor(factor, false);
}

/// Marks the numbers that belong to an expression's syntax: interval literals and window frames.
pub fn protect_inside(expr: &mut Expr) {
    mark_inside(expr, true);
}

/// Takes the marks off again.
pub fn release_inside(expr: &mut Expr) {
    mark_inside(expr, false);
}

/// Lists of at least so many plain integers keep DataFusion's type for them: a cast around each
/// would cost more than the search.
const LIST_MIN: usize = 64;

fn mark_inside(expr: &mut Expr, is_protected: bool) {
    match expr {
        Expr::InList { list, .. } if list.len() >= LIST_MIN => mark_integers(list, is_protected),
        Expr::Interval(interval) => mark(&mut interval.value, is_protected),
        Expr::Function(function) => {
            let Some(ast::WindowType::WindowSpec(spec)) = &mut function.over else { return };
            let Some(frame) = &mut spec.window_frame else { return };
            mark_bound(&mut frame.start_bound, is_protected);
            if let Some(bound) = &mut frame.end_bound {
                mark_bound(bound, is_protected);
            }
        }
        _ => {}
    }
}

/// Marks a list of nothing but integers that fit BIGINT.
fn mark_integers(list: &mut [Expr], is_protected: bool) {
    let is_integer = |expr: &Expr| match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => text.parse::<i64>().is_ok(),
            _ => false,
        },
        _ => false,
    };
    if list.iter().all(is_integer) {
        list.iter_mut().for_each(|expr| mark(expr, is_protected));
    }
}

fn mark_bound(bound: &mut ast::WindowFrameBound, is_protected: bool) {
    use ast::WindowFrameBound::{CurrentRow, Following, Preceding};
    match bound {
        Preceding(Some(expr)) | Following(Some(expr)) => mark(expr, is_protected),
        Preceding(None) | Following(None) | CurrentRow => {}
    }
}

fn mark_query(query: &mut Query, is_protected: bool) {
    match &mut query.limit_clause {
        Some(ast::LimitClause::LimitOffset { limit, offset, .. }) => {
            limit.iter_mut().for_each(|expr| mark(expr, is_protected));
            offset.iter_mut().for_each(|offset| mark(&mut offset.value, is_protected));
        }
        Some(ast::LimitClause::OffsetCommaLimit { offset, limit }) => {
            mark(offset, is_protected);
            mark(limit, is_protected);
        }
        None => {}
    }
    let quantity = query.fetch.as_mut().and_then(|fetch| fetch.quantity.as_mut());
    quantity.into_iter().for_each(|expr| mark(expr, is_protected));
    if let Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(exprs), .. }) =
        &mut query.order_by
    {
        exprs.iter_mut().for_each(|order| mark(&mut order.expr, is_protected));
    }
}

fn mark_select(select: &mut Select, is_protected: bool) {
    if let ast::GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
        exprs.iter_mut().for_each(|expr| mark(expr, is_protected));
    }
    if let Some(ast::Distinct::On(exprs)) = &mut select.distinct {
        exprs.iter_mut().for_each(|expr| mark(expr, is_protected));
    }
}

fn mark_table_factor(factor: &mut TableFactor, is_protected: bool) {
    let args = match factor {
        TableFactor::Table { args: Some(args), .. } => &mut args.args,
        TableFactor::Function { args, .. } => args,
        TableFactor::TableFunction { expr: Expr::Function(function), .. } => {
            match &mut function.args {
                ast::FunctionArguments::List(list) => &mut list.args,
                _ => return,
            }
        }
        _ => return,
    };
    for arg in args {
        let (ast::FunctionArg::Named { arg, .. }
        | ast::FunctionArg::ExprNamed { arg, .. }
        | ast::FunctionArg::Unnamed(arg)) = arg;
        if let ast::FunctionArgExpr::Expr(expr) = arg {
            mark(expr, is_protected);
        }
    }
}

/// Marks a bare number, also behind a sign or parentheses.
fn mark(expr: &mut Expr, is_protected: bool) {
    match expr {
        Expr::Value(value) => {
            if let Value::Number(_, flag) = &mut value.value {
                *flag = is_protected;
            }
        }
        Expr::UnaryOp { expr, .. } | Expr::Nested(expr) => mark(expr, is_protected),
        _ => {}
    }
}
