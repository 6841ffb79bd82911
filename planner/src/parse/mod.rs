//! Text → statements: PostgreSQL's grammar through sqlparser, ours beside it, one parser a
//! statement family. Nothing here looks a name up.

mod dialect;

pub use dialect::TidewaterDialect;

use datafusion::sql::sqlparser::{ast, parser::Parser};

use crate::{Error, Result, SqlType};

/// An identifier folded as PostgreSQL folds it: lower case unless it was quoted.
pub fn fold(identifier: &ast::Ident) -> String {
    match identifier.quote_style {
        Some(_) => identifier.value.clone(),
        None => identifier.value.to_lowercase(),
    }
}

/// The type a text names: `bigint`, `numeric(10,2)`, `text[]`.
pub fn data_type(text: &str) -> Result<SqlType> {
    let unknown = || Error::new("42704", format!("type \"{text}\" does not exist"));
    let mut parser =
        Parser::new(&TidewaterDialect).try_with_sql(text).map_err(|_error| unknown())?;
    let data_type = parser.parse_data_type().map_err(|_error| unknown())?;
    SqlType::of_ast(&data_type)
}
