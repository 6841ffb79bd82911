//! `VACUUM` and `ANALYZE`: which tables, and which of their columns. What a table in memory has no use
//! for (`VERBOSE`, `PARALLEL`, the care of pages and indexes) is refused by name.

use datafusion::sql::sqlparser::{
    ast,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

use super::source::{expect_end, take_word};

/// VACUUM or ANALYZE as written.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// Whether it is VACUUM, which may analyze, too.
    pub is_vacuum: bool,
    /// Whether it analyzes.
    pub is_analyze: bool,
    /// The tables; empty for all.
    pub tables: Vec<UpkeepTable>,
}

/// One table of it.
#[derive(Debug, Clone)]
pub struct UpkeepTable {
    /// Its name.
    pub name: ast::ObjectName,
    /// The columns to analyze; empty for all.
    pub columns: Vec<ast::Ident>,
}

/// What VACUUM does anyway: it compacts all it can, and every row is as visible as it will be.
const DONE_ANYWAY: [&str; 2] = ["FULL", "FREEZE"];

/// PostgreSQL's options that are not built.
const UNBUILT: [&str; 7] = [
    "VERBOSE",
    "DISABLE_PAGE_SKIPPING",
    "SKIP_LOCKED",
    "INDEX_CLEANUP",
    "PROCESS_TOAST",
    "TRUNCATE",
    "PARALLEL",
];

/// After `VACUUM` or `ANALYZE`.
pub fn parse(parser: &mut Parser<'_>, is_vacuum: bool) -> Result<Upkeep, ParserError> {
    let mut is_analyze = !is_vacuum;
    if parser.consume_token(&Token::LParen) {
        loop {
            let name = parser.parse_identifier()?.value.to_uppercase();
            let is_on = flag(parser)?;
            option(&name, is_on, is_vacuum, &mut is_analyze)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
    } else {
        for name in ["FULL", "FREEZE", "VERBOSE", "ANALYZE", "ANALYSE"] {
            let is_old_style = is_vacuum || name == "VERBOSE";
            if is_old_style && take_word(parser, name) {
                option(name, true, is_vacuum, &mut is_analyze)?;
            }
        }
    }
    let mut tables = Vec::new();
    if parser.peek_token_ref().token != Token::EOF {
        tables = parser.parse_comma_separated(|parser| {
            let name = parser.parse_object_name(false)?;
            let mut columns = Vec::new();
            if parser.consume_token(&Token::LParen) {
                columns = parser.parse_comma_separated(Parser::parse_identifier)?;
                parser.expect_token(&Token::RParen)?;
            }
            Ok(UpkeepTable { name, columns })
        })?;
    }
    expect_end(parser)?;
    Ok(Upkeep { is_vacuum, is_analyze, tables })
}

/// What stands behind an option's name; nothing means on.
fn flag(parser: &mut Parser<'_>) -> Result<bool, ParserError> {
    let is_end = matches!(parser.peek_token_ref().token, Token::Comma | Token::RParen);
    if is_end {
        return Ok(true);
    }
    let token = parser.next_token();
    match token.to_string().to_lowercase().as_str() {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        // Of an option that is not a flag, and that will be refused.
        _ => Ok(true),
    }
}

fn option(
    name: &str,
    is_on: bool,
    is_vacuum: bool,
    is_analyze: &mut bool,
) -> Result<(), ParserError> {
    let statement = if is_vacuum { "VACUUM" } else { "ANALYZE" };
    match name {
        "ANALYZE" | "ANALYSE" if is_vacuum => *is_analyze = is_on,
        name if is_vacuum && DONE_ANYWAY.contains(&name) => {}
        name if UNBUILT.contains(&name) && !is_on => {}
        name if UNBUILT.contains(&name) => {
            return Err(ParserError::ParserError(format!("{statement} {name} is not supported")));
        }
        name => {
            let name = name.to_lowercase();
            return Err(ParserError::ParserError(format!(
                "unrecognized {statement} option \"{name}\""
            )));
        }
    }
    Ok(())
}
