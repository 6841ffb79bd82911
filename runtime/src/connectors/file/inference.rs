//! Columns of a mapping that declares none, from the first records of its files. A sample says what
//! was there, not what will be: a later value that does not fit is an error of its row.
//!
//! | format | names | types |
//! | --- | --- | --- |
//! | `csv` | header, or `column1 …` | BIGINT, DOUBLE PRECISION, BOOLEAN where all fit, else TEXT |
//! | `json-flat` | fields in the order they are met | the same; JSON for objects, arrays and mixtures |
//! | `json` | `this` | JSON |
//! | `parquet` | those of the first file | [`parquet::columns`] |

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{
    FileAccess,
    folder::Folder,
    parquet,
    records::Records,
    settings::{FileFormat, Settings},
    split::{self, Split},
};
use crate::{
    Error, Result,
    decode::{
        Decoded,
        column::TYPE_KEY,
        csv::{Csv, Header},
        format::Format,
        json::{Scanner, Span, unescape},
        utf8,
    },
};

/// Records of the sample.
const RECORDS_MAX: usize = 1000;
/// Files it is taken from.
const FILES_MAX: usize = 8;
/// Columns of a table (54011 in PostgreSQL).
const COLUMNS_MAX: usize = 1600;

/// What values of a column look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing was seen but NULL.
    Unknown,
    Bool,
    Integer,
    Double,
    Text,
    /// Of a JSON document: object, array, or several kinds.
    Json,
}

/// Columns found so far.
#[derive(Debug, Default)]
struct Found(Vec<(String, Kind)>);

/// The columns of a mapping; 42601 if there is nothing to find them in.
pub fn columns(access: &FileAccess, settings: &Settings) -> Result<SchemaRef> {
    let mut found = Found::default();
    let format = match settings.format {
        FileFormat::Records(Format::Whole(_)) => {
            found.0.push(("this".to_owned(), Kind::Json));
            return Ok(found.schema());
        }
        FileFormat::Records(format) => format,
        FileFormat::Parquet(_) => {
            let fields = parquet::columns::inferred(access, settings)?;
            return Ok(Arc::new(Schema::new(fields.ok_or_else(|| nothing(settings))?)));
        }
    };
    let folder = Folder::open(access, &settings.path)?;
    let mut files = folder.files(&settings.glob)?;
    files.truncate(FILES_MAX);
    let mut left = RECORDS_MAX;
    for split in split::splits(&files, false) {
        if left == 0 {
            break;
        }
        sample(&folder, (format, settings.header), split, &mut found, &mut left)?;
    }
    if found.0.is_empty() {
        return Err(nothing(settings));
    }
    if found.0.len() > COLUMNS_MAX {
        let message = format!("files have more than {COLUMNS_MAX} columns");
        return Err(Error::Invalid { code: "54011", message });
    }
    Ok(found.schema())
}

#[cold]
fn nothing(settings: &Settings) -> Error {
    Error::Invalid {
        code: "42601",
        message: format!(
            "a column list is required: no file in folder \"{}\" that matches \"{}\" has a record \
             to find columns in",
            settings.path,
            settings.glob.text()
        ),
    }
}

/// Looks at records of one file.
fn sample(
    folder: &Folder,
    (format, header): (Format, Header),
    split: Split,
    found: &mut Found,
    left: &mut usize,
) -> Result<()> {
    let is_csv = format == Format::Csv;
    let mut records = Records::open(folder, split, is_csv)?;
    let shown = records.shown().to_owned();
    let mut csv = Csv::new(&[], Header::None).map_err(|_| Error::Internal("no csv".to_owned()))?;
    let mut names = None;
    while *left > 0 {
        let Some((offset, record)) = records.next_record()? else { break };
        let is_header = names.is_none() && header == Header::OfFile;
        let seen = match is_csv {
            true if is_header => csv.texts(record).map(|texts| {
                let texts: Vec<String> = texts.into_iter().map(Option::unwrap_or_default).collect();
                texts.iter().for_each(|name| found.see(name, Kind::Unknown));
                names = Some(texts);
            }),
            true => csv.texts(record).map(|texts| {
                for (n, text) in texts.iter().enumerate() {
                    let name = match &names {
                        Some(names) => names.get(n).cloned(),
                        None => Some(format!("column{}", n + 1)),
                    };
                    let kind = text.as_deref().map_or(Kind::Unknown, kind_of_text);
                    name.iter().for_each(|name| found.see(name, kind));
                }
            }),
            false if record.is_empty() => Ok(()),
            false => see_object(record, found),
        };
        seen.map_err(|poison| Error::User {
            code: poison.code,
            message: format!(
                "cannot decode the record at byte {offset} of file \"{shown}\": {}",
                poison.reason
            ),
        })?;
        *left -= usize::from(!is_header);
    }
    Ok(())
}

/// Looks at the fields of a JSON object.
fn see_object(record: &[u8], found: &mut Found) -> Decoded<()> {
    let text = utf8(record)?;
    let mut scanner = Scanner::new(text);
    scanner.skip_blanks();
    scanner.expect(b'{', "an object")?;
    scanner.skip_blanks();
    if scanner.peek() == b'}' {
        return Ok(());
    }
    loop {
        scanner.expect(b'"', "a field name")?;
        let mut name = String::new();
        match scanner.string()? {
            Span::Escaped(start, end) => unescape(&text[start..end], &mut name)?,
            Span::Text(start, end) => name.push_str(&text[start..end]),
            _ => {}
        }
        scanner.skip_blanks();
        scanner.expect(b':', "a colon")?;
        scanner.skip_blanks();
        let kind = match scanner.value()? {
            Span::Absent | Span::Null => Kind::Unknown,
            Span::Bool(_) => Kind::Bool,
            Span::Number(start, end) => match text[start..end].parse::<i64>() {
                Ok(_) => Kind::Integer,
                Err(_) => Kind::Double,
            },
            Span::Nested(..) => Kind::Json,
            Span::Text(..) | Span::Escaped(..) => Kind::Text,
        };
        let before = found.kind_of(&name).unwrap_or(Kind::Unknown);
        // A mixture of what JSON tells apart is JSON.
        let is_mixture = before.with(kind) == Kind::Text
            && ![before, kind].contains(&Kind::Unknown)
            && before != kind;
        found.see(&name, if is_mixture { Kind::Json } else { kind });
        scanner.skip_blanks();
        if scanner.peek() != b',' {
            return scanner.expect(b'}', "a comma or the end of the object");
        }
        scanner.at += 1;
        scanner.skip_blanks();
    }
}

/// What a CSV field looks like. Digits behind a leading zero are a text: a number would lose it.
fn kind_of_text(text: &str) -> Kind {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let has_leading_zero =
        digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit()) && !has_leading_zero;
    match text {
        "true" | "false" => Kind::Bool,
        _ if !is_number => Kind::Text,
        _ if text.parse::<i64>().is_ok() => Kind::Integer,
        // A whole number that is too long would lose digits as a DOUBLE.
        _ if digits.bytes().all(|byte| byte.is_ascii_digit()) => Kind::Text,
        _ if text.parse::<f64>().is_ok() => Kind::Double,
        _ => Kind::Text,
    }
}

impl Kind {
    /// What holds values of both.
    fn with(self, other: Kind) -> Kind {
        match (self, other) {
            _ if self == other => self,
            (Kind::Unknown, kind) | (kind, Kind::Unknown) => kind,
            (Kind::Integer, Kind::Double) | (Kind::Double, Kind::Integer) => Kind::Double,
            (Kind::Json, _) | (_, Kind::Json) => Kind::Json,
            _ => Kind::Text,
        }
    }
}

impl Found {
    fn kind_of(&self, name: &str) -> Option<Kind> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind)
    }

    fn see(&mut self, name: &str, kind: Kind) {
        let is_full = self.0.len() > COLUMNS_MAX;
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = known.with(kind),
            // One too many is told of as such.
            None if !is_full => self.0.push((name.to_owned(), kind)),
            None => {}
        }
    }

    fn schema(&self) -> SchemaRef {
        let field = |(name, kind): &(String, Kind)| {
            let data_type = match kind {
                Kind::Bool => DataType::Boolean,
                Kind::Integer => DataType::Int64,
                Kind::Double => DataType::Float64,
                Kind::Unknown | Kind::Text | Kind::Json => DataType::Utf8,
            };
            let field = Field::new(name, data_type, true);
            match kind {
                Kind::Json => {
                    field.with_metadata([(TYPE_KEY.to_owned(), "json".to_owned())].into())
                }
                _ => field,
            }
        };
        Arc::new(Schema::new(self.0.iter().map(field).collect::<Vec<_>>()))
    }
}
