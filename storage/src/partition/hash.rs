//! The pinned key hash: xxh3-64, seed 0, over canonical bytes. Changing one byte of it orphans
//! every row on disk; see the golden vectors.
//!
//! ```text
//! key (7::INT, 'ab')  →  08 00 00 00 | 07 00 00 00 00 00 00 00 | 02 00 00 00 | 61 62
//!                        length        i64, little-endian        length        bytes
//! ```
//! - integers of any width, dates, times and timestamps: the raw integer as i64
//! - floats: as f64, −0.0 as 0.0, every NaN as one; booleans: one byte
//! - decimals: unscaled (i128) and scale (i16) without trailing zeros, so 1.50 = 1.5
//! - text and binary: the bytes; intervals: months, days, nanoseconds
//! - lists: each element as a column; structs and maps: each child as a column
//! - NULL: the length `u32::MAX` and nothing after it
//!
//! Two keys are equal exactly if their canonical bytes are: key comparison uses them too.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::DataType,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{PartitionId, canonical::hash_rows};
use crate::{
    Datum, Error, Result,
    value::{Cells, ColumnReader, Value},
};

/// The name of this hash in the founding record of a cluster.
pub const HASH_NAME: &str = "xxh3-64/canonical-1";

/// Hash of each row over `columns`, written to `hashes` (cleared first). All columns have the
/// same length. Invalid for a type that cannot be a key.
pub fn hash_columns(columns: &[ArrayRef], hashes: &mut Vec<u64>) -> Result<()> {
    hashes.clear();
    let Some(first) = columns.first() else {
        return Err(Error::Invalid("a key has at least one column".to_owned()));
    };
    hashes.reserve(first.len());
    if let [column] = columns
        && column.null_count() == 0
        && hash_integers(&ColumnReader::new(column)?, hashes)
    {
        return Ok(());
    }
    let readers = columns.iter().map(ColumnReader::new).collect::<Result<Vec<_>>>()?;
    if hash_rows(&readers, first.len(), hashes) {
        return Ok(());
    }
    let mut bytes = Vec::with_capacity(64);
    for row in 0..first.len() {
        bytes.clear();
        for reader in &readers {
            put_value(&reader.value(row), &mut bytes)?;
        }
        hashes.push(xxh3_64(&bytes));
    }
    Ok(())
}

/// Hash of one key given as datums of `types`; equal to [`hash_columns`] of the same values.
pub fn hash_datums(key: &[Datum], types: &[DataType]) -> Result<u64> {
    if let [Datum::Int(key)] = key {
        return Ok(hash_integer(*key));
    }
    let mut bytes = Vec::with_capacity(64);
    for (datum, data_type) in key.iter().zip(types) {
        put_value(&Value::of_datum(datum, data_type)?, &mut bytes)?;
    }
    Ok(xxh3_64(&bytes))
}

/// The partition a hash falls into: the high half of `hash × count`, so all bits take part.
pub fn partition_of_hash(hash: u64, partition_count: u16) -> PartitionId {
    PartitionId(((u128::from(hash) * u128::from(partition_count)) >> 64) as u16)
}

/// Hash of the one-column key `value`.
pub(crate) fn hash_integer(value: i64) -> u64 {
    let mut bytes = [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&value.to_le_bytes());
    xxh3_64(&bytes)
}

/// Hash of canonical bytes.
pub(crate) fn hash_bytes(canonical: &[u8]) -> u64 {
    xxh3_64(canonical)
}

/// Appends one column of a key in canonical form.
pub(crate) fn put_value(value: &Value<'_>, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::Null => out.extend_from_slice(&u32::MAX.to_le_bytes()),
        Value::Bool(value) => put_bytes(&[u8::from(*value)], out),
        Value::Int(value) => put_bytes(&value.to_le_bytes(), out),
        Value::Float(value) => put_bytes(&canonical_float(*value).to_le_bytes(), out),
        Value::Decimal(unscaled, scale) => {
            let (unscaled, scale) = canonical_decimal(*unscaled, *scale);
            out.extend_from_slice(&18_u32.to_le_bytes());
            out.extend_from_slice(&unscaled.to_le_bytes());
            out.extend_from_slice(&scale.to_le_bytes());
        }
        Value::Bytes(bytes) => put_bytes(bytes, out),
        Value::Interval(months, days, nanos) => {
            out.extend_from_slice(&16_u32.to_le_bytes());
            out.extend_from_slice(&months.to_le_bytes());
            out.extend_from_slice(&days.to_le_bytes());
            out.extend_from_slice(&nanos.to_le_bytes());
        }
        Value::Nested(array) => put_nested(array, out)?,
    }
    Ok(())
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    // No value is as long as 4 GiB: Arrow's offsets are i32.
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// An array of one row that is not null.
fn put_nested(array: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    match array.data_type() {
        DataType::Struct(_) => {
            for child in array.as_struct().columns() {
                put_value(&ColumnReader::new(child)?.value(0), out)?;
            }
        }
        DataType::Map(..) => put_elements(&(Arc::new(array.as_map().value(0)) as _), out)?,
        DataType::List(_) => put_elements(&array.as_list::<i32>().value(0), out)?,
        DataType::LargeList(_) => put_elements(&array.as_list::<i64>().value(0), out)?,
        DataType::FixedSizeList(..) => put_elements(&array.as_fixed_size_list().value(0), out)?,
        other => return Err(Error::Invalid(format!("type {other} cannot be part of a key"))),
    }
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn put_elements(elements: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
    let reader = ColumnReader::new(elements)?;
    (0..elements.len()).try_for_each(|element| put_value(&reader.value(element), out))
}

pub(super) fn canonical_float(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

pub(super) fn canonical_decimal(mut unscaled: i128, scale: i8) -> (i128, i16) {
    if unscaled == 0 {
        return (0, 0);
    }
    let mut scale = i16::from(scale);
    // Most values fit 64 bits, where a division is ten times cheaper.
    while i64::try_from(unscaled).is_err() && unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    if let Ok(mut short) = i64::try_from(unscaled) {
        while short % 10 == 0 {
            short /= 10;
            scale -= 1;
        }
        unscaled = i128::from(short);
    }
    (unscaled, scale)
}

/// Hashes a single integer column without nulls; answers whether it was one.
fn hash_integers(reader: &ColumnReader<'_>, hashes: &mut Vec<u64>) -> bool {
    match reader.cells() {
        Cells::I64(values) => hashes.extend(values.iter().map(|value| hash_integer(*value))),
        Cells::I32(values) => {
            hashes.extend(values.iter().map(|value| hash_integer(i64::from(*value))));
        }
        Cells::I16(values) => {
            hashes.extend(values.iter().map(|value| hash_integer(i64::from(*value))));
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, StringArray,
        StringViewArray,
    };

    use super::*;
    use crate::datum::array_of;

    fn hash_one(datum: Datum, data_type: DataType) -> u64 {
        let mut hashes = Vec::new();
        let column = array_of(std::slice::from_ref(&datum), &data_type).unwrap();
        hash_columns(&[column], &mut hashes).unwrap();
        assert_eq!(hashes[0], hash_datums(&[datum], &[data_type]).unwrap());
        hashes[0]
    }

    #[test]
    fn golden_vectors_never_change() {
        let decimal = DataType::Decimal128(10, 2);
        let interval = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
        let vectors = [
            hash_one(Datum::Int(0), DataType::Int64),
            hash_one(Datum::Int(1), DataType::Int64),
            hash_one(Datum::Int(-1), DataType::Int32),
            hash_one(Datum::Int(i64::MAX), DataType::Int64),
            hash_one(Datum::Null, DataType::Int64),
            hash_one(Datum::Bool(true), DataType::Boolean),
            hash_one(Datum::Float(1.5), DataType::Float64),
            hash_one(Datum::Float(f64::NAN), DataType::Float64),
            hash_one(Datum::Decimal(150), decimal),
            hash_one(Datum::Text(String::new()), DataType::Utf8),
            hash_one(Datum::Text("tidewater".into()), DataType::Utf8),
            hash_one(Datum::Interval(1, 2, 3), interval),
        ];
        let text: Vec<_> = vectors.iter().map(|hash| format!("{hash:016x}")).collect();
        let golden = [
            "3c91d14cc3cc3974",
            "acd7d91ed0dee413",
            "0c4e8605c55716f7",
            "51cd98eb2b859040",
            "cd6b1c920d3f662c",
            "8cd045b8efcef9bd",
            "7e5914099d2b4513",
            "584e1397b17a7052",
            "4f76a10983b2c7e3",
            "48b2c92616fc193d",
            "d357ffb78b52e764",
            "8a14ef3f9c4f545b",
        ];
        assert_eq!(text, golden);
        let types = [DataType::Int64, DataType::Utf8];
        let pair = hash_datums(&[Datum::Int(7), Datum::Text("ab".into())], &types).unwrap();
        let bytes = [8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'a', b'b'];
        assert_eq!(pair, xxh3_64(&bytes));
    }

    #[test]
    fn equal_values_of_different_types_hash_alike() {
        let mut expected = Vec::new();
        let mut actual = Vec::new();
        hash_columns(&[Arc::new(Int64Array::from(vec![-3, 0, 9])) as _], &mut expected).unwrap();
        let ints: [ArrayRef; 3] = [
            Arc::new(Int32Array::from(vec![-3, 0, 9])),
            Arc::new(Int16Array::from(vec![-3, 0, 9])),
            array_of(&[Datum::Int(-3), Datum::Int(0), Datum::Int(9)], &DataType::Date32).unwrap(),
        ];
        for column in ints {
            hash_columns(&[column], &mut actual).unwrap();
            assert_eq!(actual, expected);
        }
        hash_columns(&[Arc::new(StringArray::from(vec!["a", "ä"])) as _], &mut expected).unwrap();
        hash_columns(&[Arc::new(StringViewArray::from(vec!["a", "ä"])) as _], &mut actual).unwrap();
        assert_eq!(actual, expected);
        let wide: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 0.0, f64::NAN]));
        let narrow: ArrayRef = Arc::new(Float32Array::from(vec![0.5, -0.0, -f32::NAN]));
        hash_columns(&[wide], &mut expected).unwrap();
        hash_columns(&[narrow], &mut actual).unwrap();
        assert_eq!(actual, expected);
    }

    #[test]
    fn decimals_hash_by_value_not_by_scale() {
        let short = hash_one(Datum::Decimal(15), DataType::Decimal128(10, 1));
        assert_eq!(short, hash_one(Datum::Decimal(1500), DataType::Decimal128(20, 3)));
        assert_ne!(short, hash_one(Datum::Decimal(15), DataType::Decimal128(10, 0)));
        let zero = hash_one(Datum::Decimal(0), DataType::Decimal128(10, 1));
        assert_eq!(zero, hash_one(Datum::Decimal(0), DataType::Decimal128(10, 4)));
    }

    #[test]
    fn column_borders_take_part() {
        let types = [DataType::Utf8, DataType::Utf8];
        let text = |text: &str| Datum::Text(text.to_owned());
        let one = hash_datums(&[text("ab"), text("c")], &types).unwrap();
        assert_ne!(one, hash_datums(&[text("a"), text("bc")], &types).unwrap());
        assert_ne!(one, hash_datums(&[text("ab"), Datum::Null], &types).unwrap());
    }

    #[test]
    fn no_partition_stays_empty_at_1e5_keys() {
        let mut hashes = Vec::new();
        hash_columns(&[Arc::new(Int64Array::from_iter_values(0..100_000)) as _], &mut hashes)
            .unwrap();
        let mut rows = vec![0_u32; 271];
        for hash in hashes {
            rows[usize::from(partition_of_hash(hash, 271).0)] += 1;
        }
        let (fewest, most) = (rows.iter().min().unwrap(), rows.iter().max().unwrap());
        assert!(*fewest > 250 && *most < 500, "{fewest}..{most} rows, 369 on average");
    }
}
