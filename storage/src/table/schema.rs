//! `TableSchema`: what the rows of a table look like and how its key is read, worked out once.
//! Keys meet here in two forms: one integer, or the canonical bytes of all key columns.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::cast,
    datatypes::{DataType, SchemaRef},
};

use super::handle::KeyedWrite;
use crate::{
    Datum, Error, Result,
    cluster::control::{Durability, TableRecord},
    datum,
    partition::hash::{hash_bytes, hash_integer, put_value},
    value::{ColumnReader, Value},
};

/// Shape of a table's rows.
#[derive(Debug)]
pub(crate) struct TableSchema {
    /// The catalog record.
    pub(crate) record: Arc<TableRecord>,
    /// Types of the key columns, in key order.
    key_types: Vec<DataType>,
    /// Whether the key is a single integer, date, time or timestamp.
    is_integer_key: bool,
    /// A [`Durability`]: the record's, until it is altered.
    durability: AtomicU8,
}

/// A key to look for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyRef<'a> {
    /// The only key column is an integer.
    Integer(i64),
    /// Canonical bytes of all key columns (`partition/hash.rs`).
    Canonical(&'a [u8]),
}

/// Room for the canonical bytes of a key; kept between rows so that no row allocates.
pub(crate) type KeyBytes = Vec<u8>;

impl KeyRef<'_> {
    /// The pinned hash.
    pub(crate) fn hash(&self) -> u64 {
        match self {
            KeyRef::Integer(key) => hash_integer(*key),
            KeyRef::Canonical(bytes) => hash_bytes(bytes),
        }
    }
}

impl TableSchema {
    /// Works out the shape. Invalid for columns or keys the grid cannot hold.
    pub(crate) fn new(record: Arc<TableRecord>) -> Result<Self> {
        let schema = &record.schema;
        if record.key.is_empty() || record.key.iter().any(|key| *key >= schema.fields().len()) {
            return Err(Error::Invalid(format!("table \"{}\" has no key", record.name.name)));
        }
        for field in schema.fields() {
            // Fails here, at creation, rather than at the first row.
            super::column::Column::new(field.data_type())?;
        }
        let key_types: Vec<_> =
            record.key.iter().map(|key| schema.field(*key).data_type().clone()).collect();
        let is_integer_key = matches!(key_types.as_slice(), [only] if is_integer(only));
        let durability = AtomicU8::new(record.durability() as u8);
        Ok(Self { record, key_types, is_integer_key, durability })
    }

    /// What an acknowledged write survives.
    pub(crate) fn durability(&self) -> Durability {
        Durability::ALL[usize::from(self.durability.load(Ordering::SeqCst))]
    }

    /// From now on an acknowledged write survives this.
    pub(crate) fn set_durability(&self, durability: Durability) {
        self.durability.store(durability as u8, Ordering::SeqCst);
    }

    /// Whether changes of its rows are written down where there is a data log.
    pub(crate) fn is_logged(&self) -> bool {
        self.durability() != Durability::Memory
    }

    /// Arrow schema of all columns.
    pub(crate) fn arrow(&self) -> &SchemaRef {
        &self.record.schema
    }

    /// Positions of the key columns.
    pub(crate) fn key(&self) -> &[usize] {
        &self.record.key
    }

    /// Types of the key columns.
    pub(crate) fn key_types(&self) -> &[DataType] {
        &self.key_types
    }

    /// Whether the key is a single integer.
    pub(crate) fn is_integer_key(&self) -> bool {
        self.is_integer_key
    }

    /// The key of values `column(0), column(1), …` in key order.
    pub(crate) fn key_ref<'a, 'v>(
        &self,
        column: impl Fn(usize) -> Value<'v>,
        bytes: &'a mut KeyBytes,
    ) -> Result<KeyRef<'a>> {
        if self.is_integer_key
            && let Value::Int(key) = column(0)
        {
            return Ok(KeyRef::Integer(key));
        }
        bytes.clear();
        for position in 0..self.key_types.len() {
            put_value(&column(position), bytes)?;
        }
        Ok(KeyRef::Canonical(bytes))
    }

    /// The key values `key` as borrowed values. NullValue and Invalid as for any key.
    pub(crate) fn key_values<'a>(&self, key: &'a [Datum]) -> Result<Vec<Value<'a>>> {
        if key.len() != self.key_types.len() {
            let (name, width) = (&self.record.name.name, self.key_types.len());
            return Err(Error::Invalid(format!("the key of \"{name}\" has {width} columns")));
        }
        key.iter().zip(&self.key_types).map(|(datum, t)| Value::of_datum(datum, t)).collect()
    }

    /// The error for a null in a column that forbids it.
    pub(crate) fn null_column(&self, column: usize) -> Error {
        Error::NullValue {
            table: self.record.name.name.clone(),
            column: self.arrow().field(column).name().clone(),
        }
    }

    /// The error for a key that is there: PostgreSQL's `Key (a, b)=(1, x) already exists.`
    pub(crate) fn duplicate_key<'v>(&self, column: impl Fn(usize) -> Value<'v>) -> Error {
        let fields = self.key().iter().map(|key| self.arrow().field(*key).name().as_str());
        let names = fields.collect::<Vec<_>>().join(", ");
        let values: Vec<_> = (0..self.key_types.len())
            .map(|position| text_of(&column(position), &self.key_types[position]))
            .collect();
        Error::DuplicateKey {
            table: self.record.name.name.clone(),
            detail: format!("Key ({names})=({}) already exists.", values.join(", ")),
        }
    }

    /// `batch` with exactly this table's column types: visible columns as they come, text and
    /// binary in whatever string form turned into the stored one, `hidden` as the last column.
    pub(crate) fn conform(
        &self,
        batch: &RecordBatch,
        hidden: Option<ArrayRef>,
    ) -> Result<RecordBatch> {
        let mut columns: Vec<_> = batch.columns().iter().map(Arc::clone).collect();
        columns.extend(hidden);
        let fields = self.arrow().fields();
        if columns.len() != fields.len() {
            let (name, actual, expected) =
                (&self.record.name.name, batch.num_columns(), fields.len());
            return Err(Error::Invalid(format!(
                "a batch of {actual} columns for table \"{name}\" of {expected}"
            )));
        }
        for (position, (column, field)) in columns.iter_mut().zip(fields).enumerate() {
            *column = conform_column(column, field.data_type())?;
            if column.null_count() > 0 && (!field.is_nullable() || self.key().contains(&position)) {
                return Err(self.null_column(position));
            }
        }
        Ok(RecordBatch::try_new(Arc::clone(self.arrow()), columns)?)
    }

    /// Key columns with exactly the key's types.
    pub(crate) fn conform_keys(&self, keys: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        if keys.len() != self.key_types.len() {
            let (name, width) = (&self.record.name.name, self.key_types.len());
            return Err(Error::Invalid(format!("the key of \"{name}\" has {width} columns")));
        }
        keys.iter().zip(&self.key_types).map(|(key, t)| conform_column(key, t)).collect()
    }

    /// Refuses nulls in NOT NULL and key columns of a row, and rows of the wrong width.
    pub(crate) fn check_row(&self, row: &[Datum]) -> Result<()> {
        let fields = self.arrow().fields();
        if row.len() != fields.len() {
            let (name, width) = (&self.record.name.name, fields.len());
            return Err(Error::Invalid(format!(
                "a row of {} values for table \"{name}\" of {width} columns",
                row.len()
            )));
        }
        for (position, (datum, field)) in row.iter().zip(fields).enumerate() {
            let may_be_null = field.is_nullable() && !self.key().contains(&position);
            if *datum == Datum::Null && !may_be_null {
                return Err(self.null_column(position));
            }
        }
        Ok(())
    }
}

impl KeyedWrite {
    /// The values of its row, or of its key for a delete; refuses what the table cannot hold.
    pub(crate) fn row_values(&self, schema: &TableSchema) -> Result<Vec<Value<'_>>> {
        match self {
            KeyedWrite::Delete { key } => schema.key_values(key),
            KeyedWrite::Put { row, .. } | KeyedWrite::Replace { row, .. } => {
                schema.check_row(row)?;
                let fields = schema.arrow().fields().iter();
                row.iter()
                    .zip(fields)
                    .map(|(datum, field)| Value::of_datum(datum, field.data_type()))
                    .collect()
            }
        }
    }
}

/// Readers of all columns of a batch.
pub(crate) fn readers(columns: &[ArrayRef]) -> Result<Vec<ColumnReader<'_>>> {
    columns.iter().map(ColumnReader::new).collect()
}

/// `column` as `data_type`, if they differ only in how text, bytes or fields are laid out.
fn conform_column(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Null, Utf8, Utf8View};
    let actual = column.data_type();
    if actual == data_type {
        return Ok(Arc::clone(column));
    }
    let is_other_layout = match (actual, data_type) {
        (Null, _) => true,
        (Utf8View | LargeUtf8 | Utf8, Utf8) => true,
        (BinaryView | LargeBinary | Binary, Binary) => true,
        (DataType::Dictionary(_, value), wanted) => value.as_ref() == wanted,
        (DataType::Timestamp(unit, _), DataType::Timestamp(wanted, _)) => unit == wanted,
        (actual, wanted) => actual.is_nested() && actual.equals_datatype(wanted),
    };
    if !is_other_layout {
        return Err(Error::Invalid(format!("a column of type {actual} where {data_type} belongs")));
    }
    if actual.is_nested() {
        // Same layout, other field names: take over the declared ones.
        let data = column.to_data().into_builder().data_type(data_type.clone());
        return Ok(arrow::array::make_array(data.build()?));
    }
    Ok(cast(column, data_type)?)
}

/// Whether values of this type are raw integers.
fn is_integer(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(..)
    )
}

/// A key value as PostgreSQL prints it.
fn text_of(value: &Value<'_>, data_type: &DataType) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
        Value::Bytes(bytes) => match data_type {
            DataType::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            DataType::FixedSizeBinary(16) => uuid_text(bytes),
            _ => format!("\\x{}", hex_text(bytes)),
        },
        other => arrow_text(other, data_type),
    }
}

/// What Arrow's cast to text says, which is PostgreSQL's form but for `T` and `Z` of times.
fn arrow_text(value: &Value<'_>, data_type: &DataType) -> String {
    let text = value
        .to_datum(data_type)
        .and_then(|datum| datum::array_of(&[datum], data_type))
        .and_then(|array| Ok(arrow::util::display::array_value_to_string(&array, 0)?))
        .unwrap_or_default();
    match data_type {
        DataType::Timestamp(_, None) => text.replacen('T', " ", 1),
        DataType::Timestamp(_, Some(_)) => text.replacen('T', " ", 1).replace('Z', "+00"),
        _ => text,
    }
}

fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn uuid_text(bytes: &[u8]) -> String {
    let hex = hex_text(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
