//! `Split`: what one instance reads at a time: a file, or a piece of a large one. The splits of an
//! execution are decided once, when it starts, and each belongs to one instance for good, so that
//! what every instance saves at a barrier fits together.
//!
//! Lines can be found from anywhere, so a file of lines is cut into pieces; the record that a cut
//! falls into belongs to the piece before it. A CSV record may hold line ends within quotes, so a
//! CSV file is one split. A Parquet file is cut between row groups; there a place is a row.
//!
//! ```text
//!   bytes    {…}\n{…}\n{…│…}\n{…}\n          a record belongs to the piece it begins in
//!   pieces   ── first ───┤ second
//! ```

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Int64Type, Schema},
};

use super::folder::FoundFile;
use crate::Result;

/// Bytes of a piece: a tenth of a second's work, so that instances end at about the same time.
pub const PIECE_BYTES: u64 = 32 << 20;

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Name of the file.
    pub file: String,
    /// Bytes the file had when the execution was first started; what comes later is not read.
    pub size: u64,
    /// Where to go on: a byte; in Parquet a row.
    pub next: u64,
    /// Records that begin here or behind belong to another split.
    pub end: u64,
    /// Whether `next` may lie inside of a record, which is another split's.
    pub is_cut: bool,
}

/// The splits of files, in order.
pub fn splits(files: &[FoundFile], is_cuttable: bool) -> Vec<Split> {
    let piece = if is_cuttable { PIECE_BYTES } else { u64::MAX };
    let mut splits = Vec::new();
    for FoundFile { name, size } in files {
        let mut next = 0;
        while next < *size {
            let end = next.saturating_add(piece).min(*size);
            let (file, size) = (name.clone(), *size);
            splits.push(Split { file, size, next, end, is_cut: next > 0 });
            next = end;
        }
    }
    splits
}

/// Splits as rows of a saved state. One row without a file comes first: it says that the splits
/// are known, also if none is left.
pub fn to_rows(splits: &[&Split]) -> Result<RecordBatch> {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let schema = Schema::new(vec![
        field("file", DataType::Utf8),
        field("size", DataType::Int64),
        field("next", DataType::Int64),
        field("end", DataType::Int64),
        field("is_cut", DataType::Boolean),
    ]);
    let all = || std::iter::once(None).chain(splits.iter().map(|split| Some(*split)));
    let number = |value: fn(&Split) -> u64| -> ArrayRef {
        Arc::new(all().map(|split| split.map(|split| value(split) as i64)).collect::<Int64Array>())
    };
    let files: StringArray = all().map(|split| split.map(|split| split.file.as_str())).collect();
    let cuts: BooleanArray = all().map(|split| split.map(|split| split.is_cut)).collect();
    let columns = vec![
        Arc::new(files) as ArrayRef,
        number(|split| split.size),
        number(|split| split.next),
        number(|split| split.end),
        Arc::new(cuts),
    ];
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

/// The splits of rows that [`to_rows`] made.
pub fn from_rows(rows: &RecordBatch) -> Vec<Split> {
    let files = rows.column(0).as_string::<i32>();
    let number = |column: usize, row: usize| {
        rows.column(column).as_primitive::<Int64Type>().value(row) as u64
    };
    let cuts = rows.column(4).as_boolean();
    (0..rows.num_rows())
        .filter(|row| files.is_valid(*row))
        .map(|row| Split {
            file: files.value(row).to_owned(),
            size: number(1, row),
            next: number(2, row),
            end: number(3, row),
            is_cut: cuts.value(row),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_file_cover_it_once() {
        let file = |name: &str, size| FoundFile { name: name.to_owned(), size };
        let files = [file("a", 0), file("b", 2 * PIECE_BYTES + 1), file("c", 5)];
        let cut = splits(&files, true);
        assert_eq!(cut.len(), 4, "an empty file has none");
        for pair in cut[..3].windows(2) {
            assert_eq!(pair[0].end, pair[1].next);
            assert!(pair[1].is_cut);
        }
        assert_eq!((cut[0].is_cut, cut[2].end), (false, 2 * PIECE_BYTES + 1));
        assert_eq!(splits(&files, false).len(), 2);
        let saved = to_rows(&cut.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(from_rows(&saved), cut);
        assert_eq!(from_rows(&to_rows(&[]).unwrap()), []);
    }
}
