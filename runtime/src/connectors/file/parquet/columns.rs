//! Which column of a file a column of the mapping is, and the SQL type that the file gives it.
//!
//! | Parquet | SQL |
//! | --- | --- |
//! | BOOLEAN | BOOLEAN |
//! | INT32, INT64; annotated INT(8 to 64), signed or not | the smallest of SMALLINT, INTEGER, BIGINT, NUMERIC(20,0) that holds all |
//! | FLOAT, FLOAT16, DOUBLE | REAL, REAL, DOUBLE PRECISION |
//! | DECIMAL(p ≤ 38, s) | NUMERIC(p,s) |
//! | STRING, ENUM; JSON; BYTE_ARRAY, BSON | TEXT; JSON; BYTEA |
//! | UUID; FIXED_LEN_BYTE_ARRAY | UUID; BYTEA |
//! | DATE; TIME; TIMESTAMP, local or UTC; INT96 | DATE; TIME; TIMESTAMP, TIMESTAMPTZ; TIMESTAMP |
//!
//! Lists, maps, groups and INTERVAL have no type here.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::datatypes::{DataType, Field, TimeUnit};
use parquet::{
    arrow::parquet_to_arrow_schema,
    basic::{ConvertedType, LogicalType, Repetition, Type as Physical},
    schema::types::{ColumnDescriptor, SchemaDescriptor, Type, TypePtr},
};

use super::{convert::Conversion, footer::Footer};
use crate::{
    Error, Result,
    connectors::file::{FileAccess, folder::Folder, settings::Settings},
    decode::column::{Column, TYPE_KEY},
};

/// Digits that NUMERIC holds.
const PRECISION_MAX: u8 = 38;
/// Columns of a table (54011 in PostgreSQL).
const COLUMNS_MAX: usize = 1600;

/// A column of a mapping that is read.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The column.
    pub field: Field,
    /// Its name in files.
    pub name: String,
}

/// A wanted column in one file.
#[derive(Debug)]
pub struct Matched {
    /// Which of the file's leaves it is.
    pub leaf: usize,
    /// As the library is to decode it.
    pub parquet: TypePtr,
    /// The Arrow type it is decoded to.
    pub read: DataType,
    /// From there to the column.
    pub conversion: Conversion,
}

/// A type of a file.
struct Typed {
    parquet: TypePtr,
    read: DataType,
    /// What SQL makes of it.
    natural: DataType,
    is_json: bool,
}

/// Refuses columns that no file can have.
pub fn check(wanted: &[Wanted]) -> Result<()> {
    match wanted.iter().find(|wanted| Column::new(&wanted.field).is_none()) {
        None => Ok(()),
        Some(Wanted { field, .. }) => Err(Error::Invalid {
            code: "0A000",
            message: format!(
                "column \"{}\" cannot be read with this format: type {} is not supported",
                field.name(),
                field.data_type()
            ),
        }),
    }
}

/// Finds the wanted columns in a file by their names.
pub fn matched(footer: &Footer, wanted: &[Wanted]) -> Result<Vec<Matched>> {
    let columns = footer.metadata.file_metadata().schema_descr().columns();
    let shown = &footer.shown;
    let find = |Wanted { field, name }: &Wanted| {
        let is_it = |column: &&Arc<ColumnDescriptor>| column.path().parts().first() == Some(name);
        let leaf = columns.iter().position(|column| is_it(&column)).ok_or_else(|| Error::User {
            code: "42703",
            message: format!("file \"{shown}\" has no column \"{name}\""),
        })?;
        if columns.iter().filter(is_it).filter(|column| is_plain(column)).count() > 1 {
            let message = format!("file \"{shown}\" has several columns \"{name}\"");
            return Err(Error::User { code: "42702", message });
        }
        let other = |spelled: &str| Error::User {
            code: "42804",
            message: format!(
                "column \"{}\" of the mapping is of type {}, but column \"{name}\" of file \
                 \"{shown}\" is of type {spelled}",
                field.name(),
                type_name(field.data_type())
            ),
        };
        let typed = typed_safely(&columns[leaf]).ok_or_else(|| other(&spelled(&columns[leaf])))?;
        let conversion = Conversion::new(&typed.read, &typed.natural, field)
            .ok_or_else(|| other(&type_name(&typed.natural)))?;
        Ok(Matched { leaf, parquet: typed.parquet, read: typed.read, conversion })
    };
    wanted.iter().map(find).collect()
}

/// The columns of a mapping that declares none: those of its first file.
pub fn inferred(access: &FileAccess, settings: &Settings) -> Result<Option<Vec<Field>>> {
    let folder = Folder::open(access, &settings.path)?;
    let files = folder.files(&settings.glob)?;
    let Some(file) = files.iter().find(|file| file.size > 0) else { return Ok(None) };
    let footer = Footer::open(&folder, &file.name, file.size)?;
    let columns = footer.metadata.file_metadata().schema_descr().columns();
    if columns.len() > COLUMNS_MAX {
        let message = format!("file \"{}\" has more than {COLUMNS_MAX} columns", footer.shown);
        return Err(Error::Invalid { code: "54011", message });
    }
    let field = |column: &Arc<ColumnDescriptor>| {
        let Some(typed) = typed_safely(column) else {
            let name = column.path().parts().first().map_or("", String::as_str);
            return Err(Error::Invalid {
                code: "0A000",
                message: format!(
                    "column \"{name}\" of file \"{}\" is of type {}, which cannot be read; \
                     declare the columns that are wanted",
                    footer.shown,
                    spelled(column)
                ),
            });
        };
        let field = Field::new(column.name(), typed.natural, true);
        Ok(match typed.is_json {
            true => field.with_metadata([(TYPE_KEY.to_owned(), "json".to_owned())].into()),
            false => field,
        })
    };
    columns.iter().map(field).collect::<Result<_>>().map(Some)
}

/// Whether a leaf is a column of its own, not a part of one.
fn is_plain(column: &ColumnDescriptor) -> bool {
    column.path().parts().len() == 1 && column.max_rep_level() == 0
}

/// What the library panics about has no type.
fn typed_safely(column: &ColumnDescriptor) -> Option<Typed> {
    catch_unwind(AssertUnwindSafe(|| typed(column))).ok().flatten()
}

fn typed(column: &ColumnDescriptor) -> Option<Typed> {
    if !is_plain(column) {
        return None;
    }
    let logical = column.logical_type_ref();
    let arrow = arrow_type(column)?;
    let is_json = column.converted_type() == ConvertedType::JSON;
    let is_text = is_json
        || column.converted_type() == ConvertedType::ENUM
        || matches!(arrow, DataType::Utf8);
    let natural = match &arrow {
        _ if is_text => DataType::Utf8,
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Binary => arrow.clone(),
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        &(DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale))
            if precision <= PRECISION_MAX && scale >= 0 =>
        {
            DataType::Decimal128(precision, scale)
        }
        DataType::FixedSizeBinary(16) if logical == Some(&LogicalType::Uuid) => arrow.clone(),
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        _ => return None,
    };
    let parquet = column.self_type_ptr();
    let (parquet, read) = match (column.physical_type(), &arrow) {
        // Texts come as bytes without a copy, and are checked when they become texts: of JSON the
        // library would not check that they are texts at all.
        (Physical::BYTE_ARRAY, DataType::Utf8 | DataType::Binary) => {
            (plain_bytes(&parquet)?, DataType::BinaryView)
        }
        // In nanoseconds some of its dates would not fit.
        (Physical::INT96, _) => (parquet, DataType::Timestamp(TimeUnit::Microsecond, None)),
        _ => (parquet, arrow),
    };
    Some(Typed { parquet, read, natural, is_json })
}

/// The type the library would give it.
fn arrow_type(column: &ColumnDescriptor) -> Option<DataType> {
    let root = Type::group_type_builder("rows").with_fields(vec![column.self_type_ptr()]);
    let alone = SchemaDescriptor::new(Arc::new(root.build().ok()?));
    let schema = parquet_to_arrow_schema(&alone, None).ok()?;
    schema.fields().first().map(|field| field.data_type().clone())
}

/// The same column of bytes, without a word on what they are.
fn plain_bytes(parquet: &Type) -> Option<TypePtr> {
    let repetition = match parquet.is_optional() {
        true => Repetition::OPTIONAL,
        false => Repetition::REQUIRED,
    };
    let plain = Type::primitive_type_builder(parquet.name(), Physical::BYTE_ARRAY);
    plain.with_repetition(repetition).build().ok().map(Arc::new)
}

/// The type of a column that has none here, as Parquet would say.
fn spelled(column: &ColumnDescriptor) -> String {
    match column.path().parts().len() {
        1 if column.max_rep_level() == 0 => match column.logical_type_ref() {
            Some(logical) => format!("{logical:?}"),
            None => format!("{:?} {:?}", column.physical_type(), column.converted_type()),
        },
        1 => "list".to_owned(),
        _ if column.max_rep_level() > 0 => "list or map".to_owned(),
        _ => "group".to_owned(),
    }
}

/// A type as SQL writes it.
pub fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Boolean => "boolean",
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Decimal128(precision, scale) => return format!("numeric({precision},{scale})"),
        DataType::Utf8 => "text",
        DataType::Binary => "bytea",
        DataType::Date32 => "date",
        DataType::Time64(_) => "time without time zone",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::FixedSizeBinary(16) => "uuid",
        other => return other.to_string(),
    };
    name.to_owned()
}
