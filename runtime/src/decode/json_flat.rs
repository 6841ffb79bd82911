//! `json-flat`: the top-level fields of a JSON object become columns. A missing field is NULL,
//! fields that nobody asks for are skipped without decoding, of a repeated one the last counts.
//!
//! Messages of a topic have the same fields in the same order, nearly always. So the decoder
//! remembers the *shape* of the last message, the names it met in order and the column of each,
//! and only compares:
//! ```text
//!   shape    id → 0    user → skip    price → 1    ts → 2
//!   message  {"id":7,  "user":{…},    "price":3.5, "ts":"2026-…"}
//! ```
//! A field that is not where the shape says is looked up by length and bytes, and the shape
//! corrected. All of the grammar is checked before the first value is converted, and a value that
//! cannot be converted takes back those of its row.

use arrow::{array::ArrayRef, datatypes::Field};

use super::{
    Decoded, Poison,
    column::Column,
    json::{Scanner, Span, unescape},
    utf8,
};
use crate::Result;

/// Fields of a message that the shape remembers; those behind are looked up each time.
const SHAPE_LEN_MAX: usize = 256;
/// Longer names are looked up each time.
const NAME_LEN_MAX: usize = 128;

/// The decoder.
#[derive(Debug)]
pub struct JsonFlat {
    columns: Vec<Column>,
    /// Field name of each column.
    names: Vec<String>,
    shape: Vec<Expected>,
    /// Where the value of each column is in the present message.
    spans: Vec<Span>,
    /// Scratch for unescaped texts.
    text: String,
}

/// A field the shape expects.
#[derive(Debug)]
struct Expected {
    /// Its bytes between the quotes, as written.
    name: Vec<u8>,
    column: Option<usize>,
}

impl JsonFlat {
    /// A decoder of `fields`, each read from the JSON field of the name beside it; `Err` is the
    /// first field whose type it cannot decode.
    pub fn new(fields: &[(Field, String)]) -> std::result::Result<Self, &Field> {
        let mut columns = Vec::with_capacity(fields.len());
        for (field, _) in fields {
            let is_binary = *field.data_type() == arrow::datatypes::DataType::Binary;
            columns.push(Column::new(field).filter(|_| !is_binary).ok_or(field)?);
        }
        let names = fields.iter().map(|(_, name)| name.clone()).collect();
        let spans = vec![Span::Absent; columns.len()];
        Ok(Self { columns, names, shape: Vec::new(), spans, text: String::new() })
    }

    /// Decodes one message into one row. No message at all (a tombstone) is a row of NULLs.
    pub fn decode(&mut self, message: Option<&[u8]>) -> Decoded<()> {
        self.spans.fill(Span::Absent);
        let text = utf8(message.unwrap_or(b"{}"))?;
        self.find(text)?;
        for position in 0..self.columns.len() {
            if let Err(poison) = self.convert(text, position) {
                for column in &mut self.columns[..position] {
                    column.truncate(column.len() - 1);
                }
                return Err(poison.in_column(self.columns[position].name()));
            }
        }
        Ok(())
    }

    /// Takes back the last `rows` rows.
    pub fn undo(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(column.len() - rows);
        }
    }

    /// The columns of all rows since the last call.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.columns.iter_mut().map(Column::finish).collect()
    }

    /// Finds the spans of all columns, checking the whole text.
    fn find(&mut self, text: &str) -> Decoded<()> {
        let mut scanner = Scanner::new(text);
        scanner.skip_blanks();
        scanner.expect(b'{', "an object")?;
        scanner.skip_blanks();
        if scanner.peek() == b'}' {
            scanner.at += 1;
            return scanner.end();
        }
        for ordinal in 0.. {
            scanner.expect(b'"', "a field name")?;
            let column = match self.shape.get(ordinal) {
                Some(field) if scanner.eat_name(&field.name) => field.column,
                _ => self.look_up(&mut scanner, text, ordinal)?,
            };
            scanner.skip_blanks();
            scanner.expect(b':', "a colon")?;
            scanner.skip_blanks();
            let span = scanner.value()?;
            if let Some(column) = column {
                self.spans[column] = span;
            }
            scanner.skip_blanks();
            match scanner.peek() {
                b',' => scanner.at += 1,
                b'}' => break,
                _ => return Err(scanner.unexpected("a comma or the end of the object")),
            }
            scanner.skip_blanks();
        }
        scanner.at += 1;
        scanner.end()
    }

    /// The column of the field name that begins here, which the shape did not expect.
    #[cold]
    fn look_up(
        &mut self,
        scanner: &mut Scanner,
        text: &str,
        ordinal: usize,
    ) -> Decoded<Option<usize>> {
        let (raw, column) = match scanner.string()? {
            Span::Escaped(start, end) => {
                let mut name = String::new();
                unescape(&text[start..end], &mut name)?;
                (&text[start..end], self.names.iter().position(|own| *own == name))
            }
            Span::Text(start, end) => {
                let name = &text[start..end];
                (name, self.names.iter().position(|own| own == name))
            }
            other => return Err(Poison::new("XX000", format!("a name cannot be {other:?}"))),
        };
        if ordinal < SHAPE_LEN_MAX && raw.len() <= NAME_LEN_MAX {
            let field = Expected { name: raw.as_bytes().to_vec(), column };
            match self.shape.get_mut(ordinal) {
                Some(expected) => *expected = field,
                None => self.shape.push(field),
            }
        }
        Ok(column)
    }

    /// Appends the value of one column.
    #[inline]
    fn convert(&mut self, text: &str, position: usize) -> Decoded<()> {
        let column = &mut self.columns[position];
        match self.spans[position] {
            Span::Absent | Span::Null => column.append_null(),
            Span::Bool(value) => column.append_bool(value),
            Span::Number(start, end) => column.append_number(&text[start..end]),
            Span::Nested(start, end) => column.append_nested(&text[start..end]),
            Span::Text(start, end) | Span::Escaped(start, end) if column.is_json() => {
                // JSON text of a string is the string with its quotes.
                column.append_text(&text[start - 1..end + 1])
            }
            Span::Text(start, end) => column.append_text(&text[start..end]),
            Span::Escaped(start, end) => {
                self.text.clear();
                unescape(&text[start..end], &mut self.text)?;
                column.append_text(&self.text)
            }
        }
    }
}

#[cfg(test)]
mod tests;
