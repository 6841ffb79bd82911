//! Bytes → lines → fields, in PostgreSQL's text format and CSV. A line without a backslash (text)
//! or a quote (CSV) is cut in place; only others are copied to take their escapes out.
//!
//! ```text
//! pieces ─→ buffer ─ newline ─→ line ─ delimiter ─→ field ─→ ColumnBuilder
//! ```

use arrow::array::RecordBatch;
use bytes::{Buf, BytesMut};
use memchr::{memchr, memchr2};
use planner::{Error, Result, plan::CopyIn};

use super::columns::ColumnBuilder;
use crate::wire::types::{TimeZone, parameter::utf8};

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// Bytes of one line; a quote that nobody closes must not gather the whole input.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Characters of a field that an error shows.
const SHOWN_MAX: usize = 100;

/// A failed COPY: the error and PostgreSQL's CONTEXT line.
#[derive(Debug)]
pub struct CopyError {
    /// The error.
    pub error: Error,
    /// `COPY t, line 3, column k: "abc"`.
    pub context: String,
}

/// Parses what the client sends and writes it.
pub struct LineParser {
    copy: CopyIn,
    zone: TimeZone,
    columns: Vec<ColumnBuilder>,
    /// Bytes of the line that is not whole yet.
    buffer: BytesMut,
    /// Bytes of `buffer` that are known to hold no end of a line.
    scanned: usize,
    /// Rows in the builders.
    row_count: usize,
    /// Number of the present line, from 1.
    line: u64,
    /// Whether lines end in CR LF; the first line tells.
    is_crlf: Option<bool>,
    /// Whether `\.` was seen: the rest is ignored.
    is_ended: bool,
    /// A field with its escapes taken out.
    scratch: Vec<u8>,
}

/// A field of a line.
enum Field<'a> {
    Null,
    Text(&'a [u8]),
}

impl LineParser {
    /// A parser before `copy`.
    pub fn new(copy: CopyIn, zone: TimeZone) -> Self {
        let fields = copy.columns.iter().zip(copy.schema.fields());
        let columns = fields
            .map(|(column, field)| {
                ColumnBuilder::new(&column.sql_type, field.data_type(), BATCH_ROWS)
            })
            .collect();
        Self {
            copy,
            zone,
            columns,
            buffer: BytesMut::new(),
            scanned: 0,
            row_count: 0,
            line: 0,
            is_crlf: None,
            is_ended: false,
            scratch: Vec::new(),
        }
    }

    /// Takes a piece, which may end anywhere.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Box<CopyError>> {
        if self.is_ended {
            return Ok(());
        }
        self.buffer.extend_from_slice(piece);
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.lines(&mut buffer);
        self.buffer = buffer;
        result
    }

    /// Takes the last line, writes the rest and makes everything visible; answers the rows.
    pub fn finish(mut self) -> Result<u64, Box<CopyError>> {
        if !self.buffer.is_empty() && !self.is_ended {
            let rest = std::mem::take(&mut self.buffer);
            if self.copy.options.is_csv && is_inside_quotes(&rest, &self.copy.options) {
                self.line += 1;
                return Err(self.fail(Error::new("22P04", "unterminated CSV quoted field")));
            }
            self.line(&rest)?;
        }
        self.write()?;
        let context = self.context();
        self.copy.finish().map_err(|error| Box::new(CopyError { error, context }))
    }

    fn lines(&mut self, buffer: &mut BytesMut) -> Result<(), Box<CopyError>> {
        let mut start = 0;
        while let Some(end) = self.line_end(&buffer[start..]) {
            self.scanned = 0;
            let line = &buffer[start..start + end];
            if self.is_crlf == Some(true) && !line.ends_with(b"\r") {
                self.line += 1;
                return Err(self.fail(self.stray("newline", "\\n")));
            }
            self.line(line)?;
            start += end + 1;
            if self.is_ended {
                buffer.clear();
                return Ok(());
            }
        }
        buffer.advance(start);
        if buffer.len() > LINE_BYTES_MAX {
            let message = format!("a line of COPY is longer than {LINE_BYTES_MAX} bytes");
            return Err(self.fail(Error::new("54000", message)));
        }
        Ok(())
    }

    /// Where the first line of `buffer` ends; `None` if that is not known yet.
    fn line_end(&mut self, buffer: &[u8]) -> Option<usize> {
        let mut from = self.scanned;
        loop {
            let Some(end) = memchr(b'\n', &buffer[from..]).map(|at| from + at) else {
                // Quotes and backslashes are counted from the start of the line again: only the
                // search for a newline is not repeated.
                self.scanned = buffer.len();
                return None;
            };
            let is_data = match self.copy.options.is_csv {
                true => is_inside_quotes(&buffer[..end], &self.copy.options),
                false => {
                    buffer[..end].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
                }
            };
            if !is_data {
                return Some(end);
            }
            from = end + 1;
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Box<CopyError>> {
        self.line += 1;
        let is_crlf = *self.is_crlf.get_or_insert(line.ends_with(b"\r"));
        let line = if is_crlf { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        if line == b"\\." {
            self.is_ended = true;
            return Ok(());
        }
        if self.line == 1 && self.copy.options.has_header {
            return Ok(());
        }
        let text = utf8(line).map_err(|error| self.fail(error))?;
        let special = if self.copy.options.is_csv { self.copy.options.quote } else { b'\\' };
        let null = std::mem::take(&mut self.copy.options.null);
        let result = match memchr2(special, b'\r', line) {
            None => self.plain_fields(text, &null),
            Some(_) if has_bare_return(line, &self.copy.options) => {
                Err(self.fail(self.stray("carriage return", "\\r")))
            }
            Some(_) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                let result = self.escaped_fields(line, &null, &mut scratch);
                self.scratch = scratch;
                result
            }
        };
        self.copy.options.null = null;
        let count = result?;
        if let Some(missing) = self.copy.columns.get(count) {
            let message = format!("missing data for column \"{}\"", missing.name);
            return Err(self.fail(Error::new("22P04", message)));
        }
        self.row_count += 1;
        if self.row_count >= BATCH_ROWS {
            self.write()?;
        }
        Ok(())
    }

    /// A byte that ends lines in other files than this one.
    fn stray(&self, name: &str, escape: &str) -> Error {
        let (word, hint) = match self.copy.options.is_csv {
            true => ("unquoted", format!("Use quoted CSV field to represent {name}.")),
            false => ("literal", format!("Use \"{escape}\" to represent {name}.")),
        };
        Error::new("22P04", format!("{word} {name} found in data")).with_hint(hint)
    }

    /// Takes the fields of a line that holds neither quote nor escape; answers how many. Cut at an
    /// ASCII byte, text is text again and needs no second check.
    fn plain_fields(&mut self, line: &str, null: &str) -> Result<usize, Box<CopyError>> {
        let delimiter = self.copy.options.delimiter;
        let mut rest = line;
        let mut index = 0;
        loop {
            let end = memchr(delimiter, rest.as_bytes());
            let text = end.map_or(rest, |end| &rest[..end]);
            self.push_field(index, (text != null).then_some(text))?;
            index += 1;
            match end {
                Some(end) => rest = &rest[end + 1..],
                None => return Ok(index),
            }
        }
    }

    /// Takes the fields of any other line; answers how many.
    fn escaped_fields(
        &mut self,
        line: &[u8],
        null: &str,
        scratch: &mut Vec<u8>,
    ) -> Result<usize, Box<CopyError>> {
        let delimiter = self.copy.options.delimiter;
        let mut rest = line;
        let mut index = 0;
        loop {
            let (end, field) = match self.copy.options.is_csv {
                true => self.csv_field(rest, null, scratch),
                false => text_field(rest, delimiter, null.as_bytes(), scratch),
            };
            match field {
                Field::Null => self.push_field(index, None)?,
                // Escapes can make bytes that are no text.
                Field::Text(text) => match utf8(text) {
                    Ok(text) => self.push_field(index, Some(text))?,
                    Err(error) => return Err(self.fail_at(index, error, text)),
                },
            }
            index += 1;
            match rest.get(end + 1..) {
                Some(after) if end < rest.len() => rest = after,
                _ => return Ok(index),
            }
        }
    }

    fn push_field(&mut self, index: usize, text: Option<&str>) -> Result<(), Box<CopyError>> {
        let Some(column) = self.columns.get_mut(index) else {
            return Err(self.fail(Error::new("22P04", "extra data after last expected column")));
        };
        let Some(text) = text else {
            column.push_null();
            return Ok(());
        };
        match column.push(text, &self.zone) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail_at(index, error, text.as_bytes())),
        }
    }

    /// A field that cannot be read.
    fn fail_at(&self, index: usize, error: Error, text: &[u8]) -> Box<CopyError> {
        let shown: String = String::from_utf8_lossy(text).chars().take(SHOWN_MAX).collect();
        let context = match self.copy.columns.get(index) {
            Some(column) => format!("{}, column {}: \"{shown}\"", self.context(), column.name),
            None => self.context(),
        };
        Box::new(CopyError { error, context })
    }

    /// A field of a line with quotes: where it ends, and its text.
    fn csv_field<'a>(
        &self,
        rest: &'a [u8],
        null: &str,
        scratch: &'a mut Vec<u8>,
    ) -> (usize, Field<'a>) {
        let options = &self.copy.options;
        let (quote, escape) = (options.quote, options.escape);
        scratch.clear();
        let mut index = 0;
        let mut is_open = false;
        let mut was_quoted = false;
        while let Some(byte) = rest.get(index).copied() {
            let next = rest.get(index + 1).copied();
            let escapes = is_open
                && byte == escape
                && next.is_some_and(|next| next == quote || next == escape);
            if escapes {
                scratch.extend(next);
                index += 2;
                continue;
            }
            if byte == quote {
                is_open = !is_open;
                was_quoted = true;
            } else if byte == options.delimiter && !is_open {
                break;
            } else {
                scratch.push(byte);
            }
            index += 1;
        }
        let is_null = !was_quoted && scratch.as_slice() == null.as_bytes();
        (index, if is_null { Field::Null } else { Field::Text(scratch) })
    }

    fn write(&mut self) -> Result<(), Box<CopyError>> {
        if self.row_count == 0 {
            return Ok(());
        }
        self.row_count = 0;
        let written = self.batch().and_then(|batch| self.copy.write(&batch));
        written.map_err(|error| self.fail(error))
    }

    fn batch(&mut self) -> Result<RecordBatch> {
        let arrays = self.columns.iter_mut().map(ColumnBuilder::finish).collect::<Result<_>>()?;
        RecordBatch::try_new(std::sync::Arc::clone(&self.copy.schema), arrays)
            .map_err(|error| Error::new("XX000", error.to_string()))
    }

    fn context(&self) -> String {
        format!("COPY {}, line {}", self.copy.table, self.line)
    }

    fn fail(&self, error: Error) -> Box<CopyError> {
        Box::new(CopyError { error, context: self.context() })
    }
}

/// Whether a carriage return stands in a line as itself: neither quoted nor behind a backslash.
fn has_bare_return(line: &[u8], options: &planner::plan::CopyOptions) -> bool {
    let mut from = 0;
    while let Some(at) = memchr2(b'\\', b'\r', &line[from..]).map(|at| from + at) {
        let is_return = line[at] == b'\r';
        if is_return && !(options.is_csv && is_inside_quotes(&line[..at], options)) {
            return true;
        }
        let is_escape = !is_return && !options.is_csv;
        from = (at + 1 + usize::from(is_escape)).min(line.len());
    }
    false
}

/// Whether a line that ends here ends inside quotes.
fn is_inside_quotes(line: &[u8], options: &planner::plan::CopyOptions) -> bool {
    let (quote, escape) = (options.quote, options.escape);
    let mut is_open = false;
    let mut from = 0;
    while let Some(at) = memchr2(quote, escape, &line[from..]).map(|at| from + at) {
        from = at + 1;
        let escapes = is_open
            && line[at] == escape
            && line.get(at + 1).is_some_and(|next| *next == quote || *next == escape);
        if escapes {
            from += 1;
        } else if line[at] == quote {
            is_open = !is_open;
        }
    }
    is_open
}

/// A field of a text line with backslashes: where it ends, and its text.
fn text_field<'a>(
    rest: &'a [u8],
    delimiter: u8,
    null: &[u8],
    scratch: &'a mut Vec<u8>,
) -> (usize, Field<'a>) {
    let mut end = 0;
    while let Some(byte) = rest.get(end) {
        match byte {
            b'\\' => end += 2,
            byte if *byte == delimiter => break,
            _ => end += 1,
        }
    }
    let end = end.min(rest.len());
    let raw = &rest[..end];
    // NULL is compared before escapes are taken out: `\N` is no `N`.
    if raw == null {
        return (end, Field::Null);
    }
    if memchr(b'\\', raw).is_none() {
        return (end, Field::Text(raw));
    }
    unescape(raw, scratch);
    (end, Field::Text(scratch))
}

/// Takes `\b \f \n \r \t \v \ooo \xhh \c` out.
fn unescape(raw: &[u8], scratch: &mut Vec<u8>) {
    scratch.clear();
    let mut index = 0;
    while index < raw.len() {
        let Some(letter) = raw.get(index + 1).filter(|_| raw[index] == b'\\') else {
            scratch.push(raw[index]);
            index += 1;
            continue;
        };
        index += 2;
        let digits = |from: usize, max: usize, radix: u32| {
            let tail = raw[from..].iter().take(max);
            tail.take_while(|byte| (**byte as char).is_digit(radix)).count()
        };
        let number = |from: usize, count: usize, radix: u32| {
            raw[from..from + count].iter().fold(0u32, |value, byte| {
                value * radix + (*byte as char).to_digit(radix).unwrap_or(0)
            }) as u8
        };
        match letter {
            b'b' => scratch.push(8),
            b'f' => scratch.push(12),
            b'n' => scratch.push(b'\n'),
            b'r' => scratch.push(b'\r'),
            b't' => scratch.push(b'\t'),
            b'v' => scratch.push(11),
            b'0'..=b'7' => {
                let count = digits(index - 1, 3, 8);
                scratch.push(number(index - 1, count, 8));
                index += count - 1;
            }
            b'x' if digits(index, 2, 16) > 0 => {
                let count = digits(index, 2, 16);
                scratch.push(number(index, count, 16));
                index += count;
            }
            other => scratch.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_fields(line: &[u8]) -> Vec<Option<String>> {
        let mut fields = Vec::new();
        let mut rest = line;
        loop {
            let mut scratch = Vec::new();
            let (end, field) = text_field(rest, b'\t', b"\\N", &mut scratch);
            fields.push(match field {
                Field::Null => None,
                Field::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            });
            if end >= rest.len() {
                return fields;
            }
            rest = &rest[end + 1..];
        }
    }

    #[test]
    fn text_escapes_are_taken_out_after_null_is_seen() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(text_fields(b"a\\tb\t\\N\t\\\\N"), [some("a\tb"), None, some("\\N")]);
        assert_eq!(text_fields(b"\\101\\x42\\q\t\\\tx"), [some("ABq"), some("\tx")]);
        assert_eq!(text_fields(b"end\\"), [some("end\\")]);
    }

    #[test]
    fn quotes_are_followed_across_lines() {
        let options = planner::plan::CopyOptions {
            is_csv: true,
            has_header: false,
            delimiter: b',',
            null: String::new(),
            quote: b'"',
            escape: b'"',
        };
        assert!(is_inside_quotes(b"1,\"a", &options));
        assert!(!is_inside_quotes(b"1,\"a\"\"b\"", &options));
        assert!(is_inside_quotes(b"1,\"a\"\"", &options));
        let backslash = planner::plan::CopyOptions { escape: b'\\', ..options };
        assert!(is_inside_quotes(b"1,\"a\\\"", &backslash));
    }
}
