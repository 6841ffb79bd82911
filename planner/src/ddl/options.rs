//! `OPTIONS ('key' = 'value', …)`: string literals only, no key twice. What the keys mean is for
//! the statement to say.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{Expr, Value};

use crate::{Error, Result};

/// The options as a map.
pub fn read(written: &[(Expr, Expr)]) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for (key, value) in written {
        let key = literal(key).ok_or_else(|| {
            Error::new("42601", format!("option name {key} must be a string literal"))
        })?;
        let value = literal(value).ok_or_else(|| {
            Error::new("42601", format!("value of option \"{key}\" must be a string literal"))
        })?;
        if options.insert(key.clone(), value).is_some() {
            return Err(Error::new("42601", format!("option \"{key}\" specified more than once")));
        }
    }
    Ok(options)
}

fn literal(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}
