//! `Column`: one growing column of a tail, typed, readable at random and frozen into an array.
//! Rows are only ever added at its end; it knows nothing of keys or versions.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayData, ArrayRef, make_array, new_empty_array, new_null_array},
    buffer::{BooleanBuffer, Buffer, NullBuffer},
    compute::concat,
    datatypes::{ArrowNativeType, DataType, IntervalMonthDayNano, IntervalUnit},
};

use crate::{
    Error, Result,
    value::{Cells as Source, ColumnReader, Value},
};

/// A growing column.
#[derive(Debug)]
pub(crate) struct Column {
    data_type: DataType,
    len: usize,
    /// One entry per row from the first null on; `None` while there is no null.
    validity: Option<Vec<bool>>,
    cells: Cells,
}

#[derive(Debug)]
enum Cells {
    Bool(Vec<bool>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Decimal(Vec<i128>, i8),
    Interval(Vec<IntervalMonthDayNano>),
    /// Text and binary: row `i` is `bytes[ends[i - 1]..ends[i]]`.
    Variable {
        ends: Vec<i32>,
        bytes: Vec<u8>,
    },
    Fixed {
        width: usize,
        bytes: Vec<u8>,
    },
    /// One array of one row each: nested types are rare and have no flat form.
    Nested(Vec<ArrayRef>),
}

impl Column {
    /// An empty column. Invalid for a type that no table column may have.
    pub(crate) fn new(data_type: &DataType) -> Result<Self> {
        let cells = match data_type {
            DataType::Boolean => Cells::Bool(Vec::new()),
            DataType::Int8 => Cells::I8(Vec::new()),
            DataType::Int16 => Cells::I16(Vec::new()),
            DataType::Int32 | DataType::Date32 => Cells::I32(Vec::new()),
            DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(..) => {
                Cells::I64(Vec::new())
            }
            DataType::Float32 => Cells::F32(Vec::new()),
            DataType::Float64 => Cells::F64(Vec::new()),
            DataType::Decimal128(_, scale) => Cells::Decimal(Vec::new(), *scale),
            DataType::Interval(IntervalUnit::MonthDayNano) => Cells::Interval(Vec::new()),
            DataType::Utf8 | DataType::Binary => {
                Cells::Variable { ends: Vec::new(), bytes: Vec::new() }
            }
            DataType::FixedSizeBinary(width) => {
                Cells::Fixed { width: *width as usize, bytes: Vec::new() }
            }
            DataType::List(_) | DataType::Struct(_) | DataType::Map(..) => {
                Cells::Nested(Vec::new())
            }
            other => {
                return Err(Error::Invalid(format!(
                    "a table cannot have a column of type {other}"
                )));
            }
        };
        Ok(Self { data_type: data_type.clone(), len: 0, validity: None, cells })
    }

    /// Memory behind it, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let cells = match &self.cells {
            Cells::Bool(values) => values.capacity(),
            Cells::I8(values) => values.capacity(),
            Cells::I16(values) => values.capacity() * 2,
            Cells::I32(values) => values.capacity() * 4,
            Cells::I64(values) => values.capacity() * 8,
            Cells::F32(values) => values.capacity() * 4,
            Cells::F64(values) => values.capacity() * 8,
            Cells::Decimal(values, _) => values.capacity() * 16,
            Cells::Interval(values) => values.capacity() * 16,
            Cells::Variable { ends, bytes } => ends.capacity() * 4 + bytes.capacity(),
            Cells::Fixed { bytes, .. } => bytes.capacity(),
            Cells::Nested(rows) => {
                rows.iter().map(|row| row.get_array_memory_size()).sum::<usize>()
            }
        };
        cells + self.validity.as_ref().map_or(0, Vec::capacity)
    }

    /// The value of row `index`.
    pub(crate) fn value(&self, index: usize) -> Value<'_> {
        if self.validity.as_ref().is_some_and(|validity| !validity[index]) {
            return Value::Null;
        }
        match &self.cells {
            Cells::Bool(values) => Value::Bool(values[index]),
            Cells::I8(values) => Value::Int(values[index].into()),
            Cells::I16(values) => Value::Int(values[index].into()),
            Cells::I32(values) => Value::Int(values[index].into()),
            Cells::I64(values) => Value::Int(values[index]),
            Cells::F32(values) => Value::Float(values[index].into()),
            Cells::F64(values) => Value::Float(values[index]),
            Cells::Decimal(values, scale) => Value::Decimal(values[index], *scale),
            Cells::Interval(values) => {
                let interval = values[index];
                Value::Interval(interval.months, interval.days, interval.nanoseconds)
            }
            Cells::Variable { ends, bytes } => {
                let start = index.checked_sub(1).map_or(0, |before| ends[before] as usize);
                Value::Bytes(&bytes[start..ends[index] as usize])
            }
            Cells::Fixed { width, bytes } => {
                Value::Bytes(&bytes[index * width..(index + 1) * width])
            }
            Cells::Nested(rows) => Value::Nested(Arc::clone(&rows[index])),
        }
    }

    /// Adds one value. Invalid, and unchanged, if the type cannot hold it.
    pub(crate) fn push(&mut self, value: &Value<'_>) -> Result<()> {
        let is_null = matches!(value, Value::Null);
        self.push_cell(value)?;
        if is_null && self.validity.is_none() {
            self.validity = Some(vec![true; self.len]);
        }
        if let Some(validity) = &mut self.validity {
            validity.push(!is_null);
        }
        self.len += 1;
        Ok(())
    }

    /// Forgets all rows from `len` on, if there are any.
    pub(crate) fn truncate(&mut self, len: usize) {
        if self.len <= len {
            return;
        }
        self.len = len;
        if let Some(validity) = &mut self.validity {
            validity.truncate(len);
        }
        match &mut self.cells {
            Cells::Bool(values) => values.truncate(len),
            Cells::I8(values) => values.truncate(len),
            Cells::I16(values) => values.truncate(len),
            Cells::I32(values) => values.truncate(len),
            Cells::I64(values) => values.truncate(len),
            Cells::F32(values) => values.truncate(len),
            Cells::F64(values) => values.truncate(len),
            Cells::Decimal(values, _) => values.truncate(len),
            Cells::Interval(values) => values.truncate(len),
            Cells::Variable { ends, bytes } => {
                ends.truncate(len);
                bytes.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Cells::Fixed { width, bytes } => bytes.truncate(len * *width),
            Cells::Nested(rows) => rows.truncate(len),
        }
    }

    fn push_cell(&mut self, value: &Value<'_>) -> Result<()> {
        match (&mut self.cells, value) {
            (Cells::Bool(values), Value::Bool(value)) => values.push(*value),
            (Cells::Bool(values), Value::Null) => values.push(false),
            (Cells::I8(values), Value::Int(value)) => values.push(narrow(*value)?),
            (Cells::I8(values), Value::Null) => values.push(0),
            (Cells::I16(values), Value::Int(value)) => values.push(narrow(*value)?),
            (Cells::I16(values), Value::Null) => values.push(0),
            (Cells::I32(values), Value::Int(value)) => values.push(narrow(*value)?),
            (Cells::I32(values), Value::Null) => values.push(0),
            (Cells::I64(values), Value::Int(value)) => values.push(*value),
            (Cells::I64(values), Value::Null) => values.push(0),
            (Cells::F32(values), Value::Float(value)) => values.push(*value as f32),
            (Cells::F32(values), Value::Null) => values.push(0.0),
            (Cells::F64(values), Value::Float(value)) => values.push(*value),
            (Cells::F64(values), Value::Null) => values.push(0.0),
            (Cells::Decimal(values, _), Value::Decimal(value, _)) => values.push(*value),
            (Cells::Decimal(values, _), Value::Null) => values.push(0),
            (Cells::Interval(values), Value::Interval(months, days, nanos)) => {
                values.push(IntervalMonthDayNano::new(*months, *days, *nanos));
            }
            (Cells::Interval(values), Value::Null) => values.push(IntervalMonthDayNano::ZERO),
            (Cells::Variable { ends, bytes }, Value::Bytes(value)) => {
                bytes.extend_from_slice(value);
                ends.push(end_of(bytes)?);
            }
            (Cells::Variable { ends, bytes }, Value::Null) => ends.push(end_of(bytes)?),
            (Cells::Fixed { width, bytes }, Value::Bytes(value)) if value.len() == *width => {
                bytes.extend_from_slice(value);
            }
            (Cells::Fixed { width, bytes }, Value::Null) => {
                bytes.resize(bytes.len() + *width, 0);
            }
            (Cells::Nested(rows), Value::Nested(row)) if row.data_type() == &self.data_type => {
                rows.push(Arc::clone(row));
            }
            (Cells::Nested(rows), Value::Null) => rows.push(new_null_array(&self.data_type, 1)),
            (_, value) => {
                let data_type = &self.data_type;
                return Err(Error::Invalid(format!("{value:?} does not fit type {data_type}")));
            }
        }
        Ok(())
    }

    /// Adds rows `rows` of `source`, whose type is this column's.
    pub(crate) fn extend(&mut self, source: &ColumnReader<'_>, rows: &[u32]) -> Result<()> {
        let is_flat = match (&mut self.cells, source.cells()) {
            (Cells::I16(values), Source::I16(cells)) => gather(values, cells, rows),
            (Cells::I32(values), Source::I32(cells)) => gather(values, cells, rows),
            (Cells::I64(values), Source::I64(cells)) => gather(values, cells, rows),
            (Cells::F32(values), Source::F32(array)) => gather(values, array.values(), rows),
            (Cells::F64(values), Source::F64(array)) => gather(values, array.values(), rows),
            (Cells::Decimal(values, _), Source::Decimal(array, _)) => {
                gather(values, array.values(), rows)
            }
            (Cells::Interval(values), Source::Interval(array)) => {
                gather(values, array.values(), rows)
            }
            (Cells::Variable { ends, bytes }, Source::Text(array)) => {
                for row in rows {
                    bytes.extend_from_slice(array.value(*row as usize).as_bytes());
                    ends.push(end_of(bytes)?);
                }
                true
            }
            _ => false,
        };
        if !is_flat {
            return rows.iter().try_for_each(|row| self.push(&source.value(*row as usize)));
        }
        if source.nulls().is_some() && self.validity.is_none() {
            self.validity = Some(vec![true; self.len]);
        }
        if let Some(validity) = &mut self.validity {
            match source.nulls() {
                Some(nulls) => {
                    validity.extend(rows.iter().map(|row| nulls.is_valid(*row as usize)));
                }
                None => validity.resize(validity.len() + rows.len(), true),
            }
        }
        self.len += rows.len();
        Ok(())
    }

    /// An immutable copy of all rows, of exactly the memory it needs.
    pub(crate) fn freeze(&self) -> Result<ArrayRef> {
        if let Cells::Nested(rows) = &self.cells {
            if rows.is_empty() {
                return Ok(new_empty_array(&self.data_type));
            }
            return Ok(concat(
                &rows.iter().map(|row| row.as_ref() as &dyn Array).collect::<Vec<_>>(),
            )?);
        }
        let nulls = self.validity.as_ref().map(|validity| NullBuffer::from(validity.as_slice()));
        let mut builder = ArrayData::builder(self.data_type.clone()).len(self.len).nulls(nulls);
        builder = match &self.cells {
            Cells::Bool(values) => {
                builder.add_buffer(BooleanBuffer::from(values.as_slice()).into_inner())
            }
            Cells::I8(values) => builder.add_buffer(Buffer::from_slice_ref(values)),
            Cells::I16(values) => builder.add_buffer(Buffer::from_slice_ref(values)),
            Cells::I32(values) => builder.add_buffer(Buffer::from_slice_ref(values)),
            Cells::I64(values) => builder.add_buffer(Buffer::from_slice_ref(values)),
            Cells::F32(values) => builder.add_buffer(Buffer::from_slice_ref(values)),
            Cells::F64(values) => builder.add_buffer(Buffer::from_slice_ref(values)),
            Cells::Decimal(values, _) => builder.add_buffer(Buffer::from_slice_ref(values)),
            Cells::Interval(values) => builder.add_buffer(Buffer::from_slice_ref(values)),
            Cells::Variable { ends, bytes } => {
                let mut offsets = Vec::with_capacity(ends.len() + 1);
                offsets.push(0);
                offsets.extend_from_slice(ends);
                builder
                    .add_buffer(Buffer::from_vec(offsets))
                    .add_buffer(Buffer::from(bytes.as_slice()))
            }
            Cells::Fixed { bytes, .. } => builder.add_buffer(Buffer::from(bytes.as_slice())),
            Cells::Nested(_) => return Err(Error::Internal("nested columns are done".to_owned())),
        };
        Ok(make_array(builder.build()?))
    }
}

/// Appends `source[row]` of all `rows`; answers true for the match above.
fn gather<T: ArrowNativeType>(values: &mut Vec<T>, source: &[T], rows: &[u32]) -> bool {
    values.extend(rows.iter().map(|row| source[*row as usize]));
    true
}

fn narrow<T: TryFrom<i64>>(value: i64) -> Result<T> {
    T::try_from(value).map_err(|_| Error::Invalid(format!("{value} is out of range")))
}

/// The end of the last row of a variable column. A tail is sealed long before 2 GiB.
fn end_of(bytes: &[u8]) -> Result<i32> {
    i32::try_from(bytes.len()).map_err(|_| Error::Limit("a tail exceeds 2 GiB of text".to_owned()))
}
