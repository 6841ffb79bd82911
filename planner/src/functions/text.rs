//! Text functions that DataFusion lacks or spells otherwise.
//! Patterns are PostgreSQL's.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, StringArray, StringBuilder},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};

use super::{
    arithmetic::no_function,
    error::user_error,
    function::{Coercion, Function, TypeRule, answer, array_argument},
};
use crate::catalog::pg::objects::quote_ident;

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let text: TypeRule = |_| Ok(DataType::Utf8);
    let pad: Coercion = |types| match types.len() {
        2 => Ok(vec![DataType::Utf8, DataType::Int64]),
        3 => Ok(vec![DataType::Utf8, DataType::Int64, DataType::Utf8]),
        _ => Err(user_error("42883", "no such function of so many arguments")),
    };
    vec![
        Function::new("like_escape", text, like_escape).build(),
        Function::new("split_part", text, split_part).coerced(split_part_types).build(),
        Function::new("quote_nullable", text, quote_nullable).coerced(only_texts).build(),
        Function::new("format", text, format_text).coerced(only_texts).build(),
        Function::new("repeat", text, |args| {
            check_lengths(args, |text, times| text.len() as i64 * times)?;
            datafusion::functions::string::repeat().invoke_with_args(args.clone())
        })
        .coerced(pad)
        .build(),
        Function::new("lpad", text, |args| {
            check_lengths(args, |_, length| length)?;
            datafusion::functions::unicode::lpad().invoke_with_args(args.clone())
        })
        .coerced(pad)
        .build(),
        Function::new("rpad", text, |args| {
            check_lengths(args, |_, length| length)?;
            datafusion::functions::unicode::rpad().invoke_with_args(args.clone())
        })
        .coerced(pad)
        .build(),
    ]
}

/// Bytes that one call may make of one batch: the arrays of a batch are not counted against a
/// query's memory before they exist.
const MADE_BYTES_MAX: i64 = 256 << 20;

/// 54000 if a call would make more than [`MADE_BYTES_MAX`]. Arguments: a text and a number.
fn check_lengths(args: &ScalarFunctionArgs, length: fn(&str, i64) -> i64) -> Result<()> {
    let texts = cast(&array_argument(args, 0)?, &DataType::Utf8)?;
    let numbers = cast(&array_argument(args, 1)?, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let mut made = 0i64;
    for (text, number) in texts.as_string::<i32>().iter().zip(numbers) {
        if let (Some(text), Some(number)) = (text, number) {
            // No text is longer than `i32::MAX`, nor is a number that matters here.
            made = made.saturating_add(length(text, number.clamp(0, i64::from(i32::MAX))));
        }
    }
    match made > MADE_BYTES_MAX {
        true => Err(user_error("54000", "requested length too large")),
        false => Ok(()),
    }
}

/// `LIKE p ESCAPE e`: the pattern with `e` replaced by the backslash that LIKE knows.
fn like_escape(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let patterns = cast(&array_argument(args, 0)?, &DataType::Utf8)?;
    let escapes = cast(&array_argument(args, 1)?, &DataType::Utf8)?;
    let mut rewritten = Vec::with_capacity(patterns.len());
    for (pattern, escape) in patterns.as_string::<i32>().iter().zip(escapes.as_string::<i32>()) {
        rewritten.push(match (pattern, escape) {
            (Some(pattern), Some(escape)) => Some(with_backslash(pattern, escape)?),
            _ => None,
        });
    }
    answer(args, Arc::new(StringArray::from(rewritten)))
}

fn with_backslash(pattern: &str, escape: &str) -> Result<String> {
    let mut escapes = escape.chars();
    let escape = escapes.next();
    if escapes.next().is_some() {
        return Err(user_error("22025", "invalid escape string"));
    }
    let mut rewritten = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if Some(character) == escape {
            let Some(next) = characters.next() else {
                return Err(user_error("22025", "LIKE pattern must not end with escape character"));
            };
            rewritten.push('\\');
            rewritten.push(next);
        } else if character == '\\' {
            rewritten.push_str("\\\\");
        } else {
            rewritten.push(character);
        }
    }
    Ok(rewritten)
}

fn split_part_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let is_text = |data_type: &DataType| {
        crate::rules::operators::is_text(data_type) || *data_type == DataType::Null
    };
    match types {
        [text, delimiter, number]
            if is_text(text)
                && is_text(delimiter)
                && (number.is_integer() || *number == DataType::Null) =>
        {
            Ok(vec![DataType::Utf8, DataType::Utf8, DataType::Int64])
        }
        other => Err(no_function("split_part", other)),
    }
}

/// Any values, as texts: the analyzer has written them as PostgreSQL does.
fn only_texts(types: &[DataType]) -> Result<Vec<DataType>> {
    if types.is_empty() {
        return Err(no_function("format", types));
    }
    Ok(vec![DataType::Utf8; types.len()])
}

/// `split_part(text, delimiter, n)`: the n-th piece, from the end if n is negative; without the
/// delimiter the text is its only piece. A delimiter of one byte is found without a searcher.
fn split_part(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = cast(&array_argument(args, 0)?, &DataType::Utf8)?;
    let delimiters = cast(&array_argument(args, 1)?, &DataType::Utf8)?;
    let numbers = cast(&array_argument(args, 2)?, &DataType::Int64)?;
    let (texts, delimiters) = (texts.as_string::<i32>(), delimiters.as_string::<i32>());
    let numbers = numbers.as_primitive::<Int64Type>();
    let mut pieces = StringBuilder::with_capacity(texts.len(), texts.value_data().len() / 4);
    for row in 0..texts.len() {
        if texts.is_null(row) || delimiters.is_null(row) || numbers.is_null(row) {
            pieces.append_null();
            continue;
        }
        pieces.append_value(piece(texts.value(row), delimiters.value(row), numbers.value(row))?);
    }
    answer(args, Arc::new(pieces.finish()))
}

fn piece<'a>(text: &'a str, delimiter: &str, number: i64) -> Result<&'a str> {
    let index = usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
    let Some(index) = index.checked_sub(1) else {
        return Err(user_error("22023", "field position must not be zero"));
    };
    if delimiter.is_empty() {
        return Ok(if index == 0 { text } else { "" });
    }
    if number < 0 {
        return Ok(text.rsplit(delimiter).nth(index).unwrap_or_default());
    }
    let [byte] = delimiter.as_bytes() else {
        return Ok(text.split(delimiter).nth(index).unwrap_or_default());
    };
    let (mut begin, mut left) = (0, index);
    for (at, found) in text.bytes().enumerate() {
        if found != *byte {
            continue;
        }
        if left == 0 {
            return Ok(&text[begin..at]);
        }
        left -= 1;
        begin = at + 1;
    }
    Ok(if left == 0 { &text[begin..] } else { "" })
}

/// `t` or `f`: how `concat` and `format` print a BOOLEAN.
pub fn bool_letter() -> Arc<ScalarUDF> {
    Function::new(
        "bool_letter",
        |_| Ok(DataType::Utf8),
        |args| {
            let array = array_argument(args, 0)?;
            let letters = array.as_boolean().iter();
            let letters = letters.map(|value| value.map(|value| if value { "t" } else { "f" }));
            answer(args, Arc::new(letters.collect::<StringArray>()))
        },
    )
    .build()
}

/// `quote_literal(text)`, and `NULL` for NULL.
fn quote_nullable(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = cast(&array_argument(args, 0)?, &DataType::Utf8)?;
    let quoted =
        texts.as_string::<i32>().iter().map(|text| text.map_or("NULL".to_owned(), literal));
    answer(args, Arc::new(quoted.map(Some).collect::<StringArray>()))
}

/// A text as a SQL literal.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!(" E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// `format('%s %I %L %1$s %-5s', …)`.
fn format_text(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let columns = (0..args.args.len())
        .map(|index| Ok(cast(&array_argument(args, index)?, &DataType::Utf8)?))
        .collect::<Result<Vec<_>>>()?;
    let columns: Vec<&StringArray> =
        columns.iter().map(|column| column.as_string::<i32>()).collect();
    let mut texts = StringBuilder::new();
    for row in 0..columns[0].len() {
        if columns[0].is_null(row) {
            texts.append_null();
            continue;
        }
        let value = |index: usize| {
            let column = columns.get(index)?;
            Some(column.is_valid(row).then(|| column.value(row)))
        };
        texts.append_value(formatted(columns[0].value(row), value)?);
    }
    answer(args, Arc::new(texts.finish()))
}

/// Fills a template; `value(n)` is the n-th argument: `None` if there is none, `Some(None)` if NULL.
fn formatted<'a>(
    template: &str,
    value: impl Fn(usize) -> Option<Option<&'a str>>,
) -> Result<String> {
    let mut text = String::new();
    let mut next = 1;
    let mut rest = template;
    while let Some((plain, specifier)) = rest.split_once('%') {
        text.push_str(plain);
        if let Some(after) = specifier.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut specifier = specifier;
        let length = digits(specifier);
        if length > 0 && specifier[length..].starts_with('$') {
            next = specifier[..length].parse().unwrap_or(0);
            specifier = &specifier[length + 1..];
            if next == 0 {
                let message = "format specifies argument 0, but arguments are numbered from 1";
                return Err(user_error("22023", message));
            }
        }
        let is_left = specifier.starts_with('-');
        specifier = specifier.trim_start_matches('-');
        let length = digits(specifier);
        let width: usize = specifier[..length].parse().unwrap_or(0);
        specifier = &specifier[length..];
        let Some(kind) = specifier.chars().next() else {
            return Err(user_error("22023", "unterminated format() type specifier"));
        };
        let Some(found) = value(next) else {
            return Err(user_error("22023", "too few arguments for format()"));
        };
        next += 1;
        let shown = match (kind, found) {
            ('s', found) => found.unwrap_or_default().to_owned(),
            ('I', Some(name)) => quote_ident(name),
            ('I', None) => {
                let message = "null values cannot be formatted as an SQL identifier";
                return Err(user_error("22004", message));
            }
            ('L', found) => found.map_or("NULL".to_owned(), literal),
            (other, _) => {
                let message = format!("unrecognized format() type specifier \"{other}\"");
                return Err(user_error("22023", message));
            }
        };
        match is_left {
            true => text.push_str(&format!("{shown:<width$}")),
            false => text.push_str(&format!("{shown:>width$}")),
        }
        rest = &specifier[kind.len_utf8()..];
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{error_of, value_of};

    #[test]
    fn pieces_are_counted_from_either_end() {
        for (call, text) in [
            ("split_part('a,b,c', ',', 2)", "b"),
            ("split_part('a,b,c', ',', -1)", "c"),
            ("split_part('a,b,c', ',', 3)", "c"),
            ("split_part('a,b', ',', 5)", ""),
            ("split_part('a--b', '--', 2)", "b"),
            ("split_part('ab', '', 1)", "ab"),
        ] {
            assert_eq!(value_of(&format!("SELECT {call}")), text, "{call}");
        }
        assert_eq!(
            error_of("SELECT split_part('a', ',', 0)"),
            "22023 field position must not be zero"
        );
    }

    #[test]
    fn templates_are_filled() {
        assert_eq!(
            value_of("SELECT format('%s is %I and %L', 'a', 'B c', 'd''e')"),
            "a is \"B c\" and 'd''e'"
        );
        assert_eq!(value_of("SELECT format('%2$s-%1$s|%-4s|%2$3s%%', 'x', 7)"), "7-x|7   |  7%");
        assert_eq!(value_of("SELECT concat('a', NULL, 1, true)"), "a1t");
        assert!(error_of("SELECT format('%s')").starts_with("22023 too few"));
    }

    #[test]
    fn like_takes_any_escape_character() {
        assert_eq!(value_of("SELECT 'a_b' LIKE 'a/_b' ESCAPE '/'"), "true");
        assert_eq!(value_of("SELECT 'axb' LIKE 'a/_b' ESCAPE '/'"), "false");
        assert_eq!(value_of("SELECT 'a_b' LIKE 'a\\_b'"), "true");
    }
}
