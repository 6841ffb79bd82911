//! `Format`: how a message, a line or a file spells rows, and [`Decoder`], which reads one of them.
//! Where the bytes come from is the connector's; [`crate::encode::format`] is the way back.

use arrow::{array::ArrayRef, datatypes::Field};

use super::{
    Decoded,
    csv::{Csv, Header, Source},
    json_flat::JsonFlat,
    whole::{Whole, WholeFormat},
};
use crate::{Error, Result};

/// A format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Top-level fields of a JSON object.
    JsonFlat,
    /// RFC 4180.
    Csv,
    /// One value.
    Whole(WholeFormat),
}

/// A decoder of one format.
#[derive(Debug)]
pub enum Decoder {
    /// Of [`Format::JsonFlat`].
    JsonFlat(JsonFlat),
    /// Of [`Format::Csv`].
    Csv(Csv),
    /// Of [`Format::Whole`].
    Whole(Whole),
}

impl Decoder {
    /// A decoder into `fields`, each found as its source says; 0A000 for a type that the format
    /// cannot spell, 42701 for several columns in a format of one value.
    pub fn new(format: Format, fields: &[(Field, Source)], header: Header) -> Result<Self> {
        let made = match format {
            Format::Csv => Csv::new(fields, header).map(Decoder::Csv),
            Format::JsonFlat => {
                let named: Vec<(Field, String)> = fields
                    .iter()
                    .map(|(field, source)| (field.clone(), source.name.clone()))
                    .collect();
                JsonFlat::new(&named).map(Decoder::JsonFlat).map_err(|failed| {
                    let is_it = |field: &&(Field, Source)| field.0.name() == failed.name();
                    &fields.iter().find(is_it).unwrap_or(&fields[0]).0
                })
            }
            Format::Whole(_) if fields.len() > 1 => {
                return Err(Error::Invalid {
                    code: "42701",
                    message: "this format has one value, so one column".to_owned(),
                });
            }
            Format::Whole(format) => {
                Whole::new(format, fields.first().map(|(field, _)| field)).map(Decoder::Whole)
            }
        };
        made.map_err(|field| Error::Invalid {
            code: "0A000",
            message: format!(
                "column \"{}\" cannot be read with this format: type {} is not supported",
                field.name(),
                field.data_type()
            ),
        })
    }

    /// Decodes into rows, and says how many. A poison leaves none.
    #[inline]
    pub fn decode(&mut self, message: Option<&[u8]>) -> Decoded<usize> {
        match self {
            Decoder::JsonFlat(json) => json.decode(message).map(|()| 1),
            Decoder::Csv(csv) => csv.decode(message),
            Decoder::Whole(whole) => whole.decode(message).map(|()| 1),
        }
    }

    /// Takes back the last `rows` rows.
    pub fn undo(&mut self, rows: usize) {
        match self {
            Decoder::JsonFlat(json) => json.undo(rows),
            Decoder::Csv(csv) => csv.undo(rows),
            Decoder::Whole(whole) => whole.undo(rows),
        }
    }

    /// The columns of all rows since the last call.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        match self {
            Decoder::JsonFlat(json) => json.finish(),
            Decoder::Csv(csv) => csv.finish(),
            Decoder::Whole(whole) => whole.finish(),
        }
    }
}
