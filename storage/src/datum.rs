//! One value of one column, outside of any Arrow array: what keyed operations carry.
//! Never used on a hot path over many rows; those are batches.

use std::{io::Cursor, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BinaryBuilder, BooleanBuilder, Decimal128Array, FixedSizeBinaryBuilder,
        Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
        IntervalMonthDayNanoArray, RecordBatch, RecordBatchOptions, StringBuilder, new_empty_array,
        new_null_array,
    },
    compute::{cast, concat},
    datatypes::{DataType, Field, IntervalMonthDayNano, IntervalUnit, Schema, SchemaRef},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    value::{ColumnReader, mismatch},
};

/// A single value. The Arrow type it belongs to is the column's; the variants are wide enough for
/// every scalar type a table column may have (nested columns travel as [`Datum::Nested`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Datum {
    /// SQL NULL.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// Int8, Int16, Int32, Int64, Date32 (days), Time64 and Timestamp (µs): the raw integer.
    Int(i64),
    /// Float32 and Float64.
    Float(f64),
    /// Decimal128: the unscaled value; scale is the column's.
    Decimal(i128),
    /// Utf8.
    Text(String),
    /// Binary and FixedSizeBinary.
    Bytes(Vec<u8>),
    /// Interval: months, days, nanoseconds.
    Interval(i32, i32, i64),
    /// List and Struct: an Arrow IPC stream of one row and one column.
    Nested(Vec<u8>),
}

/// One value per column of a projection, in its order.
pub type Row = Vec<Datum>;

/// Value `index` of `array`. Invalid for a type that no column may have.
pub fn datum_at(array: &ArrayRef, index: usize) -> Result<Datum> {
    ColumnReader::new(array)?.value(index).to_datum(array.data_type())
}

/// An array of `data_type` holding `values`. Invalid for a value the type cannot hold.
pub fn array_of(values: &[Datum], data_type: &DataType) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Null => new_null_array(&DataType::Null, values.len()),
        DataType::Boolean => {
            let mut builder = BooleanBuilder::with_capacity(values.len());
            for value in values {
                match value {
                    Datum::Null => builder.append_null(),
                    Datum::Bool(value) => builder.append_value(*value),
                    other => return Err(mismatch(other, data_type)),
                }
            }
            Arc::new(builder.finish())
        }
        DataType::Int8 => Arc::new(Int8Array::from(narrow::<i8>(values, data_type)?)),
        DataType::Int16 => Arc::new(Int16Array::from(narrow::<i16>(values, data_type)?)),
        DataType::Int32 => Arc::new(Int32Array::from(narrow::<i32>(values, data_type)?)),
        DataType::Int64 => Arc::new(Int64Array::from(narrow::<i64>(values, data_type)?)),
        DataType::Date32 | DataType::Time32(_) => {
            cast(&Int32Array::from(narrow::<i32>(values, data_type)?), data_type)?
        }
        DataType::Date64
        | DataType::Time64(_)
        | DataType::Timestamp(..)
        | DataType::Duration(_) => {
            cast(&Int64Array::from(narrow::<i64>(values, data_type)?), data_type)?
        }
        DataType::Float32 => {
            let floats = floats(values, data_type)?.into_iter();
            Arc::new(floats.map(|value| value.map(|value| value as f32)).collect::<Float32Array>())
        }
        DataType::Float64 => Arc::new(Float64Array::from(floats(values, data_type)?)),
        DataType::Decimal128(precision, scale) => {
            let unscaled: Vec<_> = values
                .iter()
                .map(|value| match value {
                    Datum::Null => Ok(None),
                    Datum::Decimal(unscaled) => Ok(Some(*unscaled)),
                    other => Err(mismatch(other, data_type)),
                })
                .collect::<Result<_>>()?;
            let array = Decimal128Array::from(unscaled);
            Arc::new(array.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => intervals(values, data_type)?,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => texts(values, data_type)?,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            binaries(values, data_type)?
        }
        DataType::FixedSizeBinary(width) => {
            let mut builder = FixedSizeBinaryBuilder::with_capacity(values.len(), *width);
            for value in values {
                match value {
                    Datum::Null => builder.append_null(),
                    Datum::Bytes(bytes) => builder.append_value(bytes)?,
                    other => return Err(mismatch(other, data_type)),
                }
            }
            Arc::new(builder.finish())
        }
        nested if nested.is_nested() => nested_rows(values, data_type)?,
        other => return Err(Error::Invalid(format!("type {other} is not supported here"))),
    })
}

/// A batch of `schema` holding `rows`.
pub fn batch_of(rows: &[Row], schema: &SchemaRef) -> Result<RecordBatch> {
    let width = schema.fields().len();
    if let Some(row) = rows.iter().find(|row| row.len() != width) {
        return Err(Error::Invalid(format!("row of {} values for {width} columns", row.len())));
    }
    let mut column = Vec::with_capacity(rows.len());
    let arrays = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(position, field)| {
            column.clear();
            column.extend(rows.iter().map(|row| row[position].clone()));
            array_of(&column, field.data_type())
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}

/// The bytes of [`Datum::Nested`] for an array of one row.
pub(crate) fn nested_to_ipc(array: &ArrayRef) -> Result<Vec<u8>> {
    let field = Field::new("", array.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(array)])?;
    batch_to_ipc(&batch)
}

/// The array of one row behind the bytes of [`Datum::Nested`].
pub(crate) fn nested_from_ipc(bytes: &[u8]) -> Result<ArrayRef> {
    let batch = batch_from_ipc(bytes)?;
    match batch.columns() {
        [column] if column.len() == 1 => Ok(Arc::clone(column)),
        _ => Err(Error::Invalid("a nested value is one row of one column".to_owned())),
    }
}

/// A batch as an Arrow IPC stream.
pub(crate) fn batch_to_ipc(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

/// The single batch of an Arrow IPC stream.
pub(crate) fn batch_from_ipc(bytes: &[u8]) -> Result<RecordBatch> {
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    match reader.next() {
        Some(batch) => Ok(batch?),
        None => Ok(RecordBatch::new_empty(reader.schema())),
    }
}

/// A schema as an Arrow IPC stream without rows (`#[serde(with)]`).
pub(crate) mod schema {
    use arrow::{array::RecordBatch, datatypes::SchemaRef};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    use super::{batch_from_ipc, batch_to_ipc};

    pub(crate) fn serialize<S: Serializer>(
        schema: &SchemaRef,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let none = RecordBatch::new_empty(SchemaRef::clone(schema));
        batch_to_ipc(&none).map_err(ser::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D>(deserializer: D) -> Result<SchemaRef, D::Error>
    where
        D: Deserializer<'de>,
    {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Ok(batch_from_ipc(&bytes).map_err(de::Error::custom)?.schema())
    }
}

fn narrow<T: TryFrom<i64>>(values: &[Datum], data_type: &DataType) -> Result<Vec<Option<T>>> {
    values
        .iter()
        .map(|value| match value {
            Datum::Null => Ok(None),
            Datum::Int(int) => T::try_from(*int).map(Some).map_err(|_| mismatch(value, data_type)),
            other => Err(mismatch(other, data_type)),
        })
        .collect()
}

fn floats(values: &[Datum], data_type: &DataType) -> Result<Vec<Option<f64>>> {
    values
        .iter()
        .map(|value| match value {
            Datum::Null => Ok(None),
            Datum::Float(float) => Ok(Some(*float)),
            other => Err(mismatch(other, data_type)),
        })
        .collect()
}

fn intervals(values: &[Datum], data_type: &DataType) -> Result<ArrayRef> {
    let intervals: Vec<_> = values
        .iter()
        .map(|value| match value {
            Datum::Null => Ok(None),
            Datum::Interval(months, days, nanos) => {
                Ok(Some(IntervalMonthDayNano::new(*months, *days, *nanos)))
            }
            other => Err(mismatch(other, data_type)),
        })
        .collect::<Result<_>>()?;
    Ok(Arc::new(IntervalMonthDayNanoArray::from(intervals)))
}

fn texts(values: &[Datum], data_type: &DataType) -> Result<ArrayRef> {
    let mut builder = StringBuilder::new();
    for value in values {
        match value {
            Datum::Null => builder.append_null(),
            Datum::Text(text) => builder.append_value(text),
            other => return Err(mismatch(other, data_type)),
        }
    }
    let array: ArrayRef = Arc::new(builder.finish());
    if *data_type == DataType::Utf8 { Ok(array) } else { Ok(cast(&array, data_type)?) }
}

fn binaries(values: &[Datum], data_type: &DataType) -> Result<ArrayRef> {
    let mut builder = BinaryBuilder::new();
    for value in values {
        match value {
            Datum::Null => builder.append_null(),
            Datum::Bytes(bytes) => builder.append_value(bytes),
            other => return Err(mismatch(other, data_type)),
        }
    }
    let array: ArrayRef = Arc::new(builder.finish());
    if *data_type == DataType::Binary { Ok(array) } else { Ok(cast(&array, data_type)?) }
}

fn nested_rows(values: &[Datum], data_type: &DataType) -> Result<ArrayRef> {
    let null = new_null_array(data_type, 1);
    let rows = values
        .iter()
        .map(|value| match value {
            Datum::Null => Ok(Arc::clone(&null)),
            Datum::Nested(bytes) => {
                let array = nested_from_ipc(bytes)?;
                if array.data_type() != data_type {
                    return Err(mismatch(value, data_type));
                }
                Ok(array)
            }
            other => Err(mismatch(other, data_type)),
        })
        .collect::<Result<Vec<_>>>()?;
    if rows.is_empty() {
        return Ok(new_empty_array(data_type));
    }
    Ok(concat(&rows.iter().map(|row| row.as_ref() as &dyn Array).collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use arrow::{array::ListArray, datatypes::Int32Type};

    use super::*;

    fn returns_unchanged(values: &[Datum], data_type: &DataType) {
        let array = array_of(values, data_type).unwrap();
        assert_eq!(array.data_type(), data_type);
        let back: Vec<_> = (0..array.len()).map(|row| datum_at(&array, row).unwrap()).collect();
        assert_eq!(back, values, "{data_type}");
    }

    #[test]
    fn every_type_returns_what_was_put_in() {
        use arrow::datatypes::TimeUnit::Microsecond;
        let ints = [Datum::Int(-7), Datum::Null, Datum::Int(100)];
        for data_type in [
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::Date32,
            DataType::Time64(Microsecond),
            DataType::Timestamp(Microsecond, None),
            DataType::Timestamp(Microsecond, Some("UTC".into())),
        ] {
            returns_unchanged(&ints, &data_type);
        }
        let floats = [Datum::Float(0.5), Datum::Null];
        returns_unchanged(&floats, &DataType::Float32);
        returns_unchanged(&floats, &DataType::Float64);
        returns_unchanged(&[Datum::Bool(true), Datum::Null], &DataType::Boolean);
        let decimals = [Datum::Decimal(-12_345), Datum::Null];
        returns_unchanged(&decimals, &DataType::Decimal128(20, 3));
        let texts = [Datum::Text("höhe".into()), Datum::Null, Datum::Text(String::new())];
        returns_unchanged(&texts, &DataType::Utf8);
        returns_unchanged(&texts, &DataType::Utf8View);
        returns_unchanged(&[Datum::Bytes(vec![0, 255]), Datum::Null], &DataType::Binary);
        returns_unchanged(
            &[Datum::Bytes(vec![9; 16]), Datum::Null],
            &DataType::FixedSizeBinary(16),
        );
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        returns_unchanged(&[Datum::Interval(1, -2, 3), Datum::Null], &interval);
        returns_unchanged(&[], &DataType::Utf8);
    }

    #[test]
    fn nested_values_travel_as_one_row() {
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]));
        let values: Vec<_> = (0..3).map(|row| datum_at(&list, row).unwrap()).collect();
        assert_eq!(values[1], Datum::Null);
        assert_eq!(&array_of(&values, list.data_type()).unwrap(), &list);
    }

    #[test]
    fn a_value_the_type_cannot_hold_is_refused() {
        for (datum, data_type) in [
            (Datum::Int(300), DataType::Int8),
            (Datum::Text("1".into()), DataType::Int64),
            (Datum::Int(1), DataType::Utf8),
            (Datum::Bytes(vec![1]), DataType::FixedSizeBinary(16)),
        ] {
            assert!(array_of(&[datum], &data_type).is_err(), "{data_type}");
        }
    }

    #[test]
    fn a_batch_keeps_its_rows_without_columns() {
        let schema = Arc::new(Schema::empty());
        assert_eq!(batch_of(&[vec![], vec![]], &schema).unwrap().num_rows(), 2);
    }
}
