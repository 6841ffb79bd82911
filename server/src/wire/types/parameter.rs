//! What a client binds → [`Datum`], for every scalar type and arrays of them, in both formats.
//! A value that does not belong to its type fails here, before any plan sees it.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, ListArray},
    buffer::OffsetBuffer,
    datatypes::Field,
};
use bytes::Buf;
use planner::{Error, Result, SqlType, fit_text};
use storage::Datum;

use super::{
    NUMERIC_ANY_SCALE, NUMERIC_AVG_SCALE, NUMERIC_PRECISION_MAX, binary,
    encode::Format,
    input, interval,
    zone::{MICROS_PER_DAY, POSTGRES_EPOCH_DAYS, POSTGRES_EPOCH_MICROS, TimeZone},
};

/// Elements that one array parameter may have, so that a count in a header allocates no more than
/// the message itself.
const ARRAY_ELEMENTS_MAX: usize = 1 << 20;

/// The value of `bytes`, which stand in a Bind message in `format`.
pub fn decode(bytes: &[u8], sql_type: &SqlType, format: Format, zone: &TimeZone) -> Result<Datum> {
    match format {
        Format::Text => decode_text(utf8(bytes)?, sql_type, zone),
        Format::Binary => decode_binary(bytes, sql_type),
    }
}

/// `bytes` as text; 22021 if they are no UTF-8, or hold a zero.
pub fn utf8(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let start = error.valid_up_to();
        let length = error.error_len().unwrap_or(bytes.len() - start).clamp(1, 4);
        invalid_utf8(&bytes[start..start + length])
    })?;
    match bytes.contains(&0) {
        true => Err(invalid_utf8(&[0])),
        false => Ok(text),
    }
}

fn invalid_utf8(bytes: &[u8]) -> Error {
    let shown: Vec<String> = bytes.iter().map(|byte| format!("0x{byte:02x}")).collect();
    let shown = shown.join(" ");
    Error::new("22021", format!("invalid byte sequence for encoding \"UTF8\": {shown}"))
}

/// The value of a text in PostgreSQL's input syntax.
pub fn decode_text(text: &str, sql_type: &SqlType, zone: &TimeZone) -> Result<Datum> {
    let value = match sql_type {
        SqlType::Bool => Datum::Bool(input::bool(text)?),
        SqlType::Int2 => Datum::Int(input::int(text, "smallint", -32_768, 32_767)?),
        SqlType::Int4 => {
            Datum::Int(input::int(text, "integer", i64::from(i32::MIN), i64::from(i32::MAX))?)
        }
        SqlType::Int8 => Datum::Int(input::int(text, "bigint", i64::MIN, i64::MAX)?),
        SqlType::Oid => Datum::Int(input::int(text, "oid", 0, i64::from(u32::MAX))?),
        SqlType::Float4 => Datum::Float(f64::from(input::float4(text)?)),
        SqlType::Float8 => Datum::Float(input::float8(text)?),
        SqlType::Numeric(precision, scale) => {
            Datum::Decimal(input::numeric(text, *precision, *scale)?)
        }
        SqlType::NumericAny => {
            Datum::Decimal(input::numeric(text, NUMERIC_PRECISION_MAX, NUMERIC_ANY_SCALE)?)
        }
        SqlType::NumericAvg => {
            Datum::Decimal(input::numeric(text, NUMERIC_PRECISION_MAX, NUMERIC_AVG_SCALE)?)
        }
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
        SqlType::Bytea => Datum::Bytes(input::bytea(text)?),
        SqlType::Date => Datum::Int(i64::from(input::date(text)?)),
        SqlType::Time => Datum::Int(input::time(text)?),
        SqlType::Timestamp => Datum::Int(input::timestamp(text)?),
        SqlType::Timestamptz => Datum::Int(input::timestamptz(text, zone)?),
        SqlType::Interval => {
            let (months, days, nanos) = interval::interval(text)?;
            Datum::Interval(months, days, nanos)
        }
        SqlType::Uuid => Datum::Bytes(input::uuid(text)?.to_vec()),
        SqlType::Array(element) => array_from_text(text, element, zone)?,
        SqlType::Struct(_) => {
            return Err(Error::unsupported("input of a composite type is not implemented"));
        }
    };
    Ok(value)
}

fn decode_binary(bytes: &[u8], sql_type: &SqlType) -> Result<Datum> {
    let value = match sql_type {
        SqlType::Bool => Datum::Bool(fixed::<1>(bytes)?[0] != 0),
        SqlType::Int2 => Datum::Int(i64::from(i16::from_be_bytes(fixed(bytes)?))),
        SqlType::Int4 => Datum::Int(i64::from(i32::from_be_bytes(fixed(bytes)?))),
        SqlType::Int8 => Datum::Int(i64::from_be_bytes(fixed(bytes)?)),
        SqlType::Oid => Datum::Int(i64::from(u32::from_be_bytes(fixed(bytes)?))),
        SqlType::Float4 => Datum::Float(f64::from(f32::from_be_bytes(fixed(bytes)?))),
        SqlType::Float8 => Datum::Float(f64::from_be_bytes(fixed(bytes)?)),
        SqlType::Numeric(precision, scale) => numeric(bytes, *precision, *scale)?,
        SqlType::NumericAny => numeric(bytes, NUMERIC_PRECISION_MAX, NUMERIC_ANY_SCALE)?,
        SqlType::NumericAvg => numeric(bytes, NUMERIC_PRECISION_MAX, NUMERIC_AVG_SCALE)?,
        SqlType::Text | SqlType::Name | SqlType::Char | SqlType::Unknown => {
            Datum::Text(utf8(bytes)?.to_owned())
        }
        SqlType::Varchar(_) | SqlType::Bpchar(_) => {
            Datum::Text(fit_text(utf8(bytes)?, sql_type)?.to_owned())
        }
        SqlType::Json => json(bytes)?,
        SqlType::Jsonb => match bytes.split_first() {
            Some((1, text)) => json(text)?,
            _ => return Err(Error::new("22P03", "unsupported jsonb version number")),
        },
        SqlType::Bytea => Datum::Bytes(bytes.to_vec()),
        SqlType::Date => {
            let days = i64::from(i32::from_be_bytes(fixed(bytes)?)) + POSTGRES_EPOCH_DAYS;
            i32::try_from(days).map_err(|_| Error::new("22008", "date out of range"))?;
            Datum::Int(days)
        }
        SqlType::Time => {
            let micros = i64::from_be_bytes(fixed(bytes)?);
            if !(0..=MICROS_PER_DAY).contains(&micros) {
                return Err(Error::new("22008", "time out of range"));
            }
            Datum::Int(micros)
        }
        SqlType::Timestamp | SqlType::Timestamptz => {
            let micros = i64::from_be_bytes(fixed(bytes)?).checked_add(POSTGRES_EPOCH_MICROS);
            Datum::Int(micros.ok_or_else(|| Error::new("22008", "timestamp out of range"))?)
        }
        SqlType::Interval => {
            let words = fixed::<16>(bytes)?;
            let mut words = &words[..];
            let (micros, days, months) = (words.get_i64(), words.get_i32(), words.get_i32());
            let nanos = micros.checked_mul(1000);
            let nanos = nanos.ok_or_else(|| Error::new("22008", "interval out of range"))?;
            Datum::Interval(months, days, nanos)
        }
        SqlType::Uuid => Datum::Bytes(fixed::<16>(bytes)?.to_vec()),
        SqlType::Array(element) => array_from_binary(bytes, element)?,
        SqlType::Struct(_) => {
            return Err(Error::unsupported("input of a composite type is not implemented"));
        }
    };
    Ok(value)
}

fn wrong_length() -> Error {
    Error::new("22P03", "incorrect binary data format in bind parameter")
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| wrong_length())
}

fn json(bytes: &[u8]) -> Result<Datum> {
    let text = utf8(bytes)?;
    input::json(text)?;
    Ok(Datum::Text(text.to_owned()))
}

/// NUMERIC's base-10000 digits, by way of its decimal text: binary NUMERIC parameters are rare.
fn numeric(mut bytes: &[u8], precision: u8, scale: i8) -> Result<Datum> {
    if bytes.len() < 8 {
        return Err(wrong_length());
    }
    let (count, weight) = (usize::from(bytes.get_u16()), i32::from(bytes.get_i16()));
    let (sign, _display_scale) = (bytes.get_u16(), bytes.get_u16());
    if bytes.len() != count * 2 {
        return Err(wrong_length());
    }
    let mut text = String::with_capacity(count * 4 + 16);
    match sign {
        0 => {}
        binary::NUMERIC_NEGATIVE => text.push('-'),
        binary::NUMERIC_NAN => {
            return Err(Error::unsupported("numeric value \"NaN\" is not supported"));
        }
        _ => return Err(Error::new("22P03", "invalid sign in external \"numeric\" value")),
    }
    text.push('0');
    for _ in 0..count {
        let digit = bytes.get_u16();
        if digit > 9999 {
            return Err(Error::new("22P03", "invalid digit in external \"numeric\" value"));
        }
        text.push_str(&format!("{digit:04}"));
    }
    let exponent = (weight - count as i32 + 1) * 4;
    text.push_str(&format!("e{exponent}"));
    Ok(Datum::Decimal(input::numeric(&text, precision, scale)?))
}

/// `{1,NULL,"a b"}`; `{{1,2},{3,4}}` if the elements are arrays themselves.
fn array_from_text(text: &str, element: &SqlType, zone: &TimeZone) -> Result<Datum> {
    let malformed = || Error::new("22P02", format!("malformed array literal: \"{text}\""));
    let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let mut rest = inner.ok_or_else(malformed)?.trim_start();
    let mut values = Vec::new();
    while !rest.is_empty() {
        let after = if rest.starts_with('{') {
            if !matches!(element, SqlType::Array(_)) {
                return Err(too_many_dimensions());
            }
            let end = inner_array_end(rest).ok_or_else(malformed)?;
            values.push(decode_text(&rest[..end], element, zone)?);
            rest[end..].trim_start()
        } else {
            let (item, is_quoted, after) = array_item(rest).ok_or_else(malformed)?;
            let is_null = !is_quoted && item.eq_ignore_ascii_case("null");
            values.push(match is_null {
                true => Datum::Null,
                false => decode_text(&item, element, zone)?,
            });
            after
        };
        rest = match after.strip_prefix(',') {
            Some(more) if !more.trim_start().is_empty() => more.trim_start(),
            None if after.is_empty() => after,
            _ => return Err(malformed()),
        };
    }
    let count = values.len();
    nested(&values, element, &[count])
}

fn too_many_dimensions() -> Error {
    Error::unsupported("this array has more dimensions than the parameter's type")
}

/// Where the array ends that `text` begins with: behind the brace that closes it.
fn inner_array_end(text: &str) -> Option<usize> {
    let (mut depth, mut is_quoted, mut is_escaped) = (0usize, false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'{' if !is_quoted => depth += 1,
            b'}' if !is_quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The first item of `text`, whether it was quoted, and what follows it.
fn array_item(text: &str) -> Option<(String, bool, &str)> {
    let mut item = String::new();
    let mut characters = text.char_indices();
    let is_quoted = text.starts_with('"');
    if is_quoted {
        characters.next();
    }
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => item.push(characters.next()?.1),
            '"' if is_quoted => return Some((item, true, text[index + 1..].trim_start())),
            '"' | '{' | '}' if !is_quoted => return None,
            ',' if !is_quoted => {
                let item = item.trim_end();
                return (!item.is_empty()).then(|| (item.to_owned(), false, &text[index..]));
            }
            other => item.push(other),
        }
    }
    let item = item.trim_end();
    (!is_quoted && !item.is_empty()).then(|| (item.to_owned(), false, ""))
}

/// Dimensions first, then the innermost elements in a row.
fn array_from_binary(mut bytes: &[u8], element: &SqlType) -> Result<Datum> {
    if bytes.len() < 12 {
        return Err(wrong_length());
    }
    let (dimensions, _has_null, oid) = (bytes.get_i32(), bytes.get_i32(), bytes.get_u32());
    let (leaf, depth) = innermost(element);
    if oid != leaf.oid() && !(is_text(oid) && is_text(leaf.oid())) {
        return Err(Error::new("42804", "wrong element type"));
    }
    let mut lengths = Vec::with_capacity(depth);
    match usize::try_from(dimensions) {
        Ok(0) => return nested(&[], element, &[0]),
        Ok(given) if given == depth => {}
        Ok(_) => return Err(too_many_dimensions()),
        Err(_) => return Err(wrong_length()),
    }
    let mut count = 1usize;
    for _ in 0..depth {
        if bytes.len() < 8 {
            return Err(wrong_length());
        }
        let (length, _lower_bound) = (bytes.get_i32(), bytes.get_i32());
        let length = usize::try_from(length).map_err(|_| wrong_length())?;
        count = count.saturating_mul(length);
        lengths.push(length);
    }
    if count > ARRAY_ELEMENTS_MAX || count * 4 > bytes.len() {
        return Err(wrong_length());
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        if bytes.len() < 4 {
            return Err(wrong_length());
        }
        let length = bytes.get_i32();
        if length < 0 {
            values.push(Datum::Null);
            continue;
        }
        let value = bytes.get(..length as usize).ok_or_else(wrong_length)?;
        values.push(decode_binary(value, leaf)?);
        bytes.advance(length as usize);
    }
    if !bytes.is_empty() {
        return Err(wrong_length());
    }
    nested(&values, leaf, &lengths)
}

/// The type inside all arrays, and how many there are, the one around `element` counted.
fn innermost(element: &SqlType) -> (&SqlType, usize) {
    match element {
        SqlType::Array(inner) => {
            let (leaf, depth) = innermost(inner);
            (leaf, depth + 1)
        }
        leaf => (leaf, 1),
    }
}

/// text, varchar, name, unknown: the same bytes.
fn is_text(oid: u32) -> bool {
    matches!(oid, 25 | 1043 | 19 | 705 | 1042)
}

/// A list of one row as a value: `values` cut by `lengths`, the outermost first.
fn nested(values: &[Datum], element: &SqlType, lengths: &[usize]) -> Result<Datum> {
    let mut items: ArrayRef = storage::datum::array_of(values, &element.arrow())?;
    for (dimension, length) in lengths.iter().enumerate().rev() {
        let rows = lengths[..dimension].iter().product();
        let field = Arc::new(Field::new("item", items.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(*length, rows));
        items = Arc::new(ListArray::new(field, offsets, items, None));
    }
    Ok(storage::datum::datum_at(&items, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], sql_type: SqlType) -> Result<Datum> {
        decode(bytes, &sql_type, Format::Binary, &TimeZone::Utc)
    }

    #[test]
    fn binary_values_of_wrong_length_are_refused() {
        assert_eq!(read(&[0, 0, 0, 7], SqlType::Int4).unwrap(), Datum::Int(7));
        for sql_type in [SqlType::Int4, SqlType::Uuid, SqlType::NumericAny, SqlType::Interval] {
            assert_eq!(read(&[1, 2, 3], sql_type).unwrap_err().code, "22P03");
        }
    }

    #[test]
    fn binary_numeric_reads_what_is_written() {
        for (unscaled, scale) in [(12_345, 2), (-5, 2), (0, 0), (100_000_000, 0), (1, 8)] {
            let mut out = bytes::BytesMut::new();
            binary::numeric(unscaled, scale, 0, &mut out);
            let value = read(&out, SqlType::Numeric(38, scale)).unwrap();
            assert_eq!(value, Datum::Decimal(unscaled));
        }
    }

    #[test]
    fn invalid_utf8_is_22021() {
        let error = decode(b"a\xff", &SqlType::Text, Format::Text, &TimeZone::Utc).unwrap_err();
        assert_eq!(error.code, "22021");
        assert_eq!(error.message, "invalid byte sequence for encoding \"UTF8\": 0xff");
        assert_eq!(read(b"a\0b", SqlType::Text).unwrap_err().code, "22021");
    }

    #[test]
    fn declared_lengths_cut_blanks_only() {
        let varchar2 = SqlType::Varchar(Some(2));
        assert_eq!(read("äb  ".as_bytes(), varchar2.clone()).unwrap(), Datum::Text("äb".into()));
        assert_eq!(read(b"a   ", SqlType::Bpchar(None)).unwrap(), Datum::Text("a".into()));
        assert_eq!(read(b"abc", varchar2).unwrap_err().code, "22001");
    }

    #[test]
    fn arrays_of_arrays_read_alike_in_both_formats() {
        let inner = SqlType::Array(Box::new(SqlType::Int4));
        let outer = SqlType::Array(Box::new(inner.clone()));
        let text = b"{{1,2},{3,NULL}}";
        let from_text = decode(text, &outer, Format::Text, &TimeZone::Utc).unwrap();
        let mut bytes: Vec<u8> =
            [2, 1, 23, 2, 1, 2, 1].iter().flat_map(|word: &i32| word.to_be_bytes()).collect();
        for element in [Some(1i32), Some(2), Some(3), None] {
            bytes.extend(element.map_or(-1i32, |_| 4).to_be_bytes());
            bytes.extend(element.into_iter().flat_map(i32::to_be_bytes));
        }
        assert_eq!(read(&bytes, outer.clone()).unwrap(), from_text);
        assert_eq!(read(&bytes, inner.clone()).unwrap_err().code, "0A000");
        let flat = decode(text, &inner, Format::Text, &TimeZone::Utc);
        assert_eq!(flat.unwrap_err().code, "0A000");
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut], outer.clone()).unwrap_err().code, "22P03", "{cut}");
        }
        let open = decode(b"{{1,2}", &outer, Format::Text, &TimeZone::Utc);
        assert_eq!(open.unwrap_err().code, "22P02");
    }

    #[test]
    fn array_items_split_at_commas_outside_quotes() {
        assert_eq!(array_item("a b ,c"), Some(("a b".into(), false, ",c")));
        assert_eq!(array_item("\"a,\\\"b\" ,c"), Some(("a,\"b".into(), true, ",c")));
        assert_eq!(array_item("\"open"), None);
    }
}
