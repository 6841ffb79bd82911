//! Canonical bytes of many rows, column by column: what [`super::hash`] hashes, without asking for a
//! value's type at each row. The bytes are those of `hash::put_value`, which stays their definition.
//!
//! ```text
//!              row 0            row 1        …   BLOCK_ROWS rows at once
//!  lengths   12 + 6            12 + 4            every column adds its own
//!  bytes     |8 7…|2 a b|      |8 9…|∅|          every column writes at its row's cursor, moves it on
//! ```

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::hash::{canonical_decimal, canonical_float};
use crate::value::{Cells, ColumnReader};

/// Rows at once: few enough that bytes and cursors stay in the first-level cache.
const BLOCK_ROWS: usize = 256;

/// Bytes of an integer or float: its length and eight bytes.
const NUMBER: usize = 12;
/// Bytes of a boolean: its length and one byte.
const BOOLEAN: usize = 5;
/// Bytes of a decimal: its length, unscaled value and scale.
const DECIMAL: usize = 22;
/// Bytes of a length.
const LENGTH: usize = 4;

/// Appends the hash of each row over all columns. False, and nothing appended, if a column's type
/// is not one of those this is written for.
pub(super) fn hash_rows(readers: &[ColumnReader<'_>], rows: usize, hashes: &mut Vec<u64>) -> bool {
    if !readers.iter().all(is_columnar) {
        return false;
    }
    let mut bytes = Vec::new();
    let mut ends = [0_usize; BLOCK_ROWS];
    let mut cursors = [0_usize; BLOCK_ROWS];
    for start in (0..rows).step_by(BLOCK_ROWS) {
        let block = start..(start + BLOCK_ROWS).min(rows);
        let ends = &mut ends[..block.len()];
        ends.fill(0);
        readers.iter().for_each(|reader| add_lengths(reader, block.clone(), ends));
        let mut end = 0;
        for (cursor, length) in cursors.iter_mut().zip(ends.iter_mut()) {
            *cursor = end;
            end += *length;
            *length = end;
        }
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        readers.iter().for_each(|reader| write(reader, block.clone(), &mut cursors, &mut bytes));
        let mut begin = 0;
        hashes.extend(ends.iter().map(|&end| {
            let hash = xxh3_64(&bytes[begin..end]);
            begin = end;
            hash
        }));
    }
    true
}

fn is_columnar(reader: &ColumnReader<'_>) -> bool {
    match reader.cells() {
        Cells::Null | Cells::Interval(_) | Cells::Nested(_) => false,
        Cells::Bool(_)
        | Cells::I8(_)
        | Cells::I16(_)
        | Cells::I32(_)
        | Cells::I64(_)
        | Cells::U8(_)
        | Cells::U16(_)
        | Cells::U32(_)
        | Cells::U64(_)
        | Cells::F32(_)
        | Cells::F64(_)
        | Cells::Decimal(..)
        | Cells::Text(_)
        | Cells::LargeText(_)
        | Cells::TextView(_)
        | Cells::Binary(_)
        | Cells::LargeBinary(_)
        | Cells::BinaryView(_)
        | Cells::Fixed(_) => true,
    }
}

/// Adds the canonical length of each row's value.
fn add_lengths(reader: &ColumnReader<'_>, rows: Range<usize>, lengths: &mut [usize]) {
    let fixed = match reader.cells() {
        Cells::Bool(_) => Some(BOOLEAN),
        Cells::Decimal(..) => Some(DECIMAL),
        Cells::Text(_)
        | Cells::LargeText(_)
        | Cells::TextView(_)
        | Cells::Binary(_)
        | Cells::LargeBinary(_)
        | Cells::BinaryView(_)
        | Cells::Fixed(_) => None,
        _ => Some(NUMBER),
    };
    match (fixed, reader.nulls()) {
        (Some(width), None) => lengths.iter_mut().for_each(|length| *length += width),
        (Some(width), Some(nulls)) => {
            for (length, row) in lengths.iter_mut().zip(rows) {
                *length += if nulls.is_null(row) { LENGTH } else { width };
            }
        }
        (None, _) => {
            for (length, row) in lengths.iter_mut().zip(rows) {
                *length += LENGTH + text(reader, row).map_or(0, <[u8]>::len);
            }
        }
    }
}

/// Writes each row's value at its cursor and moves that on.
fn write(
    reader: &ColumnReader<'_>,
    rows: Range<usize>,
    cursors: &mut [usize; BLOCK_ROWS],
    bytes: &mut [u8],
) {
    let mut out = Cursors { reader, cursors, bytes };
    match reader.cells() {
        Cells::Bool(array) => out.each(rows, |row| boolean(array.value(row))),
        Cells::I8(values) => out.each(rows, |row| number(i64::from(values[row]).to_le_bytes())),
        Cells::I16(values) => out.each(rows, |row| number(i64::from(values[row]).to_le_bytes())),
        Cells::I32(values) => out.each(rows, |row| number(i64::from(values[row]).to_le_bytes())),
        Cells::I64(values) => out.each(rows, |row| number(values[row].to_le_bytes())),
        Cells::U8(values) => out.each(rows, |row| number(i64::from(values[row]).to_le_bytes())),
        Cells::U16(values) => out.each(rows, |row| number(i64::from(values[row]).to_le_bytes())),
        Cells::U32(values) => out.each(rows, |row| number(i64::from(values[row]).to_le_bytes())),
        Cells::U64(values) => out.each(rows, |row| number(values[row].to_le_bytes())),
        Cells::F32(array) => out.each(rows, |row| float(f64::from(array.value(row)))),
        Cells::F64(array) => out.each(rows, |row| float(array.value(row))),
        Cells::Decimal(array, scale) => out.each(rows, |row| decimal(array.value(row), *scale)),
        _ => out.texts(rows),
    }
}

/// Where the rows of a block go on.
struct Cursors<'a> {
    reader: &'a ColumnReader<'a>,
    cursors: &'a mut [usize; BLOCK_ROWS],
    bytes: &'a mut [u8],
}

impl Cursors<'_> {
    /// Writes values of one width.
    fn each<const N: usize>(&mut self, rows: Range<usize>, value: impl Fn(usize) -> [u8; N]) {
        let nulls = self.reader.nulls();
        for (cursor, row) in self.cursors.iter_mut().zip(rows) {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                self.bytes[*cursor..*cursor + LENGTH].copy_from_slice(&u32::MAX.to_le_bytes());
                *cursor += LENGTH;
            } else {
                self.bytes[*cursor..*cursor + N].copy_from_slice(&value(row));
                *cursor += N;
            }
        }
    }

    /// Writes text or binary values.
    fn texts(&mut self, rows: Range<usize>) {
        for (cursor, row) in self.cursors.iter_mut().zip(rows) {
            let value = text(self.reader, row);
            let length = value.map_or(u32::MAX, |value| value.len() as u32);
            self.bytes[*cursor..*cursor + LENGTH].copy_from_slice(&length.to_le_bytes());
            *cursor += LENGTH;
            if let Some(value) = value {
                self.bytes[*cursor..*cursor + value.len()].copy_from_slice(value);
                *cursor += value.len();
            }
        }
    }
}

fn number(value: [u8; 8]) -> [u8; NUMBER] {
    let mut bytes = [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[LENGTH..].copy_from_slice(&value);
    bytes
}

fn float(value: f64) -> [u8; NUMBER] {
    number(canonical_float(value).to_le_bytes())
}

fn decimal(unscaled: i128, scale: i8) -> [u8; DECIMAL] {
    let (unscaled, scale) = canonical_decimal(unscaled, scale);
    let mut bytes = [0; DECIMAL];
    bytes[..4].copy_from_slice(&18_u32.to_le_bytes());
    bytes[4..20].copy_from_slice(&unscaled.to_le_bytes());
    bytes[20..].copy_from_slice(&scale.to_le_bytes());
    bytes
}

fn boolean(value: bool) -> [u8; BOOLEAN] {
    [1, 0, 0, 0, u8::from(value)]
}

/// The bytes of a text or binary value; `None` for NULL.
fn text<'a>(reader: &ColumnReader<'a>, row: usize) -> Option<&'a [u8]> {
    if reader.nulls().is_some_and(|nulls| nulls.is_null(row)) {
        return None;
    }
    Some(match reader.cells() {
        Cells::Text(array) => array.value(row).as_bytes(),
        Cells::LargeText(array) => array.value(row).as_bytes(),
        Cells::TextView(array) => array.value(row).as_bytes(),
        Cells::Binary(array) => array.value(row),
        Cells::LargeBinary(array) => array.value(row),
        Cells::BinaryView(array) => array.value(row),
        Cells::Fixed(array) => array.value(row),
        _ => &[],
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array,
        Int16Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array,
    };

    use super::*;
    use crate::partition::hash::put_value;

    #[test]
    fn columns_hash_as_their_rows_do_one_by_one() {
        let rows = BLOCK_ROWS * 2 + 7;
        let some = |row: usize| !row.is_multiple_of(5);
        let columns: Vec<ArrayRef> = vec![
            Arc::new((0..rows).map(|row| Some(row as i64 - 3)).collect::<Int64Array>()),
            Arc::new((0..rows).map(|row| some(row).then_some(row as i16)).collect::<Int16Array>()),
            Arc::new(
                (0..rows)
                    .map(|row| some(row).then(|| "ä".repeat(row % 9)))
                    .collect::<StringArray>(),
            ),
            Arc::new((0..rows).map(|row| Some(vec![7_u8; row % 4])).collect::<BinaryArray>()),
            Arc::new(
                (0..rows)
                    .map(|row| some(row + 1).then_some(row % 2 == 0))
                    .collect::<BooleanArray>(),
            ),
            Arc::new(Float32Array::from_iter_values((0..rows).map(|row| -0.0 * row as f32))),
            Arc::new(Float64Array::from_iter_values((0..rows).map(|row| f64::NAN + row as f64))),
            Arc::new(UInt64Array::from_iter_values((0..rows).map(|row| u64::MAX - row as u64))),
            Arc::new(
                (0..rows as i128)
                    .map(|row| (row % 5 != 0).then_some((row - 40) * 10_i128.pow(row as u32 % 30)))
                    .collect::<Decimal128Array>(),
            ),
            Arc::new(TimestampMicrosecondArray::from_iter_values((0..rows).map(|row| row as i64))),
        ];
        let readers: Vec<_> =
            columns.iter().map(|column| ColumnReader::new(column).unwrap()).collect();
        let mut hashes = Vec::new();
        assert!(hash_rows(&readers, rows, &mut hashes));
        for (row, hash) in hashes.iter().enumerate() {
            let mut bytes = Vec::new();
            readers.iter().for_each(|reader| put_value(&reader.value(row), &mut bytes).unwrap());
            assert_eq!(*hash, xxh3_64(&bytes), "row {row}");
        }
        assert_eq!(hashes.len(), rows);
    }
}
