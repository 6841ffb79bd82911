//! DataFusion's errors in PostgreSQL's words. What our own rules and functions threw through
//! DataFusion comes back as it was; the rest is recognised by kind first and by text last.

use std::error::Error as StdError;

use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};

use super::Error;
use crate::functions::missing::no_such_function;

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        of_datafusion(&error)
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        of_arrow(&error)
    }
}

fn of_datafusion(error: &DataFusionError) -> Error {
    if let Some(ours) = ours_inside(error) {
        return ours;
    }
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            of_datafusion(inner)
        }
        DataFusionError::Shared(inner) => of_datafusion(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => of_datafusion(first),
            None => Error::new("XX000", "internal error: no error"),
        },
        DataFusionError::ArrowError(arrow, _) => of_arrow(arrow),
        DataFusionError::SchemaError(schema, _) => of_schema(schema),
        DataFusionError::Plan(text) => of_plan(text),
        DataFusionError::SQL(parser, _) => Error::new("42601", first_line(&parser.to_string())),
        DataFusionError::NotImplemented(text) => Error::unsupported(first_line(text)),
        DataFusionError::ResourcesExhausted(text) => {
            Error::new("53200", "out of memory").with_detail(first_line(text))
        }
        DataFusionError::Execution(text) => of_execution(text),
        DataFusionError::External(inner) => of_foreign(&inner.to_string()),
        other => Error::new("XX000", first_line(&other.strip_backtrace())),
    }
}

/// An error of ours that travelled inside DataFusion's.
fn ours_inside(error: &DataFusionError) -> Option<Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(present) = cause {
        if let Some(ours) = present.downcast_ref::<Error>() {
            return Some(ours.clone());
        }
        if let Some(ours) = present.downcast_ref::<runtime::Error>() {
            return Some(ours.clone().into());
        }
        if let Some(ours) = present.downcast_ref::<storage::Error>() {
            return Some(ours.clone().into());
        }
        cause = match present.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner)) => {
                Some(inner.as_ref())
            }
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::ArrowError(inner, _)) => Some(inner.as_ref()),
            Some(DataFusionError::Collection(errors)) => {
                return errors.iter().find_map(ours_inside);
            }
            Some(_) => None,
            None => match present.downcast_ref::<ArrowError>() {
                Some(ArrowError::ExternalError(inner)) => Some(inner.as_ref()),
                _ => present.source(),
            },
        };
    }
    None
}

fn of_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            if let Some(relation) = &field.relation
                && !valid_fields.iter().any(|valid| valid.relation.as_ref() == Some(relation))
            {
                let message =
                    format!("missing FROM-clause entry for table \"{}\"", relation.table());
                return Error::new("42P01", message);
            }
            let name = crate::rules::output_names::wire_name(&field.name);
            match &field.relation {
                Some(relation) => Error::new(
                    "42703",
                    format!("column {}.{name} does not exist", relation.table()),
                ),
                None => Error::new("42703", format!("column \"{name}\" does not exist")),
            }
        }
        SchemaError::AmbiguousReference { field } => {
            Error::new("42702", format!("column reference \"{}\" is ambiguous", field.name))
        }
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new("42701", format!("column \"{name}\" specified more than once"))
        }
    }
}

fn of_arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => Error::new("22012", "division by zero"),
        ArrowError::ArithmeticOverflow(text) => {
            let what = ["Int16", "Int32", "Int64"].into_iter().find(|name| text.contains(name));
            let message = match what {
                Some("Int16") => "smallint out of range",
                Some("Int32") => "integer out of range",
                Some("Int64") => "bigint out of range",
                _ => "numeric field overflow",
            };
            Error::new("22003", message)
        }
        ArrowError::CastError(text) | ArrowError::ParseError(text) => of_cast(text),
        ArrowError::InvalidArgumentError(text) if text.contains("is too large to store") => {
            Error::new("22003", "numeric field overflow").with_detail(first_line(text))
        }
        ArrowError::ComputeError(text) if text.contains("overflow") => {
            Error::new("22003", "value out of range").with_detail(first_line(text))
        }
        ArrowError::ComputeError(text) if text.contains("egular expression") => of_foreign(text),
        ArrowError::MemoryError(text) => {
            Error::new("53200", "out of memory").with_detail(first_line(text))
        }
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(inner) => of_datafusion(inner),
            None => Error::new("XX000", inner.to_string()),
        },
        ArrowError::ComputeError(text) if text.contains("Regular expression") => of_execution(text),
        other => Error::new("XX000", first_line(&other.to_string())),
    }
}

/// `Cannot cast string 'x' to value of Int64 type` and its kin.
fn of_cast(text: &str) -> Error {
    let text = first_line(text);
    if let Some((value, kind)) =
        between(&text, "Cannot cast string '", "'").zip(between(&text, "to value of ", " type"))
    {
        let sql = parse_arrow_name(kind);
        return Error::new("22P02", format!("invalid input syntax for type {sql}: \"{value}\""));
    }
    if text.contains("Can't cast value") || text.contains("out of range") {
        let kind = text.rsplit(' ').next().map(parse_arrow_name).unwrap_or_default();
        return Error::new("22003", format!("{kind} out of range"));
    }
    Error::new("22P02", text)
}

/// PostgreSQL's name for a type that Arrow's message spells its own way.
fn parse_arrow_name(name: &str) -> String {
    if let Some(element) = name.strip_prefix("List(").and_then(|rest| rest.strip_suffix(')')) {
        return format!("{}[]", parse_arrow_name(element));
    }
    match name {
        "Utf8" | "LargeUtf8" | "Utf8View" => "text",
        "Null" => "unknown",
        "Binary" => "bytea",
        "UInt32" => "oid",
        "FixedSizeBinary(16)" => "uuid",
        name if name.starts_with("Timestamp") && name.contains('"') => "timestamp with time zone",
        name if name.starts_with("Timestamp") => "timestamp without time zone",
        "Boolean" => "boolean",
        "Int8" | "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "Float32" => "real",
        "Float64" => "double precision",
        "Date32" | "Date64" => "date",
        name if name.starts_with("Decimal") => "numeric",
        name if name.starts_with("Time") => "time without time zone",
        name if name.starts_with("Interval") => "interval",
        other => return other.to_lowercase(),
    }
    .to_owned()
}

fn of_plan(text: &str) -> Error {
    let line = first_line(text);
    if let Some(name) = between(&line, "table '", "' not found") {
        return no_such_relation(name);
    }
    if let Some(name) = between(&line, "table function '", "' not found")
        .or_else(|| between(&line, "Invalid function '", "'"))
    {
        return Error::new("42883", format!("function {name} does not exist"));
    }
    if line.contains("Column in SELECT must be in GROUP BY")
        || line.contains("must appear in the GROUP BY clause")
    {
        let column = between(&line, "expression \"", "\"")
            .or_else(|| between(text, "'", "' must appear in GROUP BY"))
            .or_else(|| between(text, "column \"", "\" must appear in the GROUP BY"))
            .unwrap_or_default();
        let column = column.strip_prefix("tidewater.public.").unwrap_or(column);
        return Error::new(
            "42803",
            format!(
                "column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate \
                 function"
            ),
        );
    }
    if let Some(error) = of_types(&line) {
        return error;
    }
    let code = if line.contains("Failed to coerce arguments")
        || line.contains("does not support")
        || line.contains("No function matches")
        || line.contains("Cannot coerce arithmetic expression")
        || line.contains("Cannot infer common argument type")
        || line.contains("type_coercion")
    {
        "42883"
    } else if line.contains("nsupported CAST") || line.contains("Cannot cast") {
        "42846"
    } else if line.contains("ambiguous") {
        "42702"
    } else if line.contains("must have the same number of columns")
        || line.contains("same number of")
        || line.contains("Inconsistent data length")
    {
        "42601"
    } else if line.contains("not supported") || line.contains("nsupported") {
        "0A000"
    } else {
        "42000"
    };
    Error::new(code, line)
}

/// The errors of libraries below: patterns are the only ones a user's input can cause.
fn of_foreign(text: &str) -> Error {
    let is_pattern = text.contains("regex parse error") || text.contains("egular expression");
    match text.rsplit_once(": ") {
        Some((_, reason)) if is_pattern => {
            Error::new("2201B", format!("invalid regular expression: {}", first_line(reason)))
        }
        _ => Error::new("XX000", first_line(text)),
    }
}

/// Complaints about types that PostgreSQL has words of its own for.
fn of_types(line: &str) -> Option<Error> {
    let sql = |name: &str| parse_arrow_name(name.trim().trim_end_matches('.'));
    if let Some(call) = between(line, "name and argument types '", "'. You might need")
        && let Some((name, types)) = call.strip_suffix(')').and_then(|call| call.split_once('('))
    {
        let types: Vec<String> = arguments(types).into_iter().map(sql).collect();
        return Some(no_such_function(function_name(name), &types));
    }
    if let Some(operands) =
        line.strip_prefix("Cannot infer common string type for string concat operation ")
        && let Some((left, right)) = operands.split_once(" || ")
    {
        let message = format!("operator does not exist: {} || {}", sql(left), sql(right));
        return Some(Error::new("42883", message).with_hint(
            "No operator matches the given name and argument types. \
             You might need to add explicit type casts.",
        ));
    }
    if let Some(found) =
        line.strip_prefix("Unary operator 'NOT' requires a boolean expression, got ")
    {
        let found = sql(found);
        return Some(Error::new(
            "42804",
            format!("argument of NOT must be type boolean, not type {found}"),
        ));
    }
    let logical = line
        .strip_prefix("Cannot infer common argument type for logical boolean operation ")
        .and_then(|operands| {
            let (op, (left, right)) = ["AND", "OR"]
                .into_iter()
                .find_map(|op| Some((op, operands.split_once(&format!(" {op} "))?)))?;
            Some((op, [left, right].into_iter().map(sql).find(|name| name != "boolean")?))
        });
    if let Some((op, found)) = logical {
        return Some(Error::new(
            "42804",
            format!("argument of {op} must be type boolean, not type {found}"),
        ));
    }
    if let Some((left, right)) = between(line, "Previous inputs were of type ", ", but got")
        .zip(between(line, "incompatible type ", " on column"))
    {
        let message = format!("UNION types {} and {} cannot be matched", sql(left), sql(right));
        return Some(Error::new("42804", message));
    }
    if line.contains("queries have different number of columns") {
        let operation = line.split(' ').next().unwrap_or_default();
        let message = format!("each {operation} query must have the same number of columns");
        return Some(Error::new("42601", message));
    }
    if let Some((then, other)) =
        between(line, "coerce then (", ")").zip(between(line, "else (", ")"))
    {
        let message = format!("CASE types {} and {} cannot be matched", sql(other), sql(then));
        return Some(Error::new("42804", message));
    }
    if let Some(found) = line
        .strip_prefix("Cannot create filter with non-boolean predicate ")
        .and_then(|rest| rest.rsplit_once("returning "))
    {
        let message = format!("argument of WHERE must be type boolean, not type {}", sql(found.1));
        return Some(Error::new("42804", message));
    }
    if line.starts_with("Aggregate function calls cannot be nested") {
        return Some(Error::new("42803", "aggregate function calls cannot be nested"));
    }
    if line.starts_with("Aggregate functions are not allowed in the WHERE clause") {
        return Some(Error::new("42803", "aggregate functions are not allowed in WHERE"));
    }
    if line.starts_with("Projections require unique expression names") {
        let message = "a column that occurs twice among the select items must have an alias";
        return Some(Error::unsupported(message).with_detail(line.to_owned()));
    }
    None
}

/// Names separated by commas, but not those inside parentheses.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut found) = (0, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                found.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !text.trim().is_empty() {
        found.push(&text[begin..]);
    }
    found
}

/// What a user calls a function that DataFusion knows under another name.
fn function_name(name: &str) -> &str {
    match name {
        "character_length" => "length",
        "strpos" => "position",
        "substr" => "substring",
        other => other,
    }
}

fn of_execution(text: &str) -> Error {
    let line = first_line(text);
    if line.starts_with("regex parse error") || line.contains("Regular expression did not compile")
    {
        let cause = text.lines().find_map(|line| line.trim().strip_prefix("error: "));
        let message = format!("invalid regular expression: {}", cause.unwrap_or(&line));
        return Error::new("2201B", message);
    }
    if let Some(unit) = between(&line, "Unsupported date_trunc granularity: '", "'") {
        let message = format!("unit \"{unit}\" not recognized for type timestamp");
        return Error::new("22023", message);
    }
    let code = if line.contains("more than one row") {
        return Error::new(
            "21000",
            "more than one row returned by a subquery used as an expression",
        );
    } else if line.contains("ivide by zero") || line.contains("ivision by zero") {
        return Error::new("22012", "division by zero");
    } else if line.contains("verflow") {
        "22003"
    } else if line.contains("Invalid timezone") || line.contains("nvalid date") {
        "22007"
    } else {
        "22000"
    };
    Error::new(code, line)
}

/// 42P01 in PostgreSQL's words: our catalog's name and the default schema are left out.
pub fn no_such_relation(name: &str) -> Error {
    let name = name.replace('"', "");
    let name = name.strip_prefix("tidewater.").unwrap_or(&name);
    let name = name.strip_prefix("public.").unwrap_or(name);
    Error::new("42P01", format!("relation \"{name}\" does not exist"))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    let (found, _) = rest.split_once(after)?;
    Some(found)
}

/// The message without DataFusion's prefixes, backtrace and suggestions.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.split("\n\nbacktrace:").next().unwrap_or(line);
    let mut line = line.trim();
    for prefix in [
        "Error during planning: ",
        "Execution error: ",
        "This feature is not implemented: ",
        "type_coercion caused by ",
        "Arrow error: ",
        "Cast error: ",
        "Optimizer rule 'simplify_expressions' failed caused by ",
    ] {
        line = line.strip_prefix(prefix).unwrap_or(line);
    }
    line.trim_end_matches('.').to_owned()
}
