//! What a type's name in a cast or declaration means in Arrow, where DataFusion's own answer is
//! not PostgreSQL's: FLOAT is double precision, NUMERIC has a fixed wide form, times count µs.
//! A type that Arrow cannot tell apart is marked in the field's metadata.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::{
    error::{DataFusionError, Result},
    logical_expr::planner::TypePlanner,
    sql::sqlparser::ast::{self, ExactNumberInfo},
};

use crate::{SqlType, functions::external, types::TYPE_KEY};

/// Precision of NUMERIC where none is declared.
pub const NUMERIC_PRECISION: u8 = 38;
/// Scale of NUMERIC where none is declared.
pub const NUMERIC_SCALE: i8 = 18;

/// The hook through which DataFusion asks for types.
#[derive(Debug, Default)]
pub struct PostgresTypes;

impl TypePlanner for PostgresTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        field_of(sql_type)
    }
}

fn field_of(sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
    use ast::DataType as T;
    let data_type = match sql_type {
        T::TinyInt(_) => DataType::Int16,
        T::Float(ExactNumberInfo::Precision(bits)) if *bits <= 24 => DataType::Float32,
        T::Float(_) | T::Double(_) => DataType::Float64,
        T::Numeric(info) | T::Decimal(info) | T::Dec(info) => numeric(info)?,
        T::Varchar(length) | T::CharacterVarying(length) | T::CharVarying(length) => {
            return Ok(Some(varchar(length.as_ref())));
        }
        T::Char(_) | T::Character(_) => {
            let name = SqlType::of_ast(sql_type).map_err(external)?.name();
            return Ok(Some(marked(DataType::Utf8, &name)));
        }
        T::Text | T::String(_) => DataType::Utf8,
        T::Bytea => DataType::Binary,
        T::Time(..) => DataType::Time64(TimeUnit::Microsecond),
        T::Timestamp(_, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => timestamptz(),
        T::Timestamp(..) | T::Datetime(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
        T::Uuid => return Ok(Some(marked(DataType::FixedSizeBinary(16), "uuid"))),
        T::JSON => return Ok(Some(marked(DataType::Utf8, "json"))),
        T::JSONB => return Ok(Some(marked(DataType::Utf8, "jsonb"))),
        T::Regclass => DataType::UInt32,
        T::Custom(name, _) => return custom(name),
        _ => return Ok(None),
    };
    Ok(Some(Arc::new(Field::new("", data_type, true))))
}

fn timestamptz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn numeric(info: &ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (u64::from(NUMERIC_PRECISION), i64::from(NUMERIC_SCALE)),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let is_allowed = (1..=38).contains(&precision) && (0..=precision as i64).contains(&scale);
    if !is_allowed {
        return Err(error(
            "22023",
            format!("NUMERIC precision {precision}, scale {scale} must be within 38 digits"),
        ));
    }
    Ok(DataType::Decimal128(precision as u8, scale as i8))
}

fn varchar(length: Option<&ast::CharacterLength>) -> FieldRef {
    match length {
        Some(ast::CharacterLength::IntegerLength { length, .. }) => {
            marked(DataType::Utf8, &format!("varchar({length})"))
        }
        _ => marked(DataType::Utf8, "varchar"),
    }
}

/// Types the parser has no word for: PostgreSQL's short and catalog names.
fn custom(name: &ast::ObjectName) -> Result<Option<FieldRef>> {
    let Some(ast::ObjectNamePart::Identifier(ident)) = name.0.last() else { return Ok(None) };
    let data_type = match (ident.value.to_lowercase().as_str(), ident.quote_style) {
        ("char", Some(_)) => return Ok(Some(marked(DataType::Utf8, "char"))),
        ("name", _) => return Ok(Some(marked(DataType::Utf8, "name"))),
        (
            "oid" | "regclass" | "regtype" | "regproc" | "regprocedure" | "regoperator"
            | "regnamespace" | "regrole" | "xid",
            _,
        ) => DataType::UInt32,
        ("bool", _) => DataType::Boolean,
        ("int2", _) => DataType::Int16,
        ("int4" | "serial", _) => DataType::Int32,
        ("int8" | "bigserial", _) => DataType::Int64,
        ("float4", _) => DataType::Float32,
        ("float8", _) => DataType::Float64,
        ("numeric", _) => DataType::Decimal128(NUMERIC_PRECISION, NUMERIC_SCALE),
        ("bpchar", _) => return Ok(Some(marked(DataType::Utf8, "bpchar"))),
        ("text" | "regconfig" | "cstring" | "pg_node_tree" | "aclitem", _) => DataType::Utf8,
        ("timestamptz", _) => timestamptz(),
        ("timestamp", _) => DataType::Timestamp(TimeUnit::Microsecond, None),
        ("date", _) => DataType::Date32,
        ("uuid", _) => return Ok(Some(marked(DataType::FixedSizeBinary(16), "uuid"))),
        _ => {
            return Err(error("42704", format!("type \"{name}\" does not exist")));
        }
    };
    Ok(Some(Arc::new(Field::new("", data_type, true))))
}

fn marked(data_type: DataType, sql_type: &str) -> FieldRef {
    let metadata = HashMap::from([(TYPE_KEY.to_owned(), sql_type.to_owned())]);
    Arc::new(Field::new("", data_type, true).with_metadata(metadata))
}

fn error(code: &'static str, message: String) -> DataFusionError {
    DataFusionError::External(Box::new(runtime::Error::User { code, message }))
}
