//! `CREATE MAPPING`: resolved by its connector without contacting the system behind it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::{
    common::DFSchema,
    logical_expr::ExprSchemable,
    scalar::ScalarValue,
    sql::sqlparser::ast::{self, BinaryOperator, Expr},
};
use runtime::connector::MappingRequest;
use storage::cluster::control::{ColumnRecord, Command, MappingRecord, ObjectId};

use super::options;
use crate::{
    Error, Result, Session, SqlType,
    catalog::{mapping::check_time_options, resolve},
    context::Context,
    parse::{CreateMapping, fold, unnamed},
    plan::CommandOutcome,
    rules,
};

/// Carries out CREATE MAPPING.
pub fn create(
    context: &Context,
    session: &Session,
    create: &CreateMapping,
) -> Result<CommandOutcome> {
    if create.or_replace && create.if_not_exists {
        return Err(Error::new("42601", "OR REPLACE and IF NOT EXISTS cannot be used together"));
    }
    if create.data_connection.is_some() {
        return Err(Error::unsupported("DATA CONNECTION is not supported"));
    }
    if create.object_type.is_some() {
        return Err(Error::unsupported("OBJECT TYPE is not supported"));
    }
    let name = resolve::relation_name(&create.name)?;
    let record = record(context, session, create, name.clone())?;
    let tag = "CREATE MAPPING".to_owned();
    let command = Command::CreateMapping { record, replace: create.or_replace };
    match context.parts.grid.control().submit(&command) {
        Ok(_) => Ok(CommandOutcome { tag, notices: Vec::new() }),
        Err(storage::Error::AlreadyExists { .. }) if create.if_not_exists => {
            let notice = format!("relation \"{}\" already exists, skipping", name.name);
            Ok(CommandOutcome { tag, notices: vec![("42P07", notice)] })
        }
        Err(error) => Err(error.into()),
    }
}

fn record(
    context: &Context,
    session: &Session,
    create: &CreateMapping,
    name: storage::cluster::control::ObjectName,
) -> Result<MappingRecord> {
    let connectors = &context.parts.connectors;
    let wanted = create.connector.as_ref().map(|word| word.value.as_str()).unwrap_or_default();
    let connector = connectors.get(wanted).ok_or_else(|| {
        Error::new("42704", format!("unknown mapping type \"{wanted}\""))
            .with_hint(format!("The types that exist are {}.", connectors.names().join(", ")))
    })?;
    let options = options::read(&create.options)?;
    check_time_options(&options)?;
    let external_name = match &create.external_name {
        None => name.name.clone(),
        Some(external) => match external.0.as_slice() {
            [part] => part.as_ident().map_or_else(|| part.to_string(), |part| part.value.clone()),
            _ => return Err(Error::new("42601", format!("invalid external name {external}"))),
        },
    };
    let (declared, external_columns) = declared_columns(create)?;
    let request = MappingRequest {
        external_name: external_name.clone(),
        options: options.clone(),
        schema: (!declared.is_empty()).then(|| Arc::new(Schema::new(declared))),
        external_columns: external_columns.clone(),
    };
    let schema = connector.resolve(&request)?;
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(n, field)| ColumnRecord {
            name: field.name().clone(),
            sql_type: SqlType::of_field(field).name(),
            is_not_null: false,
            default_sql: None,
            external_name: external_columns.get(n).cloned().flatten(),
        })
        .collect();
    let watermark = match &create.watermark {
        None => None,
        Some((column, lag)) => Some(watermark(context, session, &schema, column, lag)?),
    };
    Ok(MappingRecord {
        id: ObjectId(0),
        name,
        external_name,
        connector: connector.name().to_owned(),
        options,
        schema,
        columns,
        watermark,
    })
}

/// Fields and external names of the columns as declared.
fn declared_columns(create: &CreateMapping) -> Result<(Vec<Field>, Vec<Option<String>>)> {
    let (mut fields, mut external): (Vec<Field>, Vec<_>) = (Vec::new(), Vec::new());
    for column in &create.columns {
        let name = fold(&column.name);
        if fields.iter().any(|field| *field.name() == name) {
            return Err(Error::new("42701", format!("column \"{name}\" specified more than once")));
        }
        let sql_type = SqlType::of_ast(&column.data_type)?;
        if matches!(sql_type, SqlType::Bpchar(_)) {
            let message = format!("type {} is not supported in a mapping", sql_type.name());
            return Err(Error::unsupported(message).with_hint("Use VARCHAR(n) or TEXT."));
        }
        fields.push(sql_type.field(&name, true));
        external.push(column.external_name.clone());
    }
    Ok((fields, external))
}

/// `WATERMARK FOR column AS column [- INTERVAL '…']` → column position and lag in µs.
fn watermark(
    context: &Context,
    session: &Session,
    schema: &Schema,
    column: &ast::Ident,
    expression: &Expr,
) -> Result<(usize, i64)> {
    let name = fold(column);
    let position = schema
        .index_of(&name)
        .map_err(|_error| Error::new("42703", format!("column \"{name}\" does not exist")))?;
    if !matches!(schema.field(position).data_type(), DataType::Timestamp(..) | DataType::Int64) {
        return Err(Error::new(
            "42804",
            format!("watermark column \"{name}\" must be a TIMESTAMP or a BIGINT of microseconds"),
        ));
    }
    let is_column = |side: &Expr| matches!(side, Expr::Identifier(ident) if fold(ident) == name);
    let lag = match expression {
        side if is_column(side) => 0,
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } if is_column(left) => {
            interval_micros(context, session, right)?
        }
        _ => {
            return Err(Error::unsupported(format!("WATERMARK AS {expression} is not supported"))
                .with_hint(format!("Use WATERMARK FOR {name} AS {name} - INTERVAL '…'.")));
        }
    };
    Ok((position, lag))
}

/// A constant interval without months, in µs.
fn interval_micros(context: &Context, session: &Session, expression: &Expr) -> Result<i64> {
    let mut expression = expression.clone();
    rules::rewrite_ast(&mut expression);
    let state = context.state(session);
    let schema = DFSchema::empty();
    let value = state.create_logical_expr_from_sql_expr(unnamed(expression.clone()), &schema)?;
    let invalid = || {
        Error::new("42804", format!("watermark lag must be a constant interval, not {expression}"))
    };
    let value = match value.get_type(&schema)? {
        DataType::Interval(_) => state.create_physical_expr(value, &schema)?,
        _ => return Err(invalid()),
    };
    let batch = arrow::array::RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    let array = value.evaluate(&batch)?.into_array(1)?;
    let wanted = SqlType::Interval.arrow();
    match ScalarValue::try_from_array(&crate::values::cast_array(&array, &wanted)?, 0)? {
        ScalarValue::IntervalMonthDayNano(Some(lag)) if lag.months == 0 => {
            const DAY_MICROS: i64 = 86_400_000_000;
            let lag = i64::from(lag.days) * DAY_MICROS + lag.nanoseconds / 1_000;
            match lag {
                0.. => Ok(lag),
                _ => Err(Error::new("22023", "watermark lag must not be negative")),
            }
        }
        _ => Err(invalid()),
    }
}
