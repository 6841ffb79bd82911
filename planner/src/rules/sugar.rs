//! Syntax that DataFusion's planner does not plan, written in what it does: rows compared field by
//! field, `SIMILAR TO`, `FETCH FIRST`, INTERVAL literals, `EXISTS` as a value, operators that are
//! functions, functions that answer rows among the select items.
//!
//! What it changes is a matter of writing only; what cannot be written otherwise is left for the
//! planner to refuse.

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, LimitClause, Query, SelectItem,
    SetExpr, Subscript, TableFactor, UnaryOperator, Value,
};

use super::rewrite_ast::{call, take};

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
pub fn fetch_is_limit(query: &mut Query) {
    let is_plain = query.fetch.as_ref().is_some_and(|fetch| !fetch.with_ties && !fetch.percent);
    if !is_plain {
        return;
    }
    let quantity = query.fetch.take().and_then(|fetch| fetch.quantity);
    let one = || Expr::value(Value::Number("1".to_owned(), false));
    let rows = quantity.unwrap_or_else(one);
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
        clause @ None => {
            *clause = Some(LimitClause::LimitOffset {
                limit: Some(rows),
                offset: None,
                limit_by: Vec::new(),
            });
        }
        Some(_) => {}
    }
}

/// Select items: a function that answers rows is an UNNEST of the one that answers an array, and
/// EXISTS is a count.
pub fn rewrite_items(select: &mut ast::Select) {
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            continue;
        };
        rows_to_unnest(expr);
        exists_to_count(expr);
    }
}

/// Functions of PostgreSQL's that answer rows, and ours that answer the array of them.
fn array_function(name: &str) -> Option<&'static str> {
    Some(match name {
        "generate_series" => "generate_series",
        "regexp_split_to_table" => "regexp_split_to_array",
        "string_to_table" => "string_to_array",
        _ => return None,
    })
}

fn rows_to_unnest(expr: &mut Expr) {
    let Expr::Function(function) = expr else { return };
    let name = function.name.to_string().to_lowercase();
    if let Some(array) = array_function(&name) {
        function.name = ast::ObjectName::from(vec![ast::Ident::new(array)]);
        let array = take(expr);
        *expr = call("unnest", vec![array]);
    }
}

/// `FROM regexp_split_to_table(…)` is `FROM unnest(regexp_split_to_array(…))`.
pub fn table_to_unnest(factor: &mut TableFactor) {
    let TableFactor::Table { name, alias, args: Some(args), .. } = factor else { return };
    let written = name.to_string().to_lowercase();
    let Some(array) = array_function(&written).filter(|_| written != "generate_series") else {
        return;
    };
    let mut arguments = Vec::with_capacity(args.args.len());
    for argument in &args.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else { return };
        arguments.push(argument.clone());
    }
    *factor = TableFactor::UNNEST {
        alias: alias.take(),
        array_exprs: vec![call(array, arguments)],
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    };
}

/// `EXISTS (query)` as a value is `(SELECT count(*) …) > 0`; in WHERE it is planned as it is.
fn exists_to_count(expr: &mut Expr) {
    let _ = ast::visit_expressions_mut(expr, |expr: &mut Expr| {
        if let Expr::Exists { subquery, negated } = expr
            && let Some(counted) = counted(subquery)
        {
            let zero = Expr::value(Value::Number("0".to_owned(), false));
            let op = if *negated { BinaryOperator::Eq } else { BinaryOperator::Gt };
            let comparison = binary(Expr::Subquery(counted), op, zero);
            *expr = Expr::Nested(Box::new(comparison));
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
}

/// The query counting its rows; `None` if it is more than FROM and WHERE.
fn counted(query: &Query) -> Option<Box<Query>> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let is_grouped =
        !matches!(&select.group_by, ast::GroupByExpr::Expressions(exprs, _) if exprs.is_empty());
    let is_plain = !is_grouped
        && select.having.is_none()
        && select.distinct.is_none()
        && query.limit_clause.is_none()
        && query.with.is_none();
    // An aggregate without groups always answers a row.
    let aggregates = select.projection.iter().any(|item| item.to_string().contains('('));
    if !is_plain || aggregates {
        return None;
    }
    let mut query = Box::new(query.clone());
    query.order_by = None;
    if let SetExpr::Select(select) = query.body.as_mut() {
        let mut count = call("count", Vec::new());
        if let Expr::Function(function) = &mut count
            && let ast::FunctionArguments::List(list) = &mut function.args
        {
            list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Wildcard));
        }
        select.projection = vec![SelectItem::UnnamedExpr(count)];
    }
    Some(query)
}

/// Rewrites an expression before its children are visited.
pub fn rewrite_expr(expr: &mut Expr) {
    match expr {
        Expr::BinaryOp { left, op, right } => {
            if let (Expr::Tuple(left), Expr::Tuple(right)) = (left.as_ref(), right.as_ref())
                && let Some(compared) = compare_rows(left, op, right)
            {
                *expr = compared;
            } else if *op == BinaryOperator::PGStartsWith {
                *expr = call("starts_with", vec![take(left), take(right)]);
            }
        }
        Expr::InList { expr: row, list, negated } => {
            if let Some(found) = row_in_list(row, list) {
                *expr = if *negated { not(found) } else { found };
            }
        }
        Expr::InSubquery { expr: row, .. } if matches!(row.as_ref(), Expr::Tuple(_)) => {
            *expr = call("row_in_subquery", Vec::new());
        }
        Expr::AnyOp { left, compare_op, right, .. } | Expr::AllOp { left, compare_op, right }
            if matches!(right.as_ref(), Expr::Subquery(_)) =>
        {
            // What is left here is no IN: see `quantified`.
            let _ = (left, compare_op);
            *expr = quantified(take(expr));
        }
        Expr::SimilarTo { negated, expr: text, pattern, escape_char } => {
            let mut arguments = vec![take(text), take(pattern)];
            arguments.extend(escape_char.take().map(Expr::Value));
            let test = call("similar_to", arguments);
            *expr = if *negated { not(test) } else { test };
        }
        Expr::UnaryOp { op, expr: operand } => {
            let function = match op {
                UnaryOperator::PGSquareRoot => "sqrt",
                UnaryOperator::PGCubeRoot => "cbrt",
                UnaryOperator::PGAbs => "abs",
                UnaryOperator::BitwiseNot => "bit_not",
                _ => return,
            };
            *expr = call(function, vec![take(operand)]);
        }
        Expr::Interval(interval) => {
            if let Some(literal) = interval_literal(interval) {
                let literal = Expr::value(Value::SingleQuotedString(literal));
                *expr = call("interval_in", vec![literal]);
            }
        }
        Expr::Substring { expr: text, substring_from: Some(from), substring_for: None, .. }
            if is_text_literal(from) =>
        {
            *expr = call("substring_pattern", vec![take(text), take(from)]);
        }
        Expr::CompoundFieldAccess { .. } => group_of_match(expr),
        _ => {}
    }
}

fn is_text_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(
        value.value,
        Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_)
    ))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) }
}

fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}

/// `(a, b) op (c, d)` field by field; an order is decided by the first fields that differ.
fn compare_rows(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    use BinaryOperator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
    if left.len() != right.len() || left.is_empty() {
        return None;
    }
    let each = |op: BinaryOperator| {
        left.iter().zip(right).map(move |(l, r)| binary(l.clone(), op.clone(), r.clone()))
    };
    let joined = |exprs: Vec<Expr>, op: BinaryOperator| balanced(exprs, &op);
    match op {
        Eq => joined(each(Eq).collect(), And),
        NotEq => joined(each(NotEq).collect(), Or),
        Lt | LtEq | Gt | GtEq => {
            let strict = if matches!(op, Lt | LtEq) { Lt } else { Gt };
            let (left_last, left_rest) = left.split_last()?;
            let (right_last, right_rest) = right.split_last()?;
            let last = binary(left_last.clone(), op.clone(), right_last.clone());
            let folded = left_rest.iter().zip(right_rest).rev().fold(last, |rest, (l, r)| {
                let is_before = binary(l.clone(), strict.clone(), r.clone());
                let is_equal = binary(l.clone(), Eq, r.clone());
                nested(binary(is_before, Or, nested(binary(is_equal, And, rest))))
            });
            Some(nested(folded))
        }
        _ => None,
    }
}

/// `(a, b) IN ((1, 2), …)`.
fn row_in_list(row: &Expr, list: &[Expr]) -> Option<Expr> {
    let Expr::Tuple(row) = row else { return None };
    let mut tests = Vec::with_capacity(list.len());
    for item in list {
        let Expr::Tuple(item) = item else { return None };
        tests.push(compare_rows(row, &BinaryOperator::Eq, item)?);
    }
    balanced(tests, &BinaryOperator::Or)
}

/// The expressions joined by `op` in a tree as flat as can be: a long list must not become a deep
/// one.
fn balanced(mut exprs: Vec<Expr>, op: &BinaryOperator) -> Option<Expr> {
    while exprs.len() > 1 {
        let mut pairs = Vec::with_capacity(exprs.len().div_ceil(2));
        let mut rest = exprs.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => nested(binary(left, op.clone(), right)),
                None => left,
            });
        }
        exprs = pairs;
    }
    exprs.pop()
}

/// `x = ANY (query)` is `x IN (query)`, `x <> ALL (query)` is NOT IN. The others are refused:
/// DataFusion answers them wrongly where there are nulls.
fn quantified(expr: Expr) -> Expr {
    let (left, op, right, negated) = match expr {
        Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, false),
        Expr::AllOp { left, compare_op, right } => (left, compare_op, right, true),
        other => return other,
    };
    let is_in = op == if negated { BinaryOperator::NotEq } else { BinaryOperator::Eq };
    match *right {
        Expr::Subquery(subquery) if is_in => Expr::InSubquery { expr: left, subquery, negated },
        _ => call("quantified_comparison", Vec::new()),
    }
}

/// The text of an INTERVAL literal with its unit: `'10' SECOND` is `'10 second'`.
fn interval_literal(interval: &ast::Interval) -> Option<String> {
    let Expr::Value(value) = interval.value.as_ref() else { return None };
    let Value::SingleQuotedString(text) = &value.value else { return None };
    if interval.leading_precision.is_some() || interval.fractional_seconds_precision.is_some() {
        return None;
    }
    let is_number = text.trim().parse::<f64>().is_ok();
    match (&interval.leading_field, &interval.last_field) {
        (None, _) | (Some(_), Some(_)) => Some(text.clone()),
        (Some(unit), None) if is_number => Some(format!("{} {unit}", text.trim())),
        // A unit behind a text with units of its own would cut it.
        (Some(_), None) => None,
    }
}

/// `(regexp_match(text, pattern))[n]` needs no array.
fn group_of_match(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return };
    let [ast::AccessExpr::Subscript(Subscript::Index { index })] = access_chain.as_mut_slice()
    else {
        return;
    };
    let Expr::Nested(inner) = root.as_mut() else { return };
    let Expr::Function(function) = inner.as_mut() else { return };
    let name = function.name.to_string().to_lowercase();
    if name != "regexp_match" && name != "pg_catalog.regexp_match" {
        return;
    }
    let ast::FunctionArguments::List(list) = &function.args else { return };
    let mut arguments = Vec::with_capacity(list.args.len() + 1);
    for argument in &list.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else { return };
        arguments.push(argument.clone());
    }
    arguments.push(take(index));
    *expr = call("regexp_group", arguments);
}
