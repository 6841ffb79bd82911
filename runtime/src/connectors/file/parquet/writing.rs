//! `ParquetWriting`: one Parquet file that is being written. Values wait in memory, encoded and
//! compressed, until they make a row group; the footer is written when the file is finished.
//!
//! | SQL | Parquet |
//! | --- | --- |
//! | BOOLEAN, REAL, DOUBLE PRECISION | BOOLEAN, FLOAT, DOUBLE |
//! | SMALLINT, INTEGER, BIGINT | INT32 as INT(16), INT32, INT64 |
//! | NUMERIC(p,s) | DECIMAL(p,s) in INT32, INT64 or FIXED_LEN_BYTE_ARRAY, as p needs |
//! | TEXT and its kin; JSON, JSONB; BYTEA; UUID | STRING; JSON; BYTE_ARRAY; UUID |
//! | DATE, TIME | DATE, TIME in microseconds |
//! | TIMESTAMP, TIMESTAMPTZ | TIMESTAMP in microseconds, local or UTC |

use std::{io, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use parquet::{
    arrow::{
        ArrowSchemaConverter,
        arrow_writer::{ArrowWriter, ArrowWriterOptions},
    },
    basic::{Compression, LogicalType, Repetition, Type as Physical},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::{SchemaDescriptor, Type, TypePtr},
};
use storage::env::WriteFile;

use crate::{
    Error, Result,
    connectors::file::{
        folder::failed,
        writing::{Spelling, Writing},
    },
    decode::column::{Column, TYPE_KEY},
};

/// Bytes of a row group, compressed: enough to be read fast, little enough to wait in memory.
const ROW_GROUP_BYTES: usize = 16 << 20;
/// Rows of a row group, which bounds what is known of each column.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// How the rows of a mapping are written.
#[derive(Debug)]
pub struct ParquetSpelling {
    /// Columns under the names they have in files.
    schema: SchemaRef,
    parquet: SchemaDescriptor,
    properties: WriterProperties,
}

impl ParquetSpelling {
    /// Of columns and their names in files; 0A000 for a type that files cannot have.
    pub fn new(
        fields: &[Field],
        columns: &[(usize, String)],
        compression: Compression,
    ) -> Result<Self> {
        if let Some(field) = fields.iter().find(|field| Column::new(field).is_none()) {
            return Err(Error::Invalid {
                code: "0A000",
                message: format!(
                    "column \"{}\" cannot be written with this format: type {} is not supported",
                    field.name(),
                    field.data_type()
                ),
            });
        }
        let named = |(position, name): &(usize, String)| fields[*position].clone().with_name(name);
        let schema = Schema::new(columns.iter().map(named).collect::<Vec<_>>());
        let parquet = parquet_schema(&schema).map_err(|error| unwritable(&error))?;
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(format!("tidewater version {}", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { schema: Arc::new(schema), parquet, properties })
    }
}

#[cold]
fn unwritable(error: &ParquetError) -> Error {
    Error::Internal(format!("no Parquet of these columns: {error}"))
}

/// The columns of the table above.
fn parquet_schema(schema: &Schema) -> parquet::errors::Result<SchemaDescriptor> {
    let converted = ArrowSchemaConverter::new().convert(schema)?;
    let columns = converted.root_schema().get_fields().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| annotated(column, field));
    let columns: Vec<TypePtr> = columns.collect::<parquet::errors::Result<_>>()?;
    let root = Type::group_type_builder("rows").with_fields(columns).build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

/// Says what Arrow's type does not.
fn annotated(column: &TypePtr, field: &Field) -> parquet::errors::Result<TypePtr> {
    let declared = field.metadata().get(TYPE_KEY).map(String::as_str);
    let (physical, logical, length) = match (field.data_type(), declared) {
        (DataType::Utf8, Some("json" | "jsonb")) => (Physical::BYTE_ARRAY, LogicalType::Json, -1),
        (DataType::FixedSizeBinary(16), _) => {
            (Physical::FIXED_LEN_BYTE_ARRAY, LogicalType::Uuid, 16)
        }
        _ => return Ok(Arc::clone(column)),
    };
    let repetition = match field.is_nullable() {
        true => Repetition::OPTIONAL,
        false => Repetition::REQUIRED,
    };
    let typed = Type::primitive_type_builder(field.name(), physical)
        .with_repetition(repetition)
        .with_logical_type(Some(logical))
        .with_length(length);
    typed.build().map(Arc::new)
}

impl Spelling for ParquetSpelling {
    fn begin(&self, file: Box<dyn WriteFile>, shown: String) -> Result<Box<dyn Writing>> {
        let options = ArrowWriterOptions::new()
            .with_properties(self.properties.clone())
            .with_parquet_schema(self.parquet.clone())
            .with_skip_arrow_metadata(true);
        let writer =
            ArrowWriter::try_new_with_options(Appended(file), Arc::clone(&self.schema), options)
                .map_err(|error| explained(&shown, &error))?;
        let schema = Arc::clone(&self.schema);
        Ok(Box::new(ParquetWriting { writer, schema, shown }))
    }
}

/// A file in the making.
struct ParquetWriting {
    writer: ArrowWriter<Appended>,
    schema: SchemaRef,
    /// Its name, for messages.
    shown: String,
}

/// What the library writes to.
struct Appended(Box<dyn WriteFile>);

impl io::Write for Appended {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writing for ParquetWriting {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), rows.columns().to_vec())?;
        self.writer.write(&rows).map_err(|error| explained(&self.shown, &error))
    }

    fn size(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    fn held(&self) -> usize {
        self.writer.memory_size()
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.writer.finish().map_err(|error| explained(&self.shown, &error))?;
        let synced = self.writer.inner_mut().0.sync();
        synced.map_err(|error| failed(&format!("sync file \"{}\"", self.shown), &error))
    }
}

/// A failure of the disk comes through the library.
#[cold]
fn explained(shown: &str, error: &ParquetError) -> Error {
    if let ParquetError::External(cause) = error
        && let Some(io) = cause.downcast_ref::<io::Error>()
    {
        return failed(&format!("write file \"{shown}\""), io);
    }
    Error::Internal(format!("file \"{shown}\" cannot be written as Parquet: {error}"))
}
