//! `csv` (RFC 4180): fields by position, or by name where a header line names them. A message holds one record or several; an empty unquoted field is NULL, an empty quoted one is
//! the empty text.

use arrow::{array::ArrayRef, datatypes::Field};
use memchr::memchr;

use super::{Decoded, Poison, column::Column, utf8};
use crate::Result;

/// The decoder.
#[derive(Debug)]
pub struct Csv {
    columns: Vec<Column>,
    sources: Vec<Source>,
    header: Header,
    /// Scratch: the fields of one record.
    fields: Vec<CsvField>,
    /// Scratch: texts of fields that are not written as they are, one after the other.
    text: String,
    /// Scratch: the field of each column.
    positions: Vec<Option<usize>>,
}

/// Which lines name the fields of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// None: fields are found by their position.
    None,
    /// The first of every message.
    OfMessage,
    /// One of the file that the messages come from: [`Csv::read_header`].
    OfFile,
}

/// Where a column comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Position of the field in a record, when there is no header.
    pub position: usize,
    /// Name of the field in the header.
    pub name: String,
}

/// A field of the present record: where its text stands.
#[derive(Debug, Clone, Copy)]
struct CsvField {
    start: usize,
    end: usize,
    is_quoted: bool,
    /// Whether that is in the scratch: a quote within quotes was taken out. Else in the message.
    is_copied: bool,
}

impl Csv {
    /// A decoder of `fields`; `Err` is the first whose type it cannot decode.
    pub fn new(fields: &[(Field, Source)], header: Header) -> std::result::Result<Self, &Field> {
        let mut columns = Vec::with_capacity(fields.len());
        for (field, _) in fields {
            let is_binary = *field.data_type() == arrow::datatypes::DataType::Binary;
            columns.push(Column::new(field).filter(|_| !is_binary).ok_or(field)?);
        }
        let sources: Vec<Source> = fields.iter().map(|(_, source)| source.clone()).collect();
        let positions = sources.iter().map(|source| Some(source.position)).collect();
        let (fields, text) = (Vec::new(), String::new());
        Ok(Self { columns, sources, header, fields, text, positions })
    }

    /// Decodes one message into any number of rows, and says how many. None at all is one row of
    /// NULLs. A poison leaves no row.
    pub fn decode(&mut self, message: Option<&[u8]>) -> Decoded<usize> {
        let Some(message) = message else { return self.null_row() };
        let text = utf8(message)?;
        let mut at = 0;
        if self.header == Header::OfMessage {
            at = self.record(text, 0)?;
            self.match_header(text);
        }
        let mut rows = 0;
        while at < text.len() || (rows == 0 && self.header != Header::OfMessage) {
            let appended = self.record(text, at).and_then(|next| {
                at = next;
                self.append_row(text)
            });
            if let Err(poison) = appended {
                self.undo(rows);
                return Err(poison);
            }
            rows += 1;
        }
        Ok(rows)
    }

    /// Takes the names of the fields from a line; all messages behind it have them.
    pub fn read_header(&mut self, line: &[u8]) -> Decoded<()> {
        let text = utf8(line)?;
        self.record(text, 0)?;
        self.match_header(text);
        Ok(())
    }

    /// The texts of one record, whatever the columns are.
    pub fn texts(&mut self, record: &[u8]) -> Decoded<Vec<Option<String>>> {
        let record = utf8(record)?;
        self.record(record, 0)?;
        let text = |field: &CsvField| {
            let is_null = !field.is_quoted && field.end == field.start;
            (!is_null).then(|| field.text(record, &self.text).to_owned())
        };
        Ok(self.fields.iter().map(text).collect())
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

    fn null_row(&mut self) -> Decoded<usize> {
        for position in 0..self.columns.len() {
            if let Err(poison) = self.columns[position].append_null() {
                self.undo_row(position);
                return Err(poison.in_column(self.columns[position].name()));
            }
        }
        Ok(1)
    }

    /// Takes back the values of the first `count` columns.
    fn undo_row(&mut self, count: usize) {
        for column in &mut self.columns[..count] {
            column.truncate(column.len() - 1);
        }
    }

    fn match_header(&mut self, text: &str) {
        for (position, source) in self.positions.iter_mut().zip(&self.sources) {
            *position = {
                let is_it = |field: &CsvField| field.text(text, &self.text) == source.name;
                self.fields.iter().position(is_it)
            };
        }
    }

    fn append_row(&mut self, text: &str) -> Decoded<()> {
        for index in 0..self.columns.len() {
            let field = match (self.positions[index], self.header) {
                (Some(position), _) if position < self.fields.len() => Some(self.fields[position]),
                (_, Header::OfMessage | Header::OfFile) => None,
                (_, Header::None) => {
                    let (found, name) = (self.fields.len(), self.columns[index].name().to_owned());
                    self.undo_row(index);
                    let reason = format!("the record has only {found} fields");
                    return Err(Poison::new("22P04", reason).in_column(&name));
                }
            };
            let column = &mut self.columns[index];
            let appended = match field {
                Some(field) if field.is_quoted || field.end > field.start => {
                    column.append_text(field.text(text, &self.text))
                }
                _ => column.append_null(),
            };
            if let Err(poison) = appended {
                self.undo_row(index);
                return Err(poison.in_column(self.columns[index].name()));
            }
        }
        Ok(())
    }

    /// Finds the fields of the record that begins at `at`; where the next one does.
    fn record(&mut self, text: &str, mut at: usize) -> Decoded<usize> {
        self.fields.clear();
        self.text.clear();
        let bytes = text.as_bytes();
        loop {
            let start = at;
            if bytes.get(at) == Some(&b'"') {
                at = self.quoted(text, at + 1)?;
            } else {
                let is_plain = |byte: &u8| !matches!(byte, b',' | b'\n' | b'\r' | b'"');
                at += bytes[at..].iter().take_while(|byte| is_plain(byte)).count();
                self.fields.push(CsvField { start, end: at, is_quoted: false, is_copied: false });
            }
            match bytes.get(at) {
                Some(b',') => at += 1,
                None => return Ok(at),
                Some(b'\n') => return Ok(at + 1),
                Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => return Ok(at + 2),
                Some(_) => {
                    return Err(Poison::new(
                        "22P04",
                        "invalid CSV: stray quote or carriage return",
                    ));
                }
            }
        }
    }

    /// Finds a quoted field behind its opening quote; what follows its closing one.
    fn quoted(&mut self, text: &str, start: usize) -> Decoded<usize> {
        let find = |at: usize| {
            memchr(b'"', &text.as_bytes()[at..])
                .map(|quote| at + quote)
                .ok_or_else(|| Poison::new("22P04", "invalid CSV: missing closing quote"))
        };
        let is_doubled = |quote: usize| text.as_bytes().get(quote + 1) == Some(&b'"');
        let mut quote = find(start)?;
        if !is_doubled(quote) {
            self.fields.push(CsvField { start, end: quote, is_quoted: true, is_copied: false });
            return Ok(quote + 1);
        }
        let (copied, mut at) = (self.text.len(), start);
        while is_doubled(quote) {
            self.text.push_str(&text[at..=quote]);
            at = quote + 2;
            quote = find(at)?;
        }
        self.text.push_str(&text[at..quote]);
        let end = self.text.len();
        self.fields.push(CsvField { start: copied, end, is_quoted: true, is_copied: true });
        Ok(quote + 1)
    }
}

impl CsvField {
    /// Its text, in the message or in the scratch.
    #[inline]
    fn text<'a>(&self, message: &'a str, scratch: &'a str) -> &'a str {
        &(if self.is_copied { scratch } else { message })[self.start..self.end]
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::AsArray,
        datatypes::{DataType, Int64Type},
    };

    use super::*;

    fn csv(header: Header) -> Csv {
        let source = |position, name: &str| Source { position, name: name.to_owned() };
        let fields = [
            (Field::new("n", DataType::Int64, true), source(0, "n")),
            (Field::new("t", DataType::Utf8, true), source(2, "t")),
        ];
        Csv::new(&fields, header).unwrap()
    }

    fn rows(csv: &mut Csv) -> Vec<(Option<i64>, Option<String>)> {
        let columns = csv.finish().unwrap();
        let texts = columns[1].as_string::<i32>().iter();
        let numbers = columns[0].as_primitive::<Int64Type>().iter();
        numbers.zip(texts.map(|text| text.map(str::to_owned))).collect()
    }

    #[test]
    fn quotes_commas_and_line_ends_follow_rfc_4180() {
        let mut csv = csv(Header::None);
        let message = b"1,x,\"a,\"\"b\"\"\nc\"\r\n,,\"\"\n3,y,z,more";
        assert_eq!(csv.decode(Some(message)), Ok(3));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            rows(&mut csv),
            [(Some(1), text("a,\"b\"\nc")), (None, text("")), (Some(3), text("z"))]
        );
    }

    #[test]
    fn a_header_names_the_fields_of_its_message() {
        let mut csv = csv(Header::OfMessage);
        assert_eq!(csv.decode(Some(b"t,n\nx,7\n")), Ok(1));
        assert_eq!(csv.decode(Some(b"n\n8")), Ok(1));
        assert_eq!(csv.decode(Some(b"n,t\n")), Ok(0));
        assert_eq!(rows(&mut csv), [(Some(7), Some("x".to_owned())), (Some(8), None)]);
    }

    #[test]
    fn a_poison_record_takes_back_its_message() {
        let mut csv = csv(Header::None);
        assert_eq!(csv.decode(Some(b"1,,a")), Ok(1));
        for message in ["2,,b\nx,,c", "2,,b\n3", "2,,\"b", "2,,b\"c", "2,,\"b\"c", "2,,b\rc"] {
            assert!(csv.decode(Some(message.as_bytes())).is_err(), "{message}");
        }
        assert!(csv.decode(Some(b"\xff,,a")).is_err());
        assert_eq!(csv.decode(None), Ok(1));
        assert_eq!(rows(&mut csv), [(Some(1), Some("a".to_owned())), (None, None)]);
    }
}
