//! Text → statements: PostgreSQL's grammar through sqlparser, ours beside it, one parser a
//! statement family. Nothing here looks a name up.

mod copy;
pub mod dialect;
mod emit;
mod job;
pub mod limits;
mod mapping;
mod plain;
mod session;
mod source;
mod statement;
mod unbuilt;
mod upkeep;
pub mod widths;
mod written_out;

pub use copy::{CopyDirection, CopyStatement};
pub use dialect::TidewaterDialect;
pub use job::{AlterJob, CreateJob, ExportJob, JobGoes};
pub use limits::{CALLS_MAX, CONNECTIVES_MAX, NESTING_MAX, OPERATORS_MAX, STATEMENT_BYTES_MAX};
pub use mapping::{CreateMapping, MappingColumn};
pub use plain::is_plain_select;
pub use source::Source;
pub use statement::{
    DropKind, ShowObjects, StatementKind, parameter_count, parse, parse_expression, parse_query,
};
pub use upkeep::{Upkeep, UpkeepTable};

use datafusion::sql::sqlparser::{
    ast,
    parser::Parser,
    tokenizer::{Token, TokenWithSpan},
};

use crate::{Error, Result, SqlType};

/// A query string and its tokens, without the blank ones.
pub(crate) fn tokens_of(sql: &str) -> Result<(Source<'_>, Vec<TokenWithSpan>)> {
    let (source, mut tokens) = Source::tokens(sql)?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    Ok((source, tokens))
}

/// An identifier folded as PostgreSQL folds it: lower case unless it was quoted.
pub fn fold(identifier: &ast::Ident) -> String {
    match identifier.quote_style {
        Some(_) => identifier.value.clone(),
        None => identifier.value.to_lowercase(),
    }
}

/// Schema and name that an object name says; the schema is `None` when it is left out.
pub fn object_name(name: &ast::ObjectName) -> Result<(Option<String>, String)> {
    let parts: Option<Vec<String>> = name.0.iter().map(|part| part.as_ident().map(fold)).collect();
    match parts.as_deref() {
        Some([name]) => Ok((None, name.clone())),
        Some([schema, name]) => Ok((Some(schema.clone()), name.clone())),
        Some([_catalog, schema, name]) => Ok((Some(schema.clone()), name.clone())),
        _ => Err(Error::new("42601", format!("improper qualified name: {name}"))),
    }
}

/// An expression without a name, as DataFusion's entry points take it.
pub fn unnamed(expr: ast::Expr) -> ast::ExprWithAlias {
    ast::ExprWithAlias { expr, alias: None }
}

/// The type a text names: `bigint`, `numeric(10,2)`, `text[]`.
pub fn data_type(text: &str) -> Result<SqlType> {
    let unknown = || Error::new("42704", format!("type \"{text}\" does not exist"));
    let mut parser =
        Parser::new(&TidewaterDialect).try_with_sql(text).map_err(|_error| unknown())?;
    let data_type = parser.parse_data_type().map_err(|_error| unknown())?;
    SqlType::of_ast(&data_type)
}
