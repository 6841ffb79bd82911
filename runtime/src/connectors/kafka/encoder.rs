//! `RowEncoder`: the columns of a mapping to the keys and values of messages, the mirror image of
//! [`super::format::RowDecoder`]: a column stands in the key or in the value by the same rules, and
//! what is written reads back equal. One row is one message.
//!
//! A batch becomes one [`Messages`]: all its bytes in one buffer that is used again, so that a row
//! costs no allocation.

use arrow::{
    array::RecordBatch,
    datatypes::{Field, SchemaRef},
};

use super::{
    format::{Place, place},
    settings::Settings,
};
use crate::{
    Result,
    decode::csv::Header,
    encode::format::{Encoder, Texts},
};

/// Encodes rows of all columns of a mapping.
#[derive(Debug, Clone)]
pub struct RowEncoder {
    fields: Vec<Field>,
    key: Option<Encoder>,
    value: Encoder,
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
            Some(format) if !keys.is_empty() => {
                Some(Encoder::new(format, &keys, &fields, Header::None)?)
            }
            _ => None,
        };
        let value = Encoder::new(settings.value_format, &values, &fields, settings.header)?;
        Ok(Self { fields, key, value })
    }

    /// Appends the message of every row.
    pub fn encode(&self, rows: &RecordBatch, out: &mut Messages) -> Result<()> {
        let texts = Texts::new(&self.fields, rows)?;
        for row in 0..rows.num_rows() {
            self.encode_row(&texts, row, out)?;
        }
        Ok(())
    }

    fn encode_row(&self, texts: &Texts<'_>, row: usize, out: &mut Messages) -> Result<()> {
        let bytes = &mut out.bytes;
        let start = bytes.len();
        let has_key = match &self.key {
            None => false,
            Some(encoder) => encoder.write(texts, row, bytes)?,
        };
        let key_end = bytes.len();
        let has_value = self.value.write(texts, row, bytes)?;
        let end = bytes.len();
        out.spans.push(Span { start, key_end, end, has_key, has_value });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
