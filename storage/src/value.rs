//! `Value`: one value borrowed from an array, a tail or a datum, and the readers that lend it.
//! The meeting point of hashing, key comparison and row access; it never owns or copies bytes.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, Decimal128Array,
        FixedSizeBinaryArray, Float32Array, Float64Array, IntervalMonthDayNanoArray,
        LargeBinaryArray, LargeStringArray, StringArray, StringViewArray,
    },
    buffer::NullBuffer,
    datatypes::{
        DataType, Date32Type, Date64Type, Decimal128Type, DurationMicrosecondType,
        DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float32Type,
        Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
        IntervalUnit, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
        Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
        UInt64Type,
    },
};

use crate::{Datum, Error, Result, datum};

/// One value, borrowed.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    /// SQL NULL.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// Every integer, date, time and timestamp: the raw integer.
    Int(i64),
    /// Both float widths.
    Float(f64),
    /// Unscaled value and scale.
    Decimal(i128, i8),
    /// Text and binary.
    Bytes(&'a [u8]),
    /// Interval: months, days, nanoseconds.
    Interval(i32, i32, i64),
    /// List, struct or map: an array of one row.
    Nested(ArrayRef),
}

impl<'a> Value<'a> {
    /// The value of a datum whose column has `data_type`.
    pub(crate) fn of_datum(datum: &'a Datum, data_type: &DataType) -> Result<Self> {
        Ok(match datum {
            Datum::Null => Value::Null,
            Datum::Bool(value) => Value::Bool(*value),
            Datum::Int(value) => Value::Int(*value),
            Datum::Float(value) => Value::Float(*value),
            Datum::Decimal(unscaled) => match data_type {
                DataType::Decimal128(_, scale) => Value::Decimal(*unscaled, *scale),
                other => return Err(mismatch(datum, other)),
            },
            Datum::Text(text) => Value::Bytes(text.as_bytes()),
            Datum::Bytes(bytes) => Value::Bytes(bytes),
            Datum::Interval(months, days, nanos) => Value::Interval(*months, *days, *nanos),
            Datum::Nested(bytes) => Value::Nested(datum::nested_from_ipc(bytes)?),
        })
    }

    /// The owned form, for a column of `data_type`.
    pub(crate) fn to_datum(&self, data_type: &DataType) -> Result<Datum> {
        Ok(match self {
            Value::Null => Datum::Null,
            Value::Bool(value) => Datum::Bool(*value),
            Value::Int(value) => Datum::Int(*value),
            Value::Float(value) => Datum::Float(*value),
            Value::Decimal(unscaled, _) => Datum::Decimal(*unscaled),
            Value::Bytes(bytes) if is_text(data_type) => {
                let text = std::str::from_utf8(bytes)
                    .map_err(|error| Error::Internal(format!("text column: {error}")))?;
                Datum::Text(text.to_owned())
            }
            Value::Bytes(bytes) => Datum::Bytes(bytes.to_vec()),
            Value::Interval(months, days, nanos) => Datum::Interval(*months, *days, *nanos),
            Value::Nested(array) => Datum::Nested(datum::nested_to_ipc(array)?),
        })
    }
}

/// Reads single values of one array without asking for its type at each row.
#[derive(Debug)]
pub(crate) struct ColumnReader<'a> {
    nulls: Option<&'a NullBuffer>,
    cells: Cells<'a>,
}

/// The values of an array behind its concrete type.
#[derive(Debug)]
pub(crate) enum Cells<'a> {
    /// A column of nothing but nulls.
    Null,
    Bool(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    F32(&'a Float32Array),
    F64(&'a Float64Array),
    Decimal(&'a Decimal128Array, i8),
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    Fixed(&'a FixedSizeBinaryArray),
    Interval(&'a IntervalMonthDayNanoArray),
    Nested(&'a ArrayRef),
}

impl<'a> ColumnReader<'a> {
    /// A reader of `array`; Invalid for a type that no column or key may have.
    pub(crate) fn new(array: &'a ArrayRef) -> Result<Self> {
        Ok(Self { nulls: array.nulls(), cells: Cells::new(array)? })
    }

    /// The values, for loops that are specialised by type.
    pub(crate) fn cells(&self) -> &Cells<'a> {
        &self.cells
    }

    /// The validity of the rows, if any is null.
    pub(crate) fn nulls(&self) -> Option<&'a NullBuffer> {
        self.nulls.filter(|nulls| nulls.null_count() > 0)
    }

    /// The value of row `index`.
    pub(crate) fn value(&self, index: usize) -> Value<'a> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(index)) {
            return Value::Null;
        }
        match &self.cells {
            Cells::Null => Value::Null,
            Cells::Bool(array) => Value::Bool(array.value(index)),
            Cells::I8(values) => Value::Int(values[index].into()),
            Cells::I16(values) => Value::Int(values[index].into()),
            Cells::I32(values) => Value::Int(values[index].into()),
            Cells::I64(values) => Value::Int(values[index]),
            Cells::U8(values) => Value::Int(values[index].into()),
            Cells::U16(values) => Value::Int(values[index].into()),
            Cells::U32(values) => Value::Int(values[index].into()),
            Cells::U64(values) => Value::Int(values[index] as i64),
            Cells::F32(array) => Value::Float(array.value(index).into()),
            Cells::F64(array) => Value::Float(array.value(index)),
            Cells::Decimal(array, scale) => Value::Decimal(array.value(index), *scale),
            Cells::Text(array) => Value::Bytes(array.value(index).as_bytes()),
            Cells::LargeText(array) => Value::Bytes(array.value(index).as_bytes()),
            Cells::TextView(array) => Value::Bytes(array.value(index).as_bytes()),
            Cells::Binary(array) => Value::Bytes(array.value(index)),
            Cells::LargeBinary(array) => Value::Bytes(array.value(index)),
            Cells::BinaryView(array) => Value::Bytes(array.value(index)),
            Cells::Fixed(array) => Value::Bytes(array.value(index)),
            Cells::Interval(array) => {
                let interval = array.value(index);
                Value::Interval(interval.months, interval.days, interval.nanoseconds)
            }
            Cells::Nested(array) => Value::Nested(array.slice(index, 1)),
        }
    }
}

impl<'a> Cells<'a> {
    fn new(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Null => Cells::Null,
            DataType::Boolean => Cells::Bool(array.as_boolean()),
            DataType::Int8 => Cells::I8(array.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Cells::I16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Cells::I32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Cells::I64(array.as_primitive::<Int64Type>().values()),
            DataType::UInt8 => Cells::U8(array.as_primitive::<UInt8Type>().values()),
            DataType::UInt16 => Cells::U16(array.as_primitive::<UInt16Type>().values()),
            DataType::UInt32 => Cells::U32(array.as_primitive::<UInt32Type>().values()),
            DataType::UInt64 => Cells::U64(array.as_primitive::<UInt64Type>().values()),
            DataType::Float32 => Cells::F32(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Cells::F64(array.as_primitive::<Float64Type>()),
            DataType::Decimal128(_, scale) => {
                Cells::Decimal(array.as_primitive::<Decimal128Type>(), *scale)
            }
            DataType::Utf8 => Cells::Text(array.as_string()),
            DataType::LargeUtf8 => Cells::LargeText(array.as_string()),
            DataType::Utf8View => Cells::TextView(array.as_string_view()),
            DataType::Binary => Cells::Binary(array.as_binary()),
            DataType::LargeBinary => Cells::LargeBinary(array.as_binary()),
            DataType::BinaryView => Cells::BinaryView(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => Cells::Fixed(array.as_fixed_size_binary()),
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Cells::Interval(array.as_primitive::<IntervalMonthDayNanoType>())
            }
            DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(..)
            | DataType::Struct(_)
            | DataType::Map(..) => Cells::Nested(array),
            time if time.is_temporal() => Self::temporal(array)?,
            other => return Err(Error::Invalid(format!("type {other} is not supported here"))),
        })
    }

    fn temporal(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Date32 => Cells::I32(array.as_primitive::<Date32Type>().values()),
            DataType::Date64 => Cells::I64(array.as_primitive::<Date64Type>().values()),
            DataType::Time32(TimeUnit::Second) => {
                Cells::I32(array.as_primitive::<Time32SecondType>().values())
            }
            DataType::Time32(_) => {
                Cells::I32(array.as_primitive::<Time32MillisecondType>().values())
            }
            DataType::Time64(TimeUnit::Microsecond) => {
                Cells::I64(array.as_primitive::<Time64MicrosecondType>().values())
            }
            DataType::Time64(_) => {
                Cells::I64(array.as_primitive::<Time64NanosecondType>().values())
            }
            DataType::Timestamp(unit, _) => Cells::I64(match unit {
                TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
                TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
                TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
                TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
            }),
            DataType::Duration(unit) => Cells::I64(match unit {
                TimeUnit::Second => array.as_primitive::<DurationSecondType>().values(),
                TimeUnit::Millisecond => array.as_primitive::<DurationMillisecondType>().values(),
                TimeUnit::Microsecond => array.as_primitive::<DurationMicrosecondType>().values(),
                TimeUnit::Nanosecond => array.as_primitive::<DurationNanosecondType>().values(),
            }),
            other => return Err(Error::Invalid(format!("type {other} is not supported here"))),
        })
    }
}

/// Whether bytes of this type are UTF-8.
fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The error for a datum that its column cannot hold.
pub(crate) fn mismatch(datum: &Datum, data_type: &DataType) -> Error {
    Error::Invalid(format!("value {datum:?} does not fit a column of type {data_type}"))
}
