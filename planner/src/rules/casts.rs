//! Which casts are ours: those that read or write a text, lose digits, or may leave the type.
//! The others are Arrow's, which DataFusion can look through when it compares and prunes.

use std::sync::Arc;

use arrow::{
    array::StringArray,
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{DFSchema, ScalarValue, tree_node::Transformed},
    error::Result,
    logical_expr::{Cast, Expr, ExprSchemable},
};

use super::{
    operators::is_text,
    semantics::{KnownType, call},
};
use crate::{
    SqlType,
    functions::cast::{cast_function, parse_texts},
    text::TimeZone,
    types::TYPE_KEY,
};

pub use crate::functions::cast::NAME;

/// Rewrites a cast, if Arrow's is not PostgreSQL's.
pub fn cast(expr: Expr, field: &FieldRef, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let from = expr.get_type_if_known(schema);
    if let Some(from) = from
        && (is_ours(&from, field) || sheds_char(&expr, field, schema))
    {
        return Ok(Transformed::yes(call(cast_function(field), vec![expr])));
    }
    let cast = Cast::new_from_field(Box::new(expr), Arc::clone(field));
    Ok(Transformed::no(Expr::Cast(cast)))
}

/// Whether a CHAR(n) becomes another text: for Arrow nothing changes, but it is padded no more.
fn sheds_char(expr: &Expr, to: &FieldRef, schema: &DFSchema) -> bool {
    is_text(to.data_type())
        && !matches!(SqlType::of_field(to), SqlType::Bpchar(_))
        && char_type(expr, schema).is_some()
}

/// A cast to TEXT.
pub fn to_text(expr: Expr, from: &DataType) -> Expr {
    if is_text(from) {
        return expr;
    }
    let field = Arc::new(Field::new("", DataType::Utf8, true));
    match is_ours(from, &field) {
        true => call(cast_function(&field), vec![expr]),
        false => Expr::Cast(Cast::new_from_field(Box::new(expr), field)),
    }
}

/// The value of a constant, whatever it is cast to.
pub fn constant(mut expr: &Expr) -> Option<&ScalarValue> {
    loop {
        expr = match expr {
            Expr::Literal(value, _) => return Some(value),
            Expr::Cast(cast) => &cast.expr,
            Expr::ScalarFunction(call) if call.func.name() == NAME => call.args.first()?,
            _ => return None,
        };
    }
}

/// A string literal has no type of its own: among operands of another type it takes that. Answers
/// whether anything changed.
pub fn unify_literals(operands: &mut [Expr], schema: &DFSchema) -> Result<bool> {
    let is_changed = strip_for_char(operands, schema);
    if !operands.iter().any(is_string_literal) {
        return Ok(is_changed);
    }
    let target = operands
        .iter()
        .filter(|operand| !is_string_literal(operand))
        .filter_map(|operand| operand.get_type_if_known(schema))
        .find(|data_type| *data_type != DataType::Null);
    let Some(target) = target.filter(takes_literals) else { return Ok(is_changed) };
    let target = match target {
        // A literal brings digits of its own.
        DataType::Decimal128(..) => SqlType::NumericAny.arrow(),
        other => other,
    };
    let field = Arc::new(Field::new("", target, true));
    for operand in operands.iter_mut().filter(|operand| is_string_literal(operand)) {
        // Read now: a literal that is no such value is wrong even where no row meets it.
        if let Some(text) = constant(operand).and_then(|value| value.try_as_str().flatten()) {
            parse_texts(&StringArray::from(vec![text]), &field, &TimeZone::Utc)?;
        }
        *operand = call(cast_function(&field), vec![std::mem::take(operand)]);
    }
    Ok(true)
}

/// What stands beside a CHAR(n) is one too: a literal or parameter loses its trailing blanks, as the
/// stored values have. Answers whether anything changed.
fn strip_for_char(operands: &mut [Expr], schema: &DFSchema) -> bool {
    let may_have_blanks = |operand: &Expr| match operand {
        Expr::Literal(value, _) => {
            value.try_as_str().flatten().is_some_and(|text| text.ends_with(' '))
        }
        Expr::Placeholder(placeholder) => {
            placeholder.field.as_ref().is_none_or(|field| is_text(field.data_type()))
        }
        _ => false,
    };
    if !operands.iter().any(may_have_blanks)
        || !operands.iter().any(|operand| char_type(operand, schema).is_some())
    {
        return false;
    }
    let field = Arc::new(SqlType::Bpchar(None).field("", true));
    for operand in operands.iter_mut().filter(|operand| may_have_blanks(operand)) {
        let mut text = std::mem::take(operand);
        if let Expr::Placeholder(placeholder) = &mut text {
            placeholder.field = Some(Arc::new(Field::new("", DataType::Utf8, true)));
        }
        *operand = call(cast_function(&field), vec![text]);
    }
    true
}

/// The type of an expression that is a CHAR(n).
pub fn char_type(expr: &Expr, schema: &DFSchema) -> Option<SqlType> {
    let (_, field) = expr.to_field(schema).ok()?;
    let sql_type = SqlType::of_field(&field);
    matches!(sql_type, SqlType::Bpchar(_)).then_some(sql_type)
}

fn is_string_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if is_text(&value.data_type()) && !value.is_null())
}

fn takes_literals(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::Boolean | T::Int16 | T::Int32 | T::Int64 | T::UInt32 | T::Float32 | T::Float64 => true,
        T::Decimal128(..) | T::Date32 | T::Time64(_) | T::Timestamp(..) | T::Interval(_) => true,
        T::FixedSizeBinary(16) | T::Binary => true,
        T::List(element) => takes_literals(element.data_type()) || is_text(element.data_type()),
        _ => false,
    }
}

/// The texts that a cast changes or checks.
const DECLARED_TEXTS: [&str; 4] = ["varchar(", "json", "character(", "bpchar"];

fn is_ours(from: &DataType, to: &FieldRef) -> bool {
    let is_float = |data_type: &DataType| data_type.is_floating();
    let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
    let target = to.data_type();
    let declared = to.metadata().get(TYPE_KEY).map_or("", String::as_str);
    if is_text(from) && is_text(target) {
        return DECLARED_TEXTS.iter().any(|name| declared.starts_with(name));
    }
    if is_text(from) {
        return takes_literals(target);
    }
    if is_text(target) {
        return !from.is_integer() && *from != DataType::Null;
    }
    let narrows = |from: &DataType, to: &DataType| {
        let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(0);
        from.is_integer() && to.is_integer() && width(to) < width(from)
    };
    narrows(from, target)
        || (is_float(from) && (target.is_integer() || is_decimal(target)))
        || (*from == DataType::Float64 && *target == DataType::Float32)
        || (is_decimal(from) && (target.is_integer() || is_decimal(target)) && from != target)
        || (from.is_signed_integer() && is_decimal(target))
}
