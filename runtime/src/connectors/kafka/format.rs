//! `RowDecoder`: keys and values of messages to the columns of a mapping. A column is found in the
//! key (`__key`, `__key.field`) or in the value (`this`, `this.field`, or just its name).

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use super::settings::Settings;
use crate::{
    Error, Result,
    decode::{
        Decoded,
        column::TYPE_KEY,
        csv::{Header, Source},
        format::{Decoder, Format},
        whole::WholeFormat,
    },
};

const KEY: &str = "__key";
const VALUE: &str = "this";

/// Decodes messages into the projected columns.
#[derive(Debug)]
pub struct RowDecoder {
    schema: SchemaRef,
    key: Option<Decoder>,
    value: Decoder,
    /// For each column of the schema: whether it is the key's, and its position there.
    layout: Vec<(bool, usize)>,
    rows: usize,
}

/// Where a column is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) is_key: bool,
    /// The field, or `None` for the whole key or value.
    pub(super) field: Option<String>,
}

/// The columns of a mapping that declares none: those of formats with one value.
pub fn infer(settings: &Settings) -> Result<SchemaRef> {
    let column = |name: &str, format: Format| {
        let Format::Whole(format) = format else {
            return Err(Error::Invalid {
                code: "42601",
                message: "a column list is required with 'json-flat' and 'csv'".to_owned(),
            });
        };
        let field = |data_type| Field::new(name, data_type, true);
        Ok(match format {
            WholeFormat::Raw => field(DataType::Binary),
            WholeFormat::Varchar => field(DataType::Utf8),
            WholeFormat::Json => field(DataType::Utf8)
                .with_metadata([(TYPE_KEY.to_owned(), "json".to_owned())].into()),
            WholeFormat::Integer => field(DataType::Int32),
            WholeFormat::Bigint => field(DataType::Int64),
        })
    };
    let mut fields = Vec::new();
    if let Some(format) = settings.key_format {
        fields.push(column(KEY, format)?);
    }
    fields.push(column(VALUE, settings.value_format)?);
    Ok(Arc::new(Schema::new(fields)))
}

impl RowDecoder {
    /// A decoder of the columns `projection` of a mapping.
    pub fn new(
        settings: &Settings,
        schema: &SchemaRef,
        external: &[Option<String>],
        projection: &[usize],
    ) -> Result<Self> {
        // A record's fields are counted over all columns of its side, projected or not.
        let mut record_len = [0, 0];
        let mut places = Vec::with_capacity(schema.fields().len());
        for (position, field) in schema.fields().iter().enumerate() {
            let external = external.get(position).and_then(Option::as_deref);
            let place = place(field, external, settings)?;
            let ordinal = record_len[usize::from(place.is_key)];
            record_len[usize::from(place.is_key)] += 1;
            places.push((place, ordinal));
        }
        let mut sides: [Vec<(Field, Source)>; 2] = [Vec::new(), Vec::new()];
        let mut layout = Vec::with_capacity(projection.len());
        for position in projection {
            let (place, ordinal) = &places[*position];
            let side = &mut sides[usize::from(place.is_key)];
            layout.push((place.is_key, side.len()));
            let name = place.field.clone().unwrap_or_default();
            let field = schema.field(*position).clone();
            side.push((field, Source { position: *ordinal, name }));
        }
        let [values, keys] = sides;
        let key = match settings.key_format {
            Some(format) if !keys.is_empty() => Some(Decoder::new(format, &keys, Header::None)?),
            _ => None,
        };
        Ok(Self {
            schema: Arc::new(schema.project(projection)?),
            key,
            value: Decoder::new(settings.value_format, &values, settings.header)?,
            layout,
            rows: 0,
        })
    }

    /// Schema of the decoded rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows decoded since the last [`RowDecoder::finish`].
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Decodes a message; a poison leaves no row.
    #[inline]
    pub fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Decoded<()> {
        let rows = self.value.decode(value)?;
        if let Some(part) = &mut self.key {
            for done in 0..rows {
                if let Err(mut poison) = part.decode(key) {
                    part.undo(done);
                    self.value.undo(rows);
                    poison.reason = format!("key: {}", poison.reason);
                    return Err(poison);
                }
            }
        }
        self.rows += rows;
        Ok(())
    }

    /// The rows since the last call.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let values = self.value.finish()?;
        let keys = match &mut self.key {
            None => Vec::new(),
            Some(part) => part.finish()?,
        };
        let columns = self.layout.iter().map(|(is_key, position)| {
            Arc::clone(if *is_key { &keys[*position] } else { &values[*position] })
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let (schema, columns) = (Arc::clone(&self.schema), columns.collect());
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}

/// Where a column is found, by its external name or else its own.
pub(super) fn place(field: &Field, external: Option<&str>, settings: &Settings) -> Result<Place> {
    let name = external.unwrap_or(field.name());
    let (is_key, inner) = match name.split_once('.') {
        _ if name == KEY => (true, None),
        _ if name == VALUE => (false, None),
        Some((KEY, inner)) => (true, Some(inner.to_owned())),
        Some((VALUE, inner)) => (false, Some(inner.to_owned())),
        _ => (false, Some(name.to_owned())),
    };
    let column = field.name();
    let refuse = |code, message| Err(Error::Invalid { code, message });
    let format = match (is_key, settings.key_format) {
        (false, _) => settings.value_format,
        (true, Some(format)) => format,
        (true, None) => {
            let message = format!("column \"{column}\" is of the key: set option \"keyFormat\"");
            return refuse("22023", message);
        }
    };
    let is_whole_format = matches!(format, Format::Whole(_));
    let whole = if is_key { KEY } else { VALUE };
    match (is_whole_format, &inner) {
        (true, Some(_)) => refuse(
            "42703",
            format!(
                "column \"{column}\": this format has one value, with the external name {whole}"
            ),
        ),
        (false, None) => refuse(
            "42703",
            format!("column \"{column}\": this format has fields; {whole} as a whole is not one"),
        ),
        _ => Ok(Place { is_key, field: inner }),
    }
}
