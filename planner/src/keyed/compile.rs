//! Syntax → compiled values. `None` means that an expression is not one of the simple ones.

use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr, UnaryOperator};
use storage::{Datum, Table};

use super::value::{Column, Operator, Value, fits};
use crate::{
    SqlType, catalog::provider::visible_schema, dml::placeholder, parse::fold,
    values::datum_of_text,
};

/// Names and parameter types while one statement is compiled.
pub struct Compiler<'a> {
    /// Visible columns.
    pub columns: Vec<Column>,
    /// How the table is called in the statement.
    pub alias: &'a str,
    /// Whether `EXCLUDED` may be named.
    pub has_excluded: bool,
    /// Types of `$1 …` as far as they are known.
    pub hints: &'a mut Vec<Option<SqlType>>,
}

/// The visible columns of a table.
pub fn columns(table: &Table) -> Vec<Column> {
    let record = table.record();
    let schema = visible_schema(record);
    record
        .columns
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| Column {
            name: column.name.clone(),
            sql_type: SqlType::of_field(field),
            is_not_null: column.is_not_null,
        })
        .collect()
}

impl Compiler<'_> {
    /// A constant or parameter as a value of the type.
    pub fn constant(&mut self, expression: &Expr, sql_type: &SqlType) -> Option<Value> {
        match placeholder(expression) {
            Some(number) => self.parameter(number, sql_type),
            None => literal(expression, sql_type).map(Value::Constant),
        }
    }

    /// `$n` as a value of the type: its own type must look the same as a datum.
    fn parameter(&mut self, number: usize, sql_type: &SqlType) -> Option<Value> {
        if self.hints.len() < number {
            self.hints.resize(number, None);
        }
        let hint = self.hints.get_mut(number - 1)?;
        match hint {
            Some(known) if *known != SqlType::Unknown && !is_same_datum(known, sql_type) => None,
            Some(known) if *known != SqlType::Unknown => Some(Value::Parameter(number - 1)),
            _ => {
                *hint = Some(sql_type.clone());
                Some(Value::Parameter(number - 1))
            }
        }
    }

    /// An expression to be assigned to a column of the type.
    pub fn assigned(&mut self, expression: &Expr, sql_type: &SqlType) -> Option<Value> {
        if let Some(value) = self.constant(expression, sql_type) {
            return Some(value);
        }
        let (value, given) = self.typed(expression)?;
        (is_same_datum(&given, sql_type)
            && (given.is_text() || given == *sql_type || is_whole(&given)))
        .then_some(value)
    }

    /// An expression with the type it has by itself.
    fn typed(&mut self, expression: &Expr) -> Option<(Value, SqlType)> {
        match expression {
            Expr::Nested(inner) => self.typed(inner),
            Expr::Identifier(name) => self.column(&fold(name), false),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, column] if fold(table) == self.alias => self.column(&fold(column), false),
                [table, column] if self.has_excluded && fold(table) == "excluded" => {
                    self.column(&fold(column), true)
                }
                _ => None,
            },
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::Value(_) | Expr::UnaryOp { .. } => {
                // PostgreSQL's type of a whole number: the smallest from INTEGER on.
                let datum = literal(expression, &SqlType::Int8)?;
                let Datum::Int(number) = datum else { return None };
                let sql_type =
                    if fits(number, &SqlType::Int4) { SqlType::Int4 } else { SqlType::Int8 };
                Some((Value::Constant(datum), sql_type))
            }
            _ => None,
        }
    }

    fn column(&self, name: &str, is_excluded: bool) -> Option<(Value, SqlType)> {
        let index = self.columns.iter().position(|column| column.name == name)?;
        let value = if is_excluded { Value::Excluded(index) } else { Value::Column(index) };
        Some((value, self.columns[index].sql_type.clone()))
    }

    fn binary(
        &mut self,
        left: &Expr,
        operator: &BinaryOperator,
        right: &Expr,
    ) -> Option<(Value, SqlType)> {
        // A parameter takes the type of the other side.
        let (left, right) = match (placeholder(left), placeholder(right)) {
            (None, None) => (self.typed(left)?, self.typed(right)?),
            (Some(number), None) => {
                let right = self.typed(right)?;
                ((self.exact_parameter(number, &right.1)?, right.1.clone()), right)
            }
            (None, Some(number)) => {
                let left = self.typed(left)?;
                let parameter = self.exact_parameter(number, &left.1)?;
                let sql_type = left.1.clone();
                (left, (parameter, sql_type))
            }
            (Some(_), Some(_)) => return None,
        };
        let arithmetic = match operator {
            BinaryOperator::Plus => Operator::Add,
            BinaryOperator::Minus => Operator::Subtract,
            BinaryOperator::Multiply => Operator::Multiply,
            BinaryOperator::Divide => Operator::Divide,
            BinaryOperator::Modulo => Operator::Remainder,
            BinaryOperator::StringConcat if left.1.is_text() && right.1.is_text() => {
                return Some((Value::Concat(Box::new((left.0, right.0))), SqlType::Text));
            }
            _ => return None,
        };
        let sides = Box::new((left.0, right.0));
        match (&left.1, &right.1) {
            (l, r) if is_whole(l) && is_whole(r) => {
                let sql_type = wider(l, r);
                Some((Value::Integer(arithmetic, sql_type.clone(), sides), sql_type))
            }
            (SqlType::Float8, r) if *r == SqlType::Float8 || is_whole(r) => {
                Some((Value::Float(arithmetic, sides), SqlType::Float8))
            }
            (l, SqlType::Float8) if is_whole(l) => {
                Some((Value::Float(arithmetic, sides), SqlType::Float8))
            }
            _ => None,
        }
    }

    /// `$n` next to an operator: here its type decides the operator, so it must be the very one.
    fn exact_parameter(&mut self, number: usize, sql_type: &SqlType) -> Option<Value> {
        let value = self.parameter(number, sql_type)?;
        (self.hints.get(number - 1)?.as_ref() == Some(sql_type)).then_some(value)
    }
}

fn is_whole(sql_type: &SqlType) -> bool {
    matches!(sql_type, SqlType::Int2 | SqlType::Int4 | SqlType::Int8)
}

fn wider(left: &SqlType, right: &SqlType) -> SqlType {
    match (left, right) {
        (SqlType::Int8, _) | (_, SqlType::Int8) => SqlType::Int8,
        (SqlType::Int4, _) | (_, SqlType::Int4) => SqlType::Int4,
        _ => SqlType::Int2,
    }
}

/// Whether values of both types are the same datums, so that one can stand for the other (range
/// and length are checked when it is stored).
pub fn is_same_datum(given: &SqlType, wanted: &SqlType) -> bool {
    given == wanted
        || (is_whole(given) && is_whole(wanted))
        || (given.is_text() && wanted.is_text())
        || (matches!(given, SqlType::Float4 | SqlType::Float8)
            && matches!(wanted, SqlType::Float4 | SqlType::Float8))
}

/// The datum of a constant of a type; `None` if it is no constant, or would need another cast.
pub fn literal(expression: &Expr, sql_type: &SqlType) -> Option<Datum> {
    match expression {
        Expr::Nested(inner) => literal(inner, sql_type),
        Expr::Value(value) => match &value.value {
            ast::Value::Null => Some(Datum::Null),
            ast::Value::Boolean(value) if *sql_type == SqlType::Bool => Some(Datum::Bool(*value)),
            ast::Value::Number(digits, false) => number(digits, sql_type),
            ast::Value::SingleQuotedString(text) => string(text, sql_type),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) => match &value.value {
                ast::Value::Number(digits, false) => number(&format!("-{digits}"), sql_type),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// A number's digits as a datum of the type; only where it needs no rounding.
pub fn number(digits: &str, sql_type: &SqlType) -> Option<Datum> {
    let is_whole_number = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    match sql_type {
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 if is_whole_number => {
            datum_of_text(digits, sql_type).ok()
        }
        SqlType::Float4 | SqlType::Float8 | SqlType::NumericAny | SqlType::Numeric(..) => {
            datum_of_text(digits, sql_type).ok()
        }
        _ => None,
    }
}

/// A string literal as a datum of the type; what depends on the session is left to the planner.
pub fn string(text: &str, sql_type: &SqlType) -> Option<Datum> {
    match sql_type {
        SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Bpchar(_)
        | SqlType::Int2
        | SqlType::Int4
        | SqlType::Int8
        | SqlType::Float4
        | SqlType::Float8
        | SqlType::Bool
        | SqlType::Uuid
        | SqlType::Bytea => datum_of_text(text, sql_type).ok(),
        _ => None,
    }
}
