//! SQL types: how a declared type, an Arrow type and PostgreSQL's type ids belong together.
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
//! | BYTEA | Binary | 17 |
//! | DATE | Date32 | 1082 |
//! | TIME | Time64(µs) | 1083 |
//! | TIMESTAMP / TIMESTAMPTZ | Timestamp(µs) / Timestamp(µs, "UTC") | 1114 / 1184 |
//! | INTERVAL | Interval(MonthDayNano) | 1186 |
//! | UUID | FixedSizeBinary(16) | 2950 |
//! | JSON / JSONB | Utf8 with field metadata | 114 / 3802 |
//! | ARRAY | List | element's array oid |
//! | STRUCT | Struct | 2249 (record) |
//!
//! A declared type that Arrow cannot tell apart (VARCHAR(n), JSON, UUID) stands in the field's
//! metadata under [`TYPE_KEY`].

use arrow::datatypes::{DataType, Field};

/// Field metadata key that holds the declared SQL type, in lower case (`varchar(20)`, `jsonb`).
pub const TYPE_KEY: &str = "tidewater.type";

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
}

impl SqlType {
    /// The type of an Arrow field: metadata first, then the Arrow type.
    pub fn of_field(field: &Field) -> Self {
        let _ = field;
        unimplemented!("owner: planner-core helper")
    }

    /// The Arrow type of the table at the top of this file.
    pub fn arrow(&self) -> DataType {
        unimplemented!("owner: planner-core helper")
    }

    /// PostgreSQL's type id.
    pub fn oid(&self) -> u32 {
        unimplemented!("owner: planner-core helper")
    }

    /// The type of a PostgreSQL type id; `None` if we have none such.
    pub fn of_oid(oid: u32) -> Option<Self> {
        let _ = oid;
        unimplemented!("owner: planner-core helper")
    }

    /// PostgreSQL's name: `bigint`, `numeric(10,2)`, `timestamp with time zone`.
    pub fn name(&self) -> String {
        unimplemented!("owner: planner-core helper")
    }
}
