//! Values outside of arrays: datums ↔ DataFusion's scalars, and text in PostgreSQL's input syntax
//! → datum. A datum does not know its type; whoever holds one holds its [`SqlType`] too.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, StringArray},
    compute::{CastOptions, cast_with_options},
    datatypes::DataType,
};
use datafusion::scalar::ScalarValue;
use storage::{
    Datum,
    datum::{array_of, datum_at},
};

use crate::{
    Error, Result, SqlType,
    functions::cast::parse_texts,
    text::{TimeZone, input},
};

/// A datum as a scalar of its type.
pub fn scalar_of(datum: &Datum, sql_type: &SqlType) -> Result<ScalarValue> {
    let data_type = sql_type.arrow();
    Ok(match (datum, &data_type) {
        (Datum::Int(value), DataType::Int64) => ScalarValue::Int64(Some(*value)),
        (Datum::Text(text), DataType::Utf8) => ScalarValue::Utf8(Some(text.clone())),
        (Datum::Null, data_type) => ScalarValue::try_from(data_type)?,
        (datum, data_type) => {
            let array = array_of(std::slice::from_ref(datum), data_type)?;
            ScalarValue::try_from_array(&array, 0)?
        }
    })
}

/// Casts strictly: what does not fit is an error, never NULL.
pub fn cast_array(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, data_type, &options)?)
}

/// The value that `text` is in PostgreSQL's input syntax for the type; times without a zone are UTC.
pub fn datum_of_text(text: &str, sql_type: &SqlType) -> Result<Datum> {
    let integer = |min: i64, max: i64| input::int(text, &sql_type.name(), min, max).map(Datum::Int);
    Ok(match sql_type {
        SqlType::Text | SqlType::Name | SqlType::Char | SqlType::Unknown => {
            Datum::Text(text.to_owned())
        }
        SqlType::Varchar(_) | SqlType::Bpchar(_) => {
            Datum::Text(fit_text(text, sql_type)?.to_owned())
        }
        SqlType::Json | SqlType::Jsonb => {
            input::json(text)?;
            Datum::Text(text.to_owned())
        }
        SqlType::Bool => Datum::Bool(input::bool(text)?),
        SqlType::Int2 => integer(i16::MIN.into(), i16::MAX.into())?,
        SqlType::Int4 => integer(i32::MIN.into(), i32::MAX.into())?,
        SqlType::Int8 => integer(i64::MIN, i64::MAX)?,
        SqlType::Float4 => Datum::Float(input::float4(text)?.into()),
        SqlType::Float8 => Datum::Float(input::float8(text)?),
        SqlType::Bytea => Datum::Bytes(input::bytea(text)?),
        SqlType::Uuid => Datum::Bytes(input::uuid(text)?.to_vec()),
        _ => {
            let texts = StringArray::from(vec![text]);
            let array = parse_texts(&texts, &sql_type.field("", true), &TimeZone::Utc)?;
            datum_at(&array, 0)?
        }
    })
}

/// A text as VARCHAR(n) and CHAR(n) keep it when it is assigned: blanks above the limit are cut, and
/// of CHAR(n) all trailing ones, which mean nothing; other characters above it are 22001.
pub fn fit_text<'a>(text: &'a str, sql_type: &SqlType) -> Result<&'a str> {
    let (text, limit) = match sql_type {
        SqlType::Varchar(limit) => (text, *limit),
        SqlType::Bpchar(limit) => (text.trim_end_matches(' '), *limit),
        _ => return Ok(text),
    };
    let end = above(text, limit);
    match text[end..].bytes().all(|byte| byte == b' ') {
        true => Ok(&text[..end]),
        false => {
            let message = format!("value too long for type {}", sql_type.name());
            Err(Error::new("22001", message))
        }
    }
}

/// A text as an explicit cast makes it: what is above the limit is cut, whatever it is.
pub fn cut_text<'a>(text: &'a str, sql_type: &SqlType) -> &'a str {
    match sql_type {
        SqlType::Varchar(limit) => &text[..above(text, *limit)],
        SqlType::Bpchar(limit) => text[..above(text, *limit)].trim_end_matches(' '),
        _ => text,
    }
}

/// Blanks that CHAR(n) shows behind a text; none for other types.
pub fn padding(text: &str, sql_type: &SqlType) -> usize {
    match sql_type {
        SqlType::Bpchar(Some(limit)) => (*limit as usize).saturating_sub(text.chars().count()),
        _ => 0,
    }
}

/// Where the characters above a limit begin.
fn above(text: &str, limit: Option<u32>) -> usize {
    match limit {
        // A text of at most n bytes has at most n characters.
        Some(limit) if text.len() > limit as usize => {
            text.char_indices().nth(limit as usize).map_or(text.len(), |(end, _)| end)
        }
        _ => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignment_forgives_blanks_and_nothing_else() {
        let (char3, varchar3) = (SqlType::Bpchar(Some(3)), SqlType::Varchar(Some(3)));
        assert_eq!(fit_text("ab   ", &varchar3).expect("fits"), "ab ");
        assert_eq!(fit_text("ab   ", &char3).expect("fits"), "ab");
        assert_eq!(
            fit_text("äöü", &char3).expect("fits"),
            "äöü",
            "characters are counted, not bytes"
        );
        for sql_type in [&char3, &varchar3] {
            assert_eq!(fit_text("ab cd", sql_type).expect_err("too long").code, "22001");
        }
        assert_eq!(fit_text("ab   ", &SqlType::Text).expect("fits"), "ab   ");
    }

    #[test]
    fn casts_cut_and_char_is_padded_on_its_way_out() {
        let char3 = SqlType::Bpchar(Some(3));
        assert_eq!(cut_text("a  d", &char3), "a");
        assert_eq!(cut_text("äöüß", &SqlType::Varchar(Some(3))), "äöü");
        assert_eq!((padding("ä", &char3), padding("abc", &char3)), (2, 0));
        assert_eq!(padding("ä", &SqlType::Bpchar(None)), 0);
    }
}
