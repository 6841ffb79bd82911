//! COPY … TO STDOUT: rows as lines of PostgreSQL's text format or CSV, one CopyData a row.
//! Values come from the same writers as query results; only escapes are added.

use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch};
use bytes::{BufMut, BytesMut};
use planner::{OutputColumn, Result, plan::CopyOptions};

use super::types::{
    RowEncoder, TimeZone,
    encode::{begin_frame, end_frame},
};

/// Writes rows as CopyData frames.
pub struct CopyWriter {
    encoder: RowEncoder,
    options: CopyOptions,
    /// Header line that is not written yet.
    header: Option<Vec<String>>,
}

impl CopyWriter {
    /// A writer of `columns`.
    pub fn new(columns: &[OutputColumn], options: CopyOptions, zone: TimeZone) -> Result<Self> {
        let header =
            options.has_header.then(|| columns.iter().map(|column| column.name.clone()).collect());
        Ok(Self { encoder: RowEncoder::new(columns, &[], zone)?, options, header })
    }

    /// Arrays as [`Self::copy_data`] needs them.
    pub fn normalise(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.encoder.normalise(batch)
    }

    /// The header line as a CopyData frame, once.
    pub fn take_header(&mut self, out: &mut BytesMut) {
        let Some(names) = self.header.take() else { return };
        let frame = begin_frame(b'd', out);
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                out.put_u8(self.options.delimiter);
            }
            let start = out.len();
            out.put_slice(name.as_bytes());
            self.escape(start, names.len(), out);
        }
        out.put_u8(b'\n');
        end_frame(frame, out);
    }

    /// Appends a CopyData frame for each of `rows`.
    pub fn copy_data(
        &self,
        arrays: &[ArrayRef],
        rows: Range<usize>,
        out: &mut BytesMut,
    ) -> Result<()> {
        let writers = self.encoder.writers(arrays)?;
        for row in rows {
            let frame = begin_frame(b'd', out);
            for (index, writer) in writers.iter().enumerate() {
                if index > 0 {
                    out.put_u8(self.options.delimiter);
                }
                if writer.is_null(row) {
                    out.put_slice(self.options.null.as_bytes());
                    continue;
                }
                let start = out.len();
                writer.text(row, self.encoder.zone(), out);
                self.escape(start, writers.len(), out);
            }
            out.put_u8(b'\n');
            end_frame(frame, out);
        }
        Ok(())
    }

    /// Escapes or quotes the value that stands from `start` on, where it needs that.
    fn escape(&self, start: usize, column_count: usize, out: &mut BytesMut) {
        match self.options.is_csv {
            true => self.quote_csv(start, column_count, out),
            false => self.escape_text(start, out),
        }
    }

    fn escape_text(&self, start: usize, out: &mut BytesMut) {
        let delimiter = self.options.delimiter;
        let is_special = |byte: &u8| matches!(byte, b'\\' | 8..=13) || *byte == delimiter;
        if !out[start..].iter().any(is_special) {
            return;
        }
        let plain = out.split_off(start);
        for byte in plain {
            let letter = match byte {
                8 => b'b',
                b'\t' => b't',
                b'\n' => b'n',
                11 => b'v',
                12 => b'f',
                b'\r' => b'r',
                b'\\' => b'\\',
                other if other == delimiter => delimiter,
                other => {
                    out.put_u8(other);
                    continue;
                }
            };
            out.put_slice(&[b'\\', letter]);
        }
    }

    fn quote_csv(&self, start: usize, column_count: usize, out: &mut BytesMut) {
        let CopyOptions { delimiter, quote, escape, ref null, .. } = self.options;
        let value = &out[start..];
        let is_special =
            |byte: &u8| *byte == delimiter || *byte == quote || matches!(byte, b'\n' | b'\r');
        // `\.` alone on its line would end the data.
        let looks_like_end = column_count == 1 && value == b"\\.";
        if value != null.as_bytes() && !value.iter().any(is_special) && !looks_like_end {
            return;
        }
        let plain = out.split_off(start);
        out.put_u8(quote);
        for byte in plain {
            if byte == quote || byte == escape {
                out.put_u8(escape);
            }
            out.put_u8(byte);
        }
        out.put_u8(quote);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use planner::SqlType;

    use super::*;

    fn lines(is_csv: bool) -> String {
        let options = CopyOptions {
            is_csv,
            has_header: is_csv,
            delimiter: if is_csv { b',' } else { b'\t' },
            null: if is_csv { String::new() } else { "\\N".to_owned() },
            quote: b'"',
            escape: b'"',
        };
        let column = |name: &str, sql_type| OutputColumn::computed(name, sql_type);
        let columns = [column("k", SqlType::Int8), column("a,b", SqlType::Text)];
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
            Arc::new(StringArray::from(vec![Some("a\tb\\\"c\""), Some(""), None])),
        ];
        let mut writer = CopyWriter::new(&columns, options, TimeZone::Utc).unwrap();
        let mut out = BytesMut::new();
        writer.take_header(&mut out);
        writer.copy_data(&arrays, 0..3, &mut out).unwrap();
        let mut text = String::new();
        while !out.is_empty() {
            let length = u32::from_be_bytes([out[1], out[2], out[3], out[4]]) as usize;
            let frame = out.split_to(length + 1);
            assert_eq!(frame[0], b'd');
            text.push_str(std::str::from_utf8(&frame[5..]).unwrap());
        }
        text
    }

    #[test]
    fn text_lines_escape_what_would_end_a_value() {
        assert_eq!(lines(false), "1\ta\\tb\\\\\"c\"\n\\N\t\n3\t\\N\n");
    }

    #[test]
    fn csv_tells_null_from_the_empty_string() {
        assert_eq!(lines(true), "k,\"a,b\"\n1,\"a\tb\\\"\"c\"\"\"\n,\"\"\n3,\n");
    }
}
