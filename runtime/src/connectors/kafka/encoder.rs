//! `RowEncoder`: the columns of a mapping to the keys and values of messages, the mirror image of
//! [`super::format::RowDecoder`]: a column stands in the key or in the value by the same rules, and
//! what is written reads back equal. One row is one message.
//!
//! A batch becomes one [`Messages`]: all its bytes in one buffer that is used again, so that a row
//! costs no allocation.

use arrow::{
    array::{RecordBatch, new_empty_array},
    datatypes::{DataType, Field, SchemaRef},
};

use super::{
    format::{Place, place},
    settings::{Format, Settings},
};
use crate::{
    Error, Result,
    decode::whole::WholeFormat,
    encode::{
        column::{ColumnText, check_json},
        json,
    },
};

/// Encodes rows of all columns of a mapping.
#[derive(Debug, Clone)]
pub struct RowEncoder {
    fields: Vec<Field>,
    key: Option<Side>,
    value: Side,
}

/// What a key or a value is made of.
#[derive(Debug, Clone)]
struct Side {
    format: Format,
    /// CSV: the header line that each message begins with; empty without one.
    header: Vec<u8>,
    columns: Vec<SideColumn>,
}

#[derive(Debug, Clone)]
struct SideColumn {
    /// Position in the row.
    position: usize,
    /// What stands before the value: `{"name":`, `,"name":`; `,` in CSV.
    prefix: Vec<u8>,
}

/// Keys and values of messages, one after the other in one buffer.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// Where a message stands: its key up to `key_end`, its value behind that.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    key_end: usize,
    end: usize,
    has_key: bool,
    has_value: bool,
}

impl Messages {
    /// Number of messages.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Key and value of a message.
    pub fn get(&self, index: usize) -> (Option<&[u8]>, Option<&[u8]>) {
        let span = &self.spans[index];
        let key = span.has_key.then(|| &self.bytes[span.start..span.key_end]);
        let value = span.has_value.then(|| &self.bytes[span.key_end..span.end]);
        (key, value)
    }

    /// Forgets all of them; the room is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }
}

impl RowEncoder {
    /// An encoder of rows of a mapping; 0A000 for a column whose type a format cannot write.
    pub fn new(
        settings: &Settings,
        schema: &SchemaRef,
        external: &[Option<String>],
    ) -> Result<Self> {
        let fields: Vec<Field> = schema.fields().iter().map(|field| (**field).clone()).collect();
        let mut sides: [Vec<(usize, String)>; 2] = [Vec::new(), Vec::new()];
        for (position, field) in fields.iter().enumerate() {
            let external = external.get(position).and_then(Option::as_deref);
            let Place { is_key, field } = place(field, external, settings)?;
            sides[usize::from(is_key)].push((position, field.unwrap_or_default()));
        }
        let [values, keys] = sides;
        let key = match settings.key_format {
            Some(format) if !keys.is_empty() => Some(Side::new(format, &keys, &fields, false)?),
            _ => None,
        };
        let value = Side::new(settings.value_format, &values, &fields, settings.has_header)?;
        Ok(Self { fields, key, value })
    }

    /// Appends the message of every row.
    pub fn encode(&self, rows: &RecordBatch, out: &mut Messages) -> Result<()> {
        let columns =
            self.fields.iter().zip(rows.columns()).map(|(field, array)| {
                ColumnText::new(field, array).ok_or_else(|| unwritable(field))
            });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        for row in 0..rows.num_rows() {
            self.encode_row(&columns, row, out)?;
        }
        Ok(())
    }

    fn encode_row(&self, columns: &[ColumnText<'_>], row: usize, out: &mut Messages) -> Result<()> {
        let bytes = &mut out.bytes;
        let start = bytes.len();
        let has_key = match &self.key {
            None => false,
            Some(side) => self.write(side, columns, row, bytes)?,
        };
        let key_end = bytes.len();
        let has_value = self.write(&self.value, columns, row, bytes)?;
        let end = bytes.len();
        out.spans.push(Span { start, key_end, end, has_key, has_value });
        Ok(())
    }

    /// Appends one side of a row; whether there is one at all.
    fn write(
        &self,
        side: &Side,
        columns: &[ColumnText<'_>],
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let in_column = |error: Error, position: usize| match error {
            Error::User { code, message } => {
                let message = format!("column \"{}\": {message}", self.fields[position].name());
                Error::User { code, message }
            }
            other => other,
        };
        out.extend_from_slice(&side.header);
        for column in &side.columns {
            out.extend_from_slice(&column.prefix);
            let values = &columns[column.position];
            let written = match side.format {
                Format::JsonFlat => values.write_json(row, out),
                Format::Csv => write_csv(values, row, out),
                Format::Whole(_) if values.is_null(row) => return Ok(false),
                Format::Whole(format) => write_whole(format, values, row, out),
            };
            written.map_err(|error| in_column(error, column.position))?;
        }
        match side.format {
            Format::JsonFlat if side.columns.is_empty() => out.extend_from_slice(b"{}"),
            Format::JsonFlat => out.push(b'}'),
            // Behind a header a record needs an end, or one empty field would be no record.
            Format::Csv if !side.header.is_empty() => out.push(b'\n'),
            Format::Csv => {}
            Format::Whole(_) => return Ok(!side.columns.is_empty()),
        }
        Ok(true)
    }
}

impl Side {
    fn new(
        format: Format,
        columns: &[(usize, String)],
        fields: &[Field],
        has_header: bool,
    ) -> Result<Self> {
        for (position, _) in columns {
            if !is_writable(format, &fields[*position]) {
                return Err(unwritable(&fields[*position]));
            }
        }
        let mut header = Vec::new();
        if has_header {
            for (n, (_, name)) in columns.iter().enumerate() {
                if n > 0 {
                    header.push(b',');
                }
                quote_csv(name.as_bytes(), &mut header);
            }
            header.push(b'\n');
        }
        let prefix = |n: usize, name: &str| {
            let mut prefix = Vec::new();
            match format {
                Format::JsonFlat => {
                    prefix.push(if n == 0 { b'{' } else { b',' });
                    json::string(name, &mut prefix);
                    prefix.push(b':');
                }
                Format::Csv if n > 0 => prefix.push(b','),
                Format::Csv | Format::Whole(_) => {}
            }
            prefix
        };
        let columns = columns
            .iter()
            .enumerate()
            .map(|(n, (position, name))| SideColumn {
                position: *position,
                prefix: prefix(n, name),
            })
            .collect();
        Ok(Self { format, header, columns })
    }
}

/// Whether a format can write values of that type so that they are read back.
fn is_writable(format: Format, field: &Field) -> bool {
    let data_type = field.data_type();
    if ColumnText::new(field, &new_empty_array(data_type)).is_none() {
        return false;
    }
    match format {
        Format::JsonFlat | Format::Csv => *data_type != DataType::Binary,
        Format::Whole(WholeFormat::Raw) => true,
        Format::Whole(WholeFormat::Varchar) => *data_type != DataType::Binary,
        Format::Whole(WholeFormat::Json) => {
            data_type.is_numeric() || matches!(data_type, DataType::Utf8 | DataType::Boolean)
        }
        Format::Whole(WholeFormat::Integer | WholeFormat::Bigint) => data_type.is_integer(),
    }
}

#[cold]
fn unwritable(field: &Field) -> Error {
    Error::Invalid {
        code: "0A000",
        message: format!(
            "column \"{}\" cannot be written with this format: type {} is not supported",
            field.name(),
            field.data_type()
        ),
    }
}

/// A field of CSV: nothing for NULL, quotes around the empty text and where they are needed.
fn write_csv(values: &ColumnText<'_>, row: usize, out: &mut Vec<u8>) -> Result<()> {
    if values.is_null(row) {
        return Ok(());
    }
    let start = out.len();
    values.write_text(row, out)?;
    let text = &out[start..];
    let is_plain = !text.is_empty() && !text.iter().any(|byte| needs_quotes(*byte));
    if values.is_text() && !is_plain {
        // Rare, so the text is taken out again.
        let text = out.split_off(start);
        quote_csv(&text, out);
    }
    Ok(())
}

fn needs_quotes(byte: u8) -> bool {
    matches!(byte, b',' | b'"' | b'\n' | b'\r')
}

fn quote_csv(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// The one value of a side that is not NULL.
fn write_whole(
    format: WholeFormat,
    values: &ColumnText<'_>,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    match format {
        WholeFormat::Raw | WholeFormat::Varchar => values.write_text(row, out),
        WholeFormat::Json => {
            let start = out.len();
            values.write_text(row, out)?;
            match std::str::from_utf8(&out[start..]) {
                Ok(text) => check_json(text),
                Err(_) => Err(Error::Internal("text that is not UTF-8".to_owned())),
            }
        }
        WholeFormat::Integer => {
            let number = values.whole_number(row).unwrap_or_default();
            let number = i32::try_from(number).map_err(|_| Error::User {
                code: "22003",
                message: format!("value \"{number}\" is out of range for type integer"),
            })?;
            out.extend_from_slice(&number.to_be_bytes());
            Ok(())
        }
        WholeFormat::Bigint => {
            let number = values.whole_number(row).unwrap_or_default();
            out.extend_from_slice(&number.to_be_bytes());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
