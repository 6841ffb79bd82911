//! [`Encoder`]: rows to the bytes of a message, a line or a record, in one [`Format`], column by
//! column into one buffer. What it writes, [`crate::decode::format::Decoder`] reads back equal.

use arrow::{
    array::{RecordBatch, new_empty_array},
    datatypes::{DataType, Field},
};

use super::{
    column::{ColumnText, check_json},
    json,
};
use crate::{
    Error, Result,
    decode::{csv::Header, format::Format, whole::WholeFormat},
};

/// Writes some columns of rows in one format.
#[derive(Debug, Clone)]
pub struct Encoder {
    format: Format,
    /// Fields of the rows; columns count in them.
    fields: Vec<Field>,
    /// CSV: the line that names the fields, with its end; empty without one.
    header: Vec<u8>,
    /// Whether that line begins each message.
    is_header_repeated: bool,
    columns: Vec<EncodedColumn>,
}

#[derive(Debug, Clone)]
struct EncodedColumn {
    /// Position in the row.
    position: usize,
    /// What stands before the value: `{"name":`, `,"name":`; `,` in CSV.
    prefix: Vec<u8>,
}

/// The columns of a batch, ready to be written row by row.
pub struct Texts<'a>(Vec<ColumnText<'a>>);

impl<'a> Texts<'a> {
    /// The columns of a batch of rows with these fields.
    pub fn new(fields: &[Field], rows: &'a RecordBatch) -> Result<Self> {
        let columns = fields
            .iter()
            .zip(rows.columns())
            .map(|(field, array)| ColumnText::new(field, array).ok_or_else(|| unwritable(field)));
        Ok(Self(columns.collect::<Result<_>>()?))
    }
}

impl Encoder {
    /// Writes `columns`, each a position in `fields` and the name it is written under; 0A000 for a
    /// type that the format cannot write.
    pub fn new(
        format: Format,
        columns: &[(usize, String)],
        fields: &[Field],
        header: Header,
    ) -> Result<Self> {
        for (position, _) in columns {
            if !is_writable(format, &fields[*position]) {
                return Err(unwritable(&fields[*position]));
            }
        }
        let mut header_line = Vec::new();
        if header != Header::None {
            for (n, (_, name)) in columns.iter().enumerate() {
                if n > 0 {
                    header_line.push(b',');
                }
                quote_csv(name.as_bytes(), &mut header_line);
            }
            header_line.push(b'\n');
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
            .map(|(n, (position, name))| EncodedColumn {
                position: *position,
                prefix: prefix(n, name),
            })
            .collect();
        let is_header_repeated = header == Header::OfMessage;
        let fields = fields.to_vec();
        Ok(Self { format, fields, header: header_line, is_header_repeated, columns })
    }

    /// The line that names the fields, with its end; empty where there is none.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Appends one row without an end of line; `false` for a message that is not there at all, of a
    /// format of one value that is NULL.
    pub fn write(&self, texts: &Texts<'_>, row: usize, out: &mut Vec<u8>) -> Result<bool> {
        if self.is_header_repeated {
            out.extend_from_slice(&self.header);
        }
        for column in &self.columns {
            out.extend_from_slice(&column.prefix);
            let values = &texts.0[column.position];
            let written = match self.format {
                Format::JsonFlat => values.write_json(row, out),
                Format::Csv => write_csv(values, row, out),
                Format::Whole(_) if values.is_null(row) => return Ok(false),
                Format::Whole(format) => write_whole(format, values, row, out),
            };
            written.map_err(|error| self.in_column(error, column.position))?;
        }
        match self.format {
            Format::JsonFlat if self.columns.is_empty() => out.extend_from_slice(b"{}"),
            Format::JsonFlat => out.push(b'}'),
            // Behind a header a record needs an end, or one empty field would be no record.
            Format::Csv if self.is_header_repeated => out.push(b'\n'),
            Format::Csv => {}
            Format::Whole(_) => return Ok(!self.columns.is_empty()),
        }
        Ok(true)
    }

    #[cold]
    fn in_column(&self, error: Error, position: usize) -> Error {
        match error {
            Error::User { code, message } => {
                let message = format!("column \"{}\": {message}", self.fields[position].name());
                Error::User { code, message }
            }
            other => other,
        }
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
