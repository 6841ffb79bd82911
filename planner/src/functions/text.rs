//! Text functions that DataFusion lacks or spells otherwise.
//! Patterns are PostgreSQL's.

use std::sync::Arc;

use arrow::{
    array::{AsArray, StringArray},
    compute::cast,
    datatypes::DataType,
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};

use super::{
    error::user_error,
    function::{Function, answer, array_argument},
};

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![Function::new("like_escape", |_| Ok(DataType::Utf8), like_escape).build()]
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
