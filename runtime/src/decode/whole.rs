//! Formats in which the whole message is one value: `raw` (BYTEA), `varchar` (TEXT), `json` (JSON
//! text, checked), and the big-endian integers of Kafka's own serializers.

use arrow::{array::ArrayRef, datatypes::Field};

use super::{Decoded, Poison, column::Column, json::Scanner, utf8};
use crate::Result;

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WholeFormat {
    /// Bytes.
    Raw,
    /// UTF-8 text.
    Varchar,
    /// JSON text.
    Json,
    /// Four bytes, most significant first.
    Integer,
    /// Eight bytes, most significant first.
    Bigint,
}

/// The decoder; without a column it only checks.
#[derive(Debug)]
pub struct Whole {
    format: WholeFormat,
    column: Option<Column>,
}

impl Whole {
    /// A decoder into one column, or none. `Err` is the field if its type does not fit.
    pub fn new(format: WholeFormat, field: Option<&Field>) -> std::result::Result<Self, &Field> {
        let column = match field {
            None => None,
            Some(field) => Some(Column::new(field).ok_or(field)?),
        };
        Ok(Self { format, column })
    }

    /// Decodes one message into one row; none at all is NULL.
    pub fn decode(&mut self, message: Option<&[u8]>) -> Decoded<()> {
        if self.format == WholeFormat::Json
            && let Some(message) = message
        {
            let mut scanner = Scanner::new(utf8(message)?);
            scanner.skip_blanks();
            scanner.value()?;
            scanner.end()?;
        }
        let Some(column) = &mut self.column else { return Ok(()) };
        let Some(message) = message else { return column.append_null() };
        let wrong_len = |expected: usize| {
            let len = message.len();
            Poison::new("22P02", format!("expected {expected} bytes, found {len}"))
        };
        match self.format {
            WholeFormat::Raw => column.append_bytes(message),
            WholeFormat::Varchar | WholeFormat::Json => column.append_text(utf8(message)?),
            WholeFormat::Integer => {
                let bytes = message.try_into().map_err(|_| wrong_len(4))?;
                column.append_integer(i64::from(i32::from_be_bytes(bytes)))
            }
            WholeFormat::Bigint => {
                let bytes = message.try_into().map_err(|_| wrong_len(8))?;
                column.append_integer(i64::from_be_bytes(bytes))
            }
        }
    }

    /// Takes back the last `rows` rows.
    pub fn undo(&mut self, rows: usize) {
        if let Some(column) = &mut self.column {
            column.truncate(column.len() - rows);
        }
    }

    /// The column of all rows since the last call, if there is one.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.column.iter_mut().map(Column::finish).collect()
    }
}
