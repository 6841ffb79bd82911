//! Compiled scalar expressions over datums: what the SET of a keyed UPDATE may compute. Arithmetic
//! is checked and answers what the query path would answer.

use storage::Datum;

use crate::{Error, Result, SqlType, dml::null_value, values::fit_text};

/// What an expression can see.
pub struct Scope<'a> {
    /// Values of `$1 …`.
    pub values: &'a [Datum],
    /// The present row: all visible columns.
    pub row: &'a [Datum],
    /// The row that met a conflict (`EXCLUDED`).
    pub excluded: &'a [Datum],
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub enum Value {
    /// A constant.
    Constant(Datum),
    /// `$n`, 0-based.
    Parameter(usize),
    /// A column of the present row.
    Column(usize),
    /// A column of the row that met a conflict.
    Excluded(usize),
    /// Arithmetic on whole numbers of the given type.
    Integer(Operator, SqlType, Box<(Value, Value)>),
    /// Arithmetic on floating-point numbers.
    Float(Operator, Box<(Value, Value)>),
    /// `a || b` of texts.
    Concat(Box<(Value, Value)>),
}

/// Arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

impl Value {
    /// The value under a scope.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Datum> {
        Ok(match self {
            Value::Constant(datum) => datum.clone(),
            Value::Parameter(index) => scope.values.get(*index).cloned().unwrap_or(Datum::Null),
            Value::Column(index) => scope.row.get(*index).cloned().unwrap_or(Datum::Null),
            Value::Excluded(index) => scope.excluded.get(*index).cloned().unwrap_or(Datum::Null),
            Value::Integer(operator, sql_type, sides) => {
                match (sides.0.evaluate(scope)?, sides.1.evaluate(scope)?) {
                    (Datum::Int(left), Datum::Int(right)) => {
                        let result = whole(*operator, left, right)?;
                        let result = result.filter(|result| fits(*result, sql_type));
                        Datum::Int(result.ok_or_else(|| out_of_range(sql_type))?)
                    }
                    _ => Datum::Null,
                }
            }
            Value::Float(operator, sides) => {
                match (number(sides.0.evaluate(scope)?), number(sides.1.evaluate(scope)?)) {
                    (Some(left), Some(right)) => Datum::Float(floating(*operator, left, right)?),
                    _ => Datum::Null,
                }
            }
            Value::Concat(sides) => match (sides.0.evaluate(scope)?, sides.1.evaluate(scope)?) {
                (Datum::Text(left), Datum::Text(right)) => Datum::Text(left + &right),
                _ => Datum::Null,
            },
        })
    }
}

fn number(datum: Datum) -> Option<f64> {
    match datum {
        Datum::Float(value) => Some(value),
        Datum::Int(value) => Some(value as f64),
        _ => None,
    }
}

fn whole(operator: Operator, left: i64, right: i64) -> Result<Option<i64>> {
    if right == 0 && matches!(operator, Operator::Divide | Operator::Remainder) {
        return Err(Error::new("22012", "division by zero"));
    }
    Ok(match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide => left.checked_div(right),
        // The remainder by -1 is 0 even where the quotient overflows.
        Operator::Remainder => Some(left.wrapping_rem(right)),
    })
}

fn floating(operator: Operator, left: f64, right: f64) -> Result<f64> {
    if right == 0.0 && matches!(operator, Operator::Divide) {
        return Err(Error::new("22012", "division by zero"));
    }
    let result = match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        Operator::Remainder => left % right,
    };
    if result.is_infinite() && left.is_finite() && right.is_finite() {
        return Err(Error::new("22003", "value out of range: overflow"));
    }
    Ok(result)
}

/// Whether a whole number is one of the type.
pub fn fits(value: i64, sql_type: &SqlType) -> bool {
    match sql_type {
        SqlType::Int2 => i16::try_from(value).is_ok(),
        SqlType::Int4 => i32::try_from(value).is_ok(),
        SqlType::Oid => u32::try_from(value).is_ok(),
        _ => true,
    }
}

/// 22003 in PostgreSQL's words.
pub fn out_of_range(sql_type: &SqlType) -> Error {
    Error::new("22003", format!("{} out of range", sql_type.name()))
}

/// A column as an assignment sees it.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
    /// NOT NULL.
    pub is_not_null: bool,
}

impl Column {
    /// The value if the column may hold it.
    pub fn check(&self, datum: Datum, table: &str) -> Result<Datum> {
        match (&datum, &self.sql_type) {
            (Datum::Null, _) if self.is_not_null => Err(null_value(&self.name, table)),
            (Datum::Int(value), sql_type) if !fits(*value, sql_type) => Err(out_of_range(sql_type)),
            (Datum::Float(value), SqlType::Float4)
                if value.is_finite() && (*value as f32).is_infinite() =>
            {
                Err(out_of_range(&self.sql_type))
            }
            (Datum::Text(text), SqlType::Varchar(_) | SqlType::Bpchar(_)) => {
                let fitted = fit_text(text, &self.sql_type)?;
                Ok(if fitted.len() == text.len() { datum } else { Datum::Text(fitted.to_owned()) })
            }
            _ => Ok(datum),
        }
    }
}
