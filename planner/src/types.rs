//! SQL types: how a declared type, an Arrow type and PostgreSQL's type ids belong together.
//! Everything that crosses from SQL to Arrow or to the wire asks here, so there is one table.
//!
//! | SQL | Arrow | PostgreSQL oid |
//! | --- | --- | --- |
//! | BOOLEAN | Boolean | 16 |
//! | SMALLINT, TINYINT | Int16 | 21 |
//! | INTEGER | Int32 | 23 |
//! | BIGINT | Int64 | 20 |
//! | NUMERIC(p,s) | Decimal128(p,s) | 1700 |
//! | NUMERIC | Decimal128(38,18), printed without padding zeros | 1700 |
//! | avg of integers and NUMERIC | Decimal128(38,16), printed as PostgreSQL prints avg | 1700 |
//! | REAL / DOUBLE PRECISION | Float32 / Float64 | 700 / 701 |
//! | TEXT, VARCHAR(n) | Utf8 | 25 / 1043 |
//! | CHAR(n) | Utf8 without its trailing blanks; they come back as it goes out | 1042 |
//! | BYTEA | Binary | 17 |
//! | DATE | Date32 | 1082 |
//! | TIME | Time64(µs) | 1083 |
//! | TIMESTAMP / TIMESTAMPTZ | Timestamp(µs) / Timestamp(µs, "UTC") | 1114 / 1184 |
//! | INTERVAL | Interval(MonthDayNano) | 1186 |
//! | UUID | FixedSizeBinary(16) | 2950 |
//! | JSON / JSONB | Utf8 with field metadata | 114 / 3802 |
//! | ARRAY | List | element's array oid |
//! | STRUCT | Struct | 2249 (record) |
//! | oid | UInt32 | 26 |
//!
//! A declared type that Arrow cannot tell apart (VARCHAR(n), CHAR(n), JSON, name, "char") stands in
//! the field's metadata under [`TYPE_KEY`].

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use datafusion::sql::sqlparser::ast;

use crate::{Error, Result};

/// Field metadata key that holds the declared SQL type, in lower case (`varchar(20)`, `jsonb`).
pub const TYPE_KEY: &str = "tidewater.type";

/// Precision that Decimal128 can hold.
pub const NUMERIC_PRECISION_MAX: u8 = 38;

/// Scale of NUMERIC declared without one.
pub const NUMERIC_ANY_SCALE: i8 = 18;

/// Scale of what avg answers for integers and NUMERIC.
pub const NUMERIC_AVG_SCALE: i8 = 16;

/// A SQL type as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SqlType {
    /// BOOLEAN.
    Bool,
    /// SMALLINT.
    Int2,
    /// INTEGER.
    Int4,
    /// BIGINT.
    Int8,
    /// NUMERIC with a declared precision and scale.
    Numeric(u8, i8),
    /// NUMERIC without; see the table above.
    NumericAny,
    /// NUMERIC as avg answers it.
    NumericAvg,
    /// REAL.
    Float4,
    /// DOUBLE PRECISION.
    Float8,
    /// TEXT.
    Text,
    /// VARCHAR(n).
    Varchar(Option<u32>),
    /// CHAR(n), and `bpchar` without a length, which is not padded: trailing blanks mean nothing.
    Bpchar(Option<u32>),
    /// BYTEA.
    Bytea,
    /// DATE.
    Date,
    /// TIME.
    Time,
    /// TIMESTAMP.
    Timestamp,
    /// TIMESTAMPTZ.
    Timestamptz,
    /// INTERVAL.
    Interval,
    /// UUID.
    Uuid,
    /// JSON.
    Json,
    /// JSONB.
    Jsonb,
    /// ARRAY of an element type.
    Array(Box<SqlType>),
    /// STRUCT: field names and types.
    Struct(Vec<(String, SqlType)>),
    /// OID, and the reg… types of catalog queries: an unsigned 32-bit number.
    Oid,
    /// `name` of catalog tables.
    Name,
    /// `"char"` of catalog tables.
    Char,
    /// A parameter or literal whose type is not known (sent as text, oid 25 on the wire).
    Unknown,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    /// PostgreSQL's name for it; duplicates are allowed.
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
    /// The column it is, if it is a plain one of a relation.
    pub origin: Option<Origin>,
}

/// A column of a relation, as clients name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The relation's oid, as in `pg_class`.
    pub relation: u32,
    /// The column's number from 1, as in `pg_attribute`.
    pub column: i16,
}

impl Origin {
    /// The column at `position`, from 0, of the relation with that oid; `None` for numbers that the
    /// wire cannot carry.
    pub fn new(oid: i64, position: usize) -> Option<Self> {
        let column = i16::try_from(position + 1).ok()?;
        Some(Self { relation: u32::try_from(oid).ok()?, column })
    }
}

impl OutputColumn {
    /// Whether columns have the same names and types, wherever they come from.
    pub fn are_alike(one: &[Self], two: &[Self]) -> bool {
        let is_alike =
            |(one, two): (&Self, &Self)| one.name == two.name && one.sql_type == two.sql_type;
        one.len() == two.len() && one.iter().zip(two).all(is_alike)
    }

    /// A column that is computed.
    pub fn computed(name: impl Into<String>, sql_type: SqlType) -> Self {
        Self { name: name.into(), sql_type, origin: None }
    }
}

impl SqlType {
    /// The type of an Arrow field: metadata first, then the Arrow type.
    pub fn of_field(field: &Field) -> Self {
        // A cast keeps the declaration of the column under it, which says nothing any more then.
        let fits = |sql_type: &Self| {
            Self::of_arrow(&sql_type.arrow()) == Self::of_arrow(field.data_type())
        };
        if let Some(declared) = field.metadata().get(TYPE_KEY)
            && let Some(sql_type) = of_metadata(declared).filter(fits)
        {
            return sql_type;
        }
        Self::of_arrow(field.data_type())
    }

    /// The type of an Arrow type that carries no declaration.
    pub fn of_arrow(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => SqlType::Bool,
            DataType::Int8 | DataType::Int16 => SqlType::Int2,
            DataType::Int32 | DataType::UInt8 | DataType::UInt16 => SqlType::Int4,
            DataType::Int64 | DataType::UInt64 => SqlType::Int8,
            DataType::UInt32 => SqlType::Oid,
            DataType::Float16 | DataType::Float32 => SqlType::Float4,
            DataType::Float64 => SqlType::Float8,
            DataType::Decimal32(p, s)
            | DataType::Decimal64(p, s)
            | DataType::Decimal128(p, s)
            | DataType::Decimal256(p, s) => of_decimal(*p, *s),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::Text,
            DataType::FixedSizeBinary(16) => SqlType::Uuid,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => SqlType::Bytea,
            DataType::Date32 | DataType::Date64 => SqlType::Date,
            DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
            DataType::Timestamp(_, None) => SqlType::Timestamp,
            DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::ListView(element)
            | DataType::LargeListView(element)
            | DataType::FixedSizeList(element, _)
            | DataType::Map(element, _) => SqlType::Array(Box::new(Self::of_field(element))),
            DataType::Struct(fields) => SqlType::Struct(
                fields.iter().map(|field| (field.name().clone(), Self::of_field(field))).collect(),
            ),
            DataType::Dictionary(_, value) => Self::of_arrow(value),
            DataType::RunEndEncoded(_, value) => Self::of_field(value),
            DataType::Null | DataType::Union(..) => SqlType::Unknown,
        }
    }

    /// The Arrow type of the table at the top of this file.
    pub fn arrow(&self) -> DataType {
        match self {
            SqlType::Bool => DataType::Boolean,
            SqlType::Int2 => DataType::Int16,
            SqlType::Int4 => DataType::Int32,
            SqlType::Int8 => DataType::Int64,
            SqlType::Numeric(precision, scale) => DataType::Decimal128(*precision, *scale),
            SqlType::NumericAny => DataType::Decimal128(NUMERIC_PRECISION_MAX, NUMERIC_ANY_SCALE),
            SqlType::NumericAvg => DataType::Decimal128(NUMERIC_PRECISION_MAX, NUMERIC_AVG_SCALE),
            SqlType::Float4 => DataType::Float32,
            SqlType::Float8 => DataType::Float64,
            SqlType::Text
            | SqlType::Varchar(_)
            | SqlType::Bpchar(_)
            | SqlType::Json
            | SqlType::Jsonb
            | SqlType::Name
            | SqlType::Char
            | SqlType::Unknown => DataType::Utf8,
            SqlType::Bytea => DataType::Binary,
            SqlType::Date => DataType::Date32,
            SqlType::Time => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            SqlType::Uuid => DataType::FixedSizeBinary(16),
            SqlType::Array(element) => DataType::List(Arc::new(element.field("item", true))),
            SqlType::Struct(fields) => DataType::Struct(
                fields
                    .iter()
                    .map(|(name, sql_type)| sql_type.field(name, true))
                    .collect::<Fields>(),
            ),
            SqlType::Oid => DataType::UInt32,
        }
    }

    /// A field of this type; the declaration goes into the metadata where Arrow would lose it.
    pub fn field(&self, name: &str, is_nullable: bool) -> Field {
        let field = Field::new(name, self.arrow(), is_nullable);
        if Self::of_arrow(field.data_type()) == *self || *self == SqlType::Unknown {
            return field;
        }
        field.with_metadata(HashMap::from([(TYPE_KEY.to_owned(), self.name())]))
    }

    /// PostgreSQL's type id.
    pub fn oid(&self) -> u32 {
        match self {
            SqlType::Bool => 16,
            SqlType::Int2 => 21,
            SqlType::Int4 => 23,
            SqlType::Int8 => 20,
            SqlType::Numeric(..) | SqlType::NumericAny | SqlType::NumericAvg => 1700,
            SqlType::Float4 => 700,
            SqlType::Float8 => 701,
            SqlType::Text | SqlType::Unknown => 25,
            SqlType::Varchar(_) => 1043,
            SqlType::Bpchar(_) => 1042,
            SqlType::Bytea => 17,
            SqlType::Date => 1082,
            SqlType::Time => 1083,
            SqlType::Timestamp => 1114,
            SqlType::Timestamptz => 1184,
            SqlType::Interval => 1186,
            SqlType::Uuid => 2950,
            SqlType::Json => 114,
            SqlType::Jsonb => 3802,
            SqlType::Array(element) => element.array_oid(),
            SqlType::Struct(_) => 2249,
            SqlType::Oid => 26,
            SqlType::Name => 19,
            SqlType::Char => 18,
        }
    }

    /// PostgreSQL's id of the array type over this element.
    fn array_oid(&self) -> u32 {
        match self {
            SqlType::Bool => 1000,
            SqlType::Int2 => 1005,
            SqlType::Int4 => 1007,
            SqlType::Int8 => 1016,
            SqlType::Numeric(..) | SqlType::NumericAny | SqlType::NumericAvg => 1231,
            SqlType::Float4 => 1021,
            SqlType::Float8 => 1022,
            SqlType::Text | SqlType::Unknown => 1009,
            SqlType::Varchar(_) => 1015,
            SqlType::Bpchar(_) => 1014,
            SqlType::Bytea => 1001,
            SqlType::Date => 1182,
            SqlType::Time => 1183,
            SqlType::Timestamp => 1115,
            SqlType::Timestamptz => 1185,
            SqlType::Interval => 1187,
            SqlType::Uuid => 2951,
            SqlType::Json => 199,
            SqlType::Jsonb => 3807,
            // PostgreSQL has no arrays of arrays: every dimension has the same type.
            SqlType::Array(element) => element.array_oid(),
            SqlType::Struct(_) => 2287,
            SqlType::Oid => 1028,
            SqlType::Name => 1003,
            SqlType::Char => 1002,
        }
    }

    /// The type of a PostgreSQL type id; `None` if we have none such.
    pub fn of_oid(oid: u32) -> Option<Self> {
        Some(match oid {
            16 => SqlType::Bool,
            17 => SqlType::Bytea,
            18 => SqlType::Char,
            19 => SqlType::Name,
            20 => SqlType::Int8,
            21 => SqlType::Int2,
            22 => SqlType::Array(Box::new(SqlType::Int2)),
            23 => SqlType::Int4,
            25 => SqlType::Text,
            // oid, and regproc, regclass, regtype, regnamespace, regrole.
            26 | 24 | 2205 | 2206 | 4089 | 4096 => SqlType::Oid,
            30 => SqlType::Array(Box::new(SqlType::Oid)),
            114 => SqlType::Json,
            700 => SqlType::Float4,
            701 => SqlType::Float8,
            705 => SqlType::Unknown,
            1042 => SqlType::Bpchar(None),
            1043 => SqlType::Varchar(None),
            1082 => SqlType::Date,
            1083 => SqlType::Time,
            1114 => SqlType::Timestamp,
            1184 => SqlType::Timestamptz,
            1186 => SqlType::Interval,
            1700 => SqlType::NumericAny,
            2950 => SqlType::Uuid,
            3802 => SqlType::Jsonb,
            _ => {
                const ELEMENTS: [SqlType; 22] = [
                    SqlType::Bool,
                    SqlType::Bytea,
                    SqlType::Char,
                    SqlType::Name,
                    SqlType::Int2,
                    SqlType::Int4,
                    SqlType::Int8,
                    SqlType::Text,
                    SqlType::Varchar(None),
                    SqlType::Bpchar(None),
                    SqlType::Oid,
                    SqlType::Float4,
                    SqlType::Float8,
                    SqlType::NumericAny,
                    SqlType::Date,
                    SqlType::Time,
                    SqlType::Timestamp,
                    SqlType::Timestamptz,
                    SqlType::Interval,
                    SqlType::Uuid,
                    SqlType::Json,
                    SqlType::Jsonb,
                ];
                let element = ELEMENTS.into_iter().find(|element| element.array_oid() == oid)?;
                SqlType::Array(Box::new(element))
            }
        })
    }

    /// PostgreSQL's name: `bigint`, `numeric(10,2)`, `timestamp with time zone`.
    pub fn name(&self) -> String {
        let name = match self {
            SqlType::Bool => "boolean",
            SqlType::Int2 => "smallint",
            SqlType::Int4 => "integer",
            SqlType::Int8 => "bigint",
            SqlType::Numeric(precision, scale) => return format!("numeric({precision},{scale})"),
            SqlType::NumericAny | SqlType::NumericAvg => "numeric",
            SqlType::Float4 => "real",
            SqlType::Float8 => "double precision",
            SqlType::Text => "text",
            SqlType::Varchar(None) => "character varying",
            SqlType::Varchar(Some(length)) => return format!("character varying({length})"),
            SqlType::Bpchar(None) => "bpchar",
            SqlType::Bpchar(Some(length)) => return format!("character({length})"),
            SqlType::Bytea => "bytea",
            SqlType::Date => "date",
            SqlType::Time => "time without time zone",
            SqlType::Timestamp => "timestamp without time zone",
            SqlType::Timestamptz => "timestamp with time zone",
            SqlType::Interval => "interval",
            SqlType::Uuid => "uuid",
            SqlType::Json => "json",
            SqlType::Jsonb => "jsonb",
            SqlType::Array(element) => return format!("{}[]", element.name()),
            SqlType::Struct(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|(name, field)| format!("{name} {}", field.name())).collect();
                return format!("struct({})", fields.join(", "));
            }
            SqlType::Oid => "oid",
            SqlType::Name => "name",
            SqlType::Char => "\"char\"",
            SqlType::Unknown => "unknown",
        };
        name.to_owned()
    }

    /// The type a statement writes as `data_type`.
    pub fn of_ast(data_type: &ast::DataType) -> Result<Self> {
        use ast::DataType as D;
        Ok(match data_type {
            D::Bool | D::Boolean => SqlType::Bool,
            D::TinyInt(_) | D::SmallInt(_) | D::Int2(_) => SqlType::Int2,
            D::Int(_) | D::Integer(_) | D::Int4(_) => SqlType::Int4,
            D::BigInt(_) | D::Int8(_) => SqlType::Int8,
            D::Numeric(info) | D::Decimal(info) | D::Dec(info) => of_exact_number(info)?,
            D::Real | D::Float4 => SqlType::Float4,
            D::Float(ast::ExactNumberInfo::Precision(bits)) if *bits <= 24 => SqlType::Float4,
            D::Float(_) | D::Double(_) | D::DoublePrecision | D::Float8 => SqlType::Float8,
            D::Text | D::String(None) => SqlType::Text,
            D::Varchar(length)
            | D::CharacterVarying(length)
            | D::CharVarying(length)
            | D::Nvarchar(length) => SqlType::Varchar(of_length(length.as_ref(), "varchar")?),
            D::Char(None) | D::Character(None) => SqlType::Bpchar(Some(1)),
            D::Char(length) | D::Character(length) => {
                SqlType::Bpchar(of_length(length.as_ref(), "char")?)
            }
            D::Bytea => SqlType::Bytea,
            D::Date => SqlType::Date,
            D::Time(_, ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone) => {
                SqlType::Time
            }
            D::Timestamp(_, ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone) => {
                SqlType::Timestamp
            }
            D::Timestamp(_, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => {
                SqlType::Timestamptz
            }
            D::Interval { .. } => SqlType::Interval,
            D::Uuid => SqlType::Uuid,
            D::JSON => SqlType::Json,
            D::JSONB => SqlType::Jsonb,
            D::Regclass => SqlType::Oid,
            D::Array(
                ast::ArrayElemTypeDef::SquareBracket(element, _)
                | ast::ArrayElemTypeDef::AngleBracket(element)
                | ast::ArrayElemTypeDef::Parenthesis(element),
            ) => SqlType::Array(Box::new(of_part(element, "[]")?)),
            D::Struct(fields, _) => SqlType::Struct(
                fields
                    .iter()
                    .enumerate()
                    .map(|(index, field)| {
                        let name = match &field.field_name {
                            Some(name) => crate::parse::fold(name),
                            None => format!("f{}", index + 1),
                        };
                        Ok((name, of_part(&field.field_type, " in a struct")?))
                    })
                    .collect::<Result<_>>()?,
            ),
            D::Custom(name, arguments) => of_custom(name, arguments)?,
            other => return Err(unknown_type(&other.to_string())),
        })
    }

    /// Whether values of this type are numbers.
    pub fn is_numeric(&self) -> bool {
        matches!(
            self,
            SqlType::Int2
                | SqlType::Int4
                | SqlType::Int8
                | SqlType::Numeric(..)
                | SqlType::NumericAny
                | SqlType::NumericAvg
                | SqlType::Float4
                | SqlType::Float8
        )
    }

    /// Whether values of this type are character strings.
    pub fn is_text(&self) -> bool {
        matches!(
            self,
            SqlType::Text
                | SqlType::Varchar(_)
                | SqlType::Bpchar(_)
                | SqlType::Name
                | SqlType::Char
                | SqlType::Unknown
        )
    }
}

/// The type of an array's elements or of a field of a struct. No cast reaches inside these, so texts
/// there would keep blanks that CHAR(n) must not have.
fn of_part(data_type: &ast::DataType, place: &str) -> Result<SqlType> {
    match SqlType::of_ast(data_type)? {
        part @ SqlType::Bpchar(_) => {
            Err(Error::unsupported(format!("type {}{place} is not supported", part.name()))
                .with_hint("Use VARCHAR(n) or TEXT: they keep a text as it is."))
        }
        part => Ok(part),
    }
}

/// The declared types that [`SqlType::field`] leaves in metadata.
fn of_metadata(declared: &str) -> Option<SqlType> {
    Some(match declared {
        "json" => SqlType::Json,
        "jsonb" => SqlType::Jsonb,
        "name" => SqlType::Name,
        "\"char\"" => SqlType::Char,
        "oid" => SqlType::Oid,
        "character varying" | "varchar" => SqlType::Varchar(None),
        "bpchar" => SqlType::Bpchar(None),
        "uuid" => SqlType::Uuid,
        _ => {
            let (kind, rest) = declared.split_once('(')?;
            let arguments = rest.strip_suffix(')')?;
            match kind {
                "character varying" | "varchar" => SqlType::Varchar(Some(arguments.parse().ok()?)),
                "character" => SqlType::Bpchar(Some(arguments.parse().ok()?)),
                "numeric" => {
                    let (precision, scale) = arguments.split_once(',')?;
                    SqlType::Numeric(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
                }
                _ => return None,
            }
        }
    })
}

fn of_decimal(precision: u8, scale: i8) -> SqlType {
    match (precision, scale) {
        (NUMERIC_PRECISION_MAX.., NUMERIC_ANY_SCALE) => SqlType::NumericAny,
        (NUMERIC_PRECISION_MAX.., NUMERIC_AVG_SCALE) => SqlType::NumericAvg,
        _ => SqlType::Numeric(precision.min(NUMERIC_PRECISION_MAX), scale),
    }
}

fn of_exact_number(info: &ast::ExactNumberInfo) -> Result<SqlType> {
    let (precision, scale) = match *info {
        ast::ExactNumberInfo::None => return Ok(SqlType::NumericAny),
        ast::ExactNumberInfo::Precision(precision) => (precision, 0),
        ast::ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    if precision == 0 || precision > u64::from(NUMERIC_PRECISION_MAX) {
        return Err(Error::new(
            "22023",
            format!("NUMERIC precision {precision} must be between 1 and {NUMERIC_PRECISION_MAX}"),
        ));
    }
    if scale < 0 || scale > precision as i64 {
        return Err(Error::new(
            "22023",
            format!("NUMERIC scale {scale} must be between 0 and precision {precision}"),
        ));
    }
    Ok(SqlType::Numeric(precision as u8, scale as i8))
}

fn of_length(length: Option<&ast::CharacterLength>, name: &str) -> Result<Option<u32>> {
    /// PostgreSQL's own bound.
    const LENGTH_MAX: u64 = 10_485_760;
    match length {
        None | Some(ast::CharacterLength::Max) => Ok(None),
        Some(ast::CharacterLength::IntegerLength { length: 0, .. }) => {
            Err(Error::new("22023", format!("length for type {name} must be at least 1")))
        }
        Some(ast::CharacterLength::IntegerLength { length, .. }) if *length > LENGTH_MAX => {
            Err(Error::new("22023", format!("length for type {name} cannot exceed {LENGTH_MAX}")))
        }
        Some(ast::CharacterLength::IntegerLength { length, .. }) => Ok(Some(*length as u32)),
    }
}

/// Type names that sqlparser hands through as they are.
fn of_custom(name: &ast::ObjectName, arguments: &[String]) -> Result<SqlType> {
    let text = name.to_string().to_lowercase();
    let bare = text.strip_prefix("pg_catalog.").unwrap_or(&text);
    if !arguments.is_empty() {
        return Err(unknown_type(bare));
    }
    Ok(match bare {
        "text" => SqlType::Text,
        "int2" => SqlType::Int2,
        "int4" => SqlType::Int4,
        "int8" => SqlType::Int8,
        "float4" => SqlType::Float4,
        "float8" => SqlType::Float8,
        "bool" => SqlType::Bool,
        "varchar" => SqlType::Varchar(None),
        "bpchar" => SqlType::Bpchar(None),
        "numeric" => SqlType::NumericAny,
        "timestamptz" => SqlType::Timestamptz,
        "timestamp" => SqlType::Timestamp,
        "date" => SqlType::Date,
        "interval" => SqlType::Interval,
        "uuid" => SqlType::Uuid,
        "json" => SqlType::Json,
        "jsonb" => SqlType::Jsonb,
        "bytea" => SqlType::Bytea,
        "name" => SqlType::Name,
        "\"char\"" => SqlType::Char,
        "oid" | "regclass" | "regtype" | "regproc" | "regnamespace" | "regrole" => SqlType::Oid,
        other => return Err(unknown_type(other)),
    })
}

fn unknown_type(name: &str) -> Error {
    Error::new("42704", format!("type \"{}\" does not exist", name.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_a_field() {
        let types = [
            SqlType::Bool,
            SqlType::Int2,
            SqlType::Int4,
            SqlType::Int8,
            SqlType::Numeric(10, 2),
            SqlType::Numeric(38, 18),
            SqlType::NumericAny,
            SqlType::NumericAvg,
            SqlType::Float4,
            SqlType::Float8,
            SqlType::Text,
            SqlType::Varchar(Some(20)),
            SqlType::Varchar(None),
            SqlType::Bpchar(Some(84)),
            SqlType::Bpchar(None),
            SqlType::Bytea,
            SqlType::Date,
            SqlType::Time,
            SqlType::Timestamp,
            SqlType::Timestamptz,
            SqlType::Interval,
            SqlType::Uuid,
            SqlType::Json,
            SqlType::Jsonb,
            SqlType::Oid,
            SqlType::Name,
            SqlType::Char,
            SqlType::Array(Box::new(SqlType::Varchar(Some(3)))),
            SqlType::Struct(vec![("a".into(), SqlType::Int8), ("b".into(), SqlType::Jsonb)]),
        ];
        for sql_type in types {
            assert_eq!(SqlType::of_field(&sql_type.field("c", true)), sql_type);
        }
    }

    #[test]
    fn ids_are_postgresqls() {
        for oid in [16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 700, 701, 1042, 1043, 1082, 1083, 1114]
        {
            assert_eq!(SqlType::of_oid(oid).map(|sql_type| sql_type.oid()), Some(oid));
        }
        for oid in
            [1000, 1001, 1005, 1007, 1009, 1014, 1016, 1184, 1186, 1231, 1700, 2950, 2951, 3802]
        {
            assert_eq!(SqlType::of_oid(oid).map(|sql_type| sql_type.oid()), Some(oid));
        }
        assert_eq!(SqlType::of_oid(600), None);
    }

    #[test]
    fn names_parse_back_to_the_type() {
        for (text, name) in [
            ("tinyint", "smallint"),
            ("varchar(20)", "character varying(20)"),
            ("char(20)", "character(20)"),
            ("char", "character(1)"),
            ("bpchar", "bpchar"),
            ("numeric(10,2)", "numeric(10,2)"),
            ("timestamptz", "timestamp with time zone"),
            ("int8[]", "bigint[]"),
            ("double precision", "double precision"),
            ("jsonb", "jsonb"),
            ("float", "double precision"),
            ("timestamp(3)", "timestamp without time zone"),
        ] {
            let sql_type = crate::parse::data_type(text).expect("a type");
            assert_eq!(sql_type.name(), name);
            assert_eq!(crate::parse::data_type(name).expect("its name").name(), name);
        }
        assert_eq!(crate::parse::data_type("numeric(50,2)").expect_err("too wide").code, "22023");
        assert_eq!(crate::parse::data_type("point").expect_err("none such").code, "42704");
    }
}
