//! Text functions that DataFusion lacks or spells otherwise.
//! Patterns are PostgreSQL's.

use std::sync::Arc;

use arrow::{
    array::{AsArray, StringArray},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};

use super::{
    error::user_error,
    function::{Coercion, Function, TypeRule, answer, array_argument},
};

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

#[cfg(test)]
mod tests {
    use crate::functions::testing::value_of;

    #[test]
    fn like_takes_any_escape_character() {
        assert_eq!(value_of("SELECT 'a_b' LIKE 'a/_b' ESCAPE '/'"), "true");
        assert_eq!(value_of("SELECT 'axb' LIKE 'a/_b' ESCAPE '/'"), "false");
        assert_eq!(value_of("SELECT 'a_b' LIKE 'a\\_b'"), "true");
    }
}
