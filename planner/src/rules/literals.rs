//! Integer literals have PostgreSQL's types: INTEGER when they fit, else BIGINT, else NUMERIC;
//! DataFusion would make every one a BIGINT. A number that is syntax, not a value (an ordinal, a
//! LIMIT, an argument of a table function), is left alone.
//!
//! The visitor has no way to say "not below here", so such a number is marked on the way down
//! (its `long` flag, which nothing in SQL sets) and unmarked on the way up.

use datafusion::sql::sqlparser::ast::{
    self, CastKind, DataType, ExactNumberInfo, Expr, Query, Select, TableFactor, UnaryOperator,
    Value,
};

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

fn number_text(value: &ast::ValueWithSpan) -> Option<&str> {
    match &value.value {
        Value::Number(text, false) => Some(text),
        _ => None,
    }
}

fn integer_type(text: &str) -> Option<DataType> {
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

fn mark_inside(expr: &mut Expr, is_protected: bool) {
    match expr {
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
