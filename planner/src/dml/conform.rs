//! Makes the rows of a query fit a target: columns in the target's order, assignment casts as
//! PostgreSQL's, defaults for columns left out, VARCHAR(n) and CHAR(n) checked. INSERT, COPY and jobs share it.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::{Column, DFSchema},
    execution::SessionState,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit},
    scalar::ScalarValue,
};
use storage::cluster::control::{ColumnRecord, MappingRecord, TableRecord};

use crate::{
    Error, Result, SqlType,
    catalog::provider::visible_schema,
    functions::declared_text,
    parse,
    rules::{self, literal_rows::LiteralRows},
};

/// What rows are written into: the visible columns of a table, or those of a mapping.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name, for messages.
    pub name: String,
    /// Arrow schema of its columns.
    pub schema: SchemaRef,
    /// Its columns as declared.
    pub columns: Vec<ColumnRecord>,
}

impl Target {
    /// A table as a target.
    pub fn of_table(record: &TableRecord) -> Self {
        Self {
            name: record.name.name.clone(),
            schema: visible_schema(record),
            columns: record.columns.clone(),
        }
    }

    /// A mapping as a target.
    pub fn of_mapping(record: &MappingRecord) -> Self {
        Self {
            name: record.name.name.clone(),
            schema: Arc::clone(&record.schema),
            columns: record.columns.clone(),
        }
    }

    /// Positions of the named columns; all of them if none is named.
    pub fn positions(&self, names: &[String]) -> Result<Vec<usize>> {
        if names.is_empty() {
            return Ok((0..self.columns.len()).collect());
        }
        let mut positions = Vec::with_capacity(names.len());
        for name in names {
            let position =
                self.columns.iter().position(|column| column.name == *name).ok_or_else(|| {
                    Error::new(
                        "42703",
                        format!("column \"{name}\" of relation \"{}\" does not exist", self.name),
                    )
                })?;
            if positions.contains(&position) {
                return Err(Error::new(
                    "42701",
                    format!("column \"{name}\" specified more than once"),
                ));
            }
            positions.push(position);
        }
        Ok(positions)
    }

    /// The SQL type of a column.
    pub fn sql_type(&self, position: usize) -> SqlType {
        SqlType::of_field(self.schema.field(position))
    }
}

/// The input's columns put at `positions` of the target, cast as an assignment casts, the other
/// columns filled with their defaults.
pub fn conform_insert(
    state: &SessionState,
    target: &Target,
    positions: &[usize],
    input: LogicalPlan,
) -> Result<LogicalPlan> {
    let given = input.schema().fields().len();
    if given > positions.len() {
        return Err(Error::new("42601", "INSERT has more expressions than target columns"));
    }
    // Without a column list, PostgreSQL fills the columns that are not given.
    if given < positions.len() && positions.len() != target.columns.len() {
        return Err(Error::new("42601", "INSERT has more target columns than expressions"));
    }
    let mut expressions = Vec::with_capacity(target.columns.len());
    for (index, column) in target.columns.iter().enumerate() {
        let source = positions.iter().take(given).position(|position| *position == index);
        let value = match source {
            Some(source) => assign(&input, source, &target.sql_type(index), &column.name)?,
            None => default_value(state, column, &target.sql_type(index))?,
        };
        expressions.push(value.alias(&column.name));
    }
    Ok(LogicalPlanBuilder::from(input).project(expressions)?.build()?)
}

/// Column `source` of the input as a value of `sql_type`.
pub fn assign(input: &LogicalPlan, source: usize, sql_type: &SqlType, name: &str) -> Result<Expr> {
    let (qualifier, field) = input.schema().qualified_field(source);
    let value = Expr::Column(Column::from((qualifier, field)));
    let given = SqlType::of_field(field);
    let is_literal = is_text_literal(input, source) || *field.data_type() == DataType::Null;
    if !is_literal && !is_assignable(&given, sql_type) {
        return Err(Error::new(
            "42804",
            format!(
                "column \"{name}\" is of type {} but expression is of type {}",
                sql_type.name(),
                given.name()
            ),
        )
        .with_hint("You will need to rewrite or cast the expression."));
    }
    Ok(assignment_cast(value, field.data_type(), sql_type))
}

/// `value` as `sql_type`, with the length of VARCHAR(n) and CHAR(n) checked.
pub fn assignment_cast(value: Expr, data_type: &DataType, sql_type: &SqlType) -> Expr {
    let wanted = sql_type.arrow();
    let value = if *data_type == wanted { value } else { cast(value, wanted) };
    match sql_type {
        SqlType::Varchar(Some(_)) | SqlType::Bpchar(_) => declared_text::fit(value, sql_type),
        _ => value,
    }
}

/// Whether PostgreSQL casts `given` to `wanted` without being asked when it is assigned.
pub fn is_assignable(given: &SqlType, wanted: &SqlType) -> bool {
    use SqlType as T;
    if given == wanted || *given == T::Unknown || given.arrow() == wanted.arrow() {
        return true;
    }
    match (given, wanted) {
        (given, wanted) if given.is_numeric() && wanted.is_numeric() => true,
        // Everything has a text form that assignment uses.
        (_, wanted) if wanted.is_text() => true,
        (T::Date, T::Timestamp | T::Timestamptz)
        | (T::Timestamp, T::Timestamptz | T::Date | T::Time)
        | (T::Timestamptz, T::Timestamp | T::Date | T::Time)
        | (T::Interval, T::Time)
        | (T::Time, T::Interval)
        | (T::Json, T::Jsonb)
        | (T::Jsonb, T::Json)
        | (T::Int8 | T::Int4 | T::Int2, T::Oid)
        | (T::Oid, T::Int8) => true,
        (T::Array(given), T::Array(wanted)) => is_assignable(given, wanted),
        (T::Struct(given), T::Struct(wanted)) => {
            given.len() == wanted.len()
                && given
                    .iter()
                    .zip(wanted)
                    .all(|(given, wanted)| is_assignable(&given.1, &wanted.1))
        }
        _ => false,
    }
}

/// Whether a column of a plan is nothing but string literals, whose type PostgreSQL leaves open.
fn is_text_literal(plan: &LogicalPlan, column: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => {
            projection.expr.get(column).is_some_and(|expr| match expr.clone().unalias() {
                Expr::Column(inner) => projection
                    .input
                    .schema()
                    .maybe_index_of_column(&inner)
                    .is_some_and(|inner| is_text_literal(&projection.input, inner)),
                other => is_open_literal(&other),
            })
        }
        LogicalPlan::Values(values) => {
            values.values.iter().all(|row| row.get(column).is_some_and(is_open_literal))
        }
        LogicalPlan::TableScan(scan) => source_as_provider(&scan.source).is_ok_and(|provider| {
            provider.downcast_ref::<LiteralRows>().is_some_and(|rows| rows.is_open(column))
        }),
        LogicalPlan::SubqueryAlias(alias) => is_text_literal(&alias.input, column),
        LogicalPlan::Limit(limit) => is_text_literal(&limit.input, column),
        LogicalPlan::Sort(sort) => is_text_literal(&sort.input, column),
        LogicalPlan::Union(union) => {
            union.inputs.iter().all(|input| is_text_literal(input, column))
        }
        _ => false,
    }
}

fn is_open_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, _) => true,
        Expr::Alias(alias) => is_open_literal(&alias.expr),
        // VALUES of several rows are cast to a common type.
        Expr::Cast(cast) => is_open_literal(&cast.expr),
        _ => false,
    }
}

/// What a column gets that an INSERT leaves out.
pub fn default_value(
    state: &SessionState,
    column: &ColumnRecord,
    sql_type: &SqlType,
) -> Result<Expr> {
    let Some(sql) = &column.default_sql else {
        return Ok(lit(ScalarValue::try_from(&sql_type.arrow())?));
    };
    let mut ast = parse::parse_expression(sql)?;
    rules::rewrite_ast(&mut ast);
    let schema = DFSchema::empty();
    let value = state.create_logical_expr_from_sql_expr(parse::unnamed(ast), &schema)?;
    let data_type = datafusion::logical_expr::ExprSchemable::get_type(&value, &schema)?;
    Ok(assignment_cast(value, &data_type, sql_type))
}
