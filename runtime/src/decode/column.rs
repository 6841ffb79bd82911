//! `Column`: a growing Arrow array that takes scalars as texts, numbers and booleans of a message
//! and converts them to its type. Appending either adds one value or leaves the column as it was.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray,
        PrimitiveArray, StringArray,
    },
    buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{
        ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type,
        Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    },
};

use super::{Decoded, Poison, time, value};
use crate::{Error, Result};

/// Field metadata that holds a declared type Arrow cannot tell (`json`, `jsonb`, `uuid`).
pub const TYPE_KEY: &str = "tidewater.type";

/// Bytes of one text column in one batch; offsets are 32-bit.
const TEXT_BYTES_MAX: usize = i32::MAX as usize;

/// A growing array.
#[derive(Debug)]
pub struct Column {
    name: String,
    data_type: DataType,
    is_nullable: bool,
    /// JSON text: strings keep their quotes.
    is_json: bool,
    values: Values,
    /// From the first null of a batch on, one bit a value.
    validity: Option<BooleanBufferBuilder>,
    len: usize,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>, u8, i8),
    Text(Bytes),
    Binary(Bytes),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    Uuid(Vec<u8>),
}

/// Byte strings one after the other.
#[derive(Debug)]
struct Bytes {
    bytes: Vec<u8>,
    /// Where each begins, and the end of the last.
    offsets: Vec<i32>,
}

impl Column {
    /// An empty column for a field; `None` if its type cannot be decoded from text.
    pub fn new(field: &Field) -> Option<Self> {
        let declared = field.metadata().get(TYPE_KEY).map(String::as_str);
        let values = match field.data_type() {
            DataType::Boolean => Values::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) => {
                Values::Decimal(Vec::new(), *precision, *scale)
            }
            DataType::Utf8 => Values::Text(Bytes::new()),
            DataType::Binary => Values::Binary(Bytes::new()),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time64(TimeUnit::Microsecond) => Values::Time(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Timestamp(Vec::new()),
            DataType::FixedSizeBinary(16) => Values::Uuid(Vec::new()),
            _ => return None,
        };
        Some(Self {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            is_nullable: field.is_nullable(),
            is_json: matches!(declared, Some("json" | "jsonb")),
            values,
            validity: None,
            len: 0,
        })
    }

    /// Column name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it holds JSON text.
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether it takes texts as they are.
    pub fn is_text(&self) -> bool {
        matches!(self.values, Values::Text(_))
    }

    /// Appends NULL.
    pub fn append_null(&mut self) -> Decoded<()> {
        if !self.is_nullable {
            return Err(Poison::new("23502", "null value in a column that is not null"));
        }
        match &mut self.values {
            Values::Bool(values) => values.append(false),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values, ..) => values.push(0),
            Values::Int64(values) | Values::Time(values) | Values::Timestamp(values) => {
                values.push(0);
            }
            Values::Text(values) | Values::Binary(values) => values.append(&[])?,
            Values::Uuid(values) => values.extend_from_slice(&[0; 16]),
        }
        let len = self.len;
        self.validity
            .get_or_insert_with(|| {
                let mut validity = BooleanBufferBuilder::new(len + 1);
                validity.append_n(len, true);
                validity
            })
            .append(false);
        self.len += 1;
        Ok(())
    }

    /// Appends a number of a JSON document, given as it was written.
    #[inline]
    pub fn append_number(&mut self, text: &str) -> Decoded<()> {
        match &mut self.values {
            Values::Timestamp(values) => {
                // A number is a time in milliseconds.
                let millis = value::integer(text)?;
                let micros = millis.checked_mul(1000);
                values.push(micros.ok_or_else(|| value::out_of_range("timestamp", text))?);
            }
            Values::Date(values) => {
                let days = value::integer(text)?.div_euclid(86_400_000);
                let days = i32::try_from(days);
                values.push(days.map_err(|_| value::out_of_range("date", text))?);
            }
            Values::Bool(_) => return Err(value::invalid("a boolean", text)),
            Values::Time(_) => return Err(value::invalid("a time", text)),
            Values::Uuid(_) => return Err(value::invalid("a uuid", text)),
            _ => return self.append_text(text),
        }
        self.appended();
        Ok(())
    }

    /// Appends a text, converted to the column's type.
    pub fn append_text(&mut self, text: &str) -> Decoded<()> {
        match &mut self.values {
            Values::Bool(values) => values.append(value::boolean(text)?),
            Values::Int16(values) => {
                let number = i16::try_from(value::integer(text)?);
                values.push(number.map_err(|_| value::out_of_range("smallint", text))?);
            }
            Values::Int32(values) => {
                let number = i32::try_from(value::integer(text)?);
                values.push(number.map_err(|_| value::out_of_range("integer", text))?);
            }
            Values::Int64(values) => values.push(value::integer(text)?),
            Values::Float32(values) => values.push(value::real(text)?),
            Values::Float64(values) => values.push(value::double(text)?),
            Values::Decimal(values, precision, scale) => {
                values.push(value::decimal(text, *precision, *scale)?);
            }
            Values::Text(values) => values.append(text.as_bytes())?,
            Values::Binary(_) => return Err(value::invalid("a bytea", text)),
            Values::Date(values) => values.push(time::date(text)?),
            Values::Time(values) => values.push(time::time_of_day(text)?),
            Values::Timestamp(values) => values.push(time::timestamp(text)?),
            Values::Uuid(values) => values.extend_from_slice(&value::uuid(text)?),
        }
        self.appended();
        Ok(())
    }

    /// Appends a whole number; other columns than those of integers get it as text.
    pub fn append_integer(&mut self, value: i64) -> Decoded<()> {
        match &mut self.values {
            Values::Int64(values) => values.push(value),
            Values::Int32(values) if i32::try_from(value).is_ok() => values.push(value as i32),
            _ => return self.append_text(&value.to_string()),
        }
        self.appended();
        Ok(())
    }

    /// Appends a boolean.
    pub fn append_bool(&mut self, value: bool) -> Decoded<()> {
        match &mut self.values {
            Values::Bool(values) => {
                values.append(value);
                self.appended();
                Ok(())
            }
            Values::Text(_) => self.append_text(if value { "true" } else { "false" }),
            _ => Err(value::invalid("of the column's type", if value { "true" } else { "false" })),
        }
    }

    /// Appends a JSON object or array as the text it is.
    pub fn append_nested(&mut self, text: &str) -> Decoded<()> {
        if self.is_text() {
            return self.append_text(text);
        }
        Err(value::invalid("of the column's type", text))
    }

    /// Appends bytes to a BYTEA column.
    pub fn append_bytes(&mut self, bytes: &[u8]) -> Decoded<()> {
        let Values::Binary(values) = &mut self.values else {
            return self.append_text(super::utf8(bytes)?);
        };
        values.append(bytes)?;
        self.appended();
        Ok(())
    }

    #[inline]
    fn appended(&mut self) {
        self.len += 1;
        if let Some(validity) = &mut self.validity {
            validity.append(true);
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets the values from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Bool(values) => values.truncate(len),
            Values::Int16(values) => values.truncate(len),
            Values::Int32(values) | Values::Date(values) => values.truncate(len),
            Values::Float32(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Decimal(values, ..) => values.truncate(len),
            Values::Int64(values) | Values::Time(values) | Values::Timestamp(values) => {
                values.truncate(len);
            }
            Values::Text(values) | Values::Binary(values) => values.truncate(len),
            Values::Uuid(values) => values.truncate(len * 16),
        }
        if let Some(validity) = &mut self.validity {
            validity.truncate(len);
        }
        self.len = self.len.min(len);
    }

    /// The array; the column is empty afterwards, with room for as many values.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.validity.take().map(|mut validity| NullBuffer::new(validity.finish()));
        let len = std::mem::take(&mut self.len);
        Ok(match &mut self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls, &self.data_type),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls, &self.data_type),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls, &self.data_type),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls, &self.data_type),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls, &self.data_type),
            Values::Decimal(values, ..) => {
                primitive::<Decimal128Type>(values, nulls, &self.data_type)
            }
            Values::Date(values) => primitive::<Date32Type>(values, nulls, &self.data_type),
            Values::Time(values) => {
                primitive::<Time64MicrosecondType>(values, nulls, &self.data_type)
            }
            Values::Timestamp(values) => {
                primitive::<TimestampMicrosecondType>(values, nulls, &self.data_type)
            }
            Values::Text(values) => {
                let (offsets, bytes) = values.finish();
                Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
            }
            Values::Binary(values) => {
                let (offsets, bytes) = values.finish();
                Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?)
            }
            Values::Uuid(values) => {
                let bytes = Buffer::from_vec(std::mem::take(values));
                if bytes.len() != len * 16 {
                    return Err(Error::Internal("uuid column of the wrong length".to_owned()));
                }
                Arc::new(FixedSizeBinaryArray::try_new(16, bytes, nulls)?)
            }
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> ArrayRef {
    let room = Vec::with_capacity(values.len());
    let values = ScalarBuffer::from(std::mem::replace(values, room));
    Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(data_type.clone()))
}

impl Bytes {
    fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0] }
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) -> Decoded<()> {
        if self.bytes.len() + bytes.len() > TEXT_BYTES_MAX {
            return Err(Poison::new("54000", "a batch of this column exceeds 2 GiB"));
        }
        self.bytes.extend_from_slice(bytes);
        self.offsets.push(self.bytes.len() as i32);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        if let Some(end) = self.offsets.get(len) {
            self.bytes.truncate(*end as usize);
            self.offsets.truncate(len + 1);
        }
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let bytes_room = Vec::with_capacity(self.bytes.len());
        let bytes = std::mem::replace(&mut self.bytes, bytes_room);
        let mut offsets_room = Vec::with_capacity(self.offsets.len());
        offsets_room.push(0);
        let offsets = std::mem::replace(&mut self.offsets, offsets_room);
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(bytes))
    }
}
