//! `COPY table|(query) FROM STDIN | TO STDOUT` with PostgreSQL's options, old and new style.
//! Only the client's own stream is a place to copy from or to: a server's files are not.

use datafusion::sql::sqlparser::{
    ast,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

use super::source::{expect_end, take_word};
use crate::{Error, Result, plan::CopyOptions, planner::Statement};

/// COPY as written.
#[derive(Debug, Clone)]
pub struct CopyStatement {
    /// Where from or to.
    pub direction: CopyDirection,
    /// Format.
    pub options: CopyOptions,
}

/// What is copied.
#[derive(Debug, Clone)]
pub enum CopyDirection {
    /// COPY table [(columns)] FROM STDIN.
    In {
        /// The table.
        table: ast::ObjectName,
        /// Its columns; empty for all.
        columns: Vec<ast::Ident>,
    },
    /// COPY … TO STDOUT of a query, or of a table as the query it means.
    Out(Box<Statement>),
}

/// Target of a COPY of a table.
pub struct CopyTable {
    /// The table.
    pub table: ast::ObjectName,
    /// Its columns; empty for all.
    pub columns: Vec<ast::Ident>,
}

/// Options as written: lower-case name, and the value if there is one.
type WrittenOptions = Vec<(String, Option<String>)>;

/// After `COPY`, when a table name follows.
pub fn parse_table(parser: &mut Parser<'_>) -> Result<CopyTable, ParserError> {
    let table = parser.parse_object_name(false)?;
    let mut columns = Vec::new();
    if parser.consume_token(&Token::LParen) {
        columns = parser.parse_comma_separated(Parser::parse_identifier)?;
        parser.expect_token(&Token::RParen)?;
    }
    Ok(CopyTable { table, columns })
}

/// From `FROM` or `TO` on: whether it copies in, and the options as written.
pub fn parse_tail(parser: &mut Parser<'_>) -> Result<(bool, WrittenOptions), ParserError> {
    let is_in = if take_word(parser, "FROM") {
        true
    } else if take_word(parser, "TO") {
        false
    } else {
        return parser.expected("FROM or TO", parser.peek_token());
    };
    if !take_word(parser, if is_in { "STDIN" } else { "STDOUT" }) {
        return match parser.peek_token().token {
            Token::SingleQuotedString(_) | Token::Word(_) => Err(ParserError::ParserError(
                "COPY is possible FROM STDIN and TO STDOUT only".to_owned(),
            )),
            _ => parser.expected("STDIN or STDOUT", parser.peek_token()),
        };
    }
    let _ = take_word(parser, "WITH");
    let mut options = Vec::new();
    if parser.consume_token(&Token::LParen) {
        loop {
            let name = parser.parse_identifier()?.value.to_lowercase();
            options.push((name, option_value(parser)));
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
    } else {
        while parser.peek_token_ref().token != Token::EOF {
            let name = parser.parse_identifier()?.value.to_lowercase();
            match name.as_str() {
                "csv" | "text" | "binary" => options.push(("format".to_owned(), Some(name))),
                "header" => options.push((name, None)),
                _ => {
                    let _ = take_word(parser, "AS");
                    options.push((name, option_value(parser)));
                }
            }
        }
    }
    expect_end(parser)?;
    Ok((is_in, options))
}

fn option_value(parser: &mut Parser<'_>) -> Option<String> {
    let value = match parser.peek_token().token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text,
        Token::Word(word) => word.value,
        Token::Number(digits, _) => digits,
        _ => return None,
    };
    parser.next_token();
    Some(value)
}

/// What the options mean.
pub fn options(written: &[(String, Option<String>)]) -> Result<CopyOptions> {
    let mut seen = Vec::new();
    for (name, _) in written {
        if seen.contains(&name) {
            return Err(Error::new("42601", "conflicting or redundant options"));
        }
        seen.push(name);
    }
    let value = |wanted: &str| written.iter().find(|(name, _)| name == wanted);
    let is_csv = match value("format").map(|(_, value)| value.as_deref().unwrap_or_default()) {
        None => false,
        Some(format) => match format.to_lowercase().as_str() {
            "text" => false,
            "csv" => true,
            "binary" => return Err(Error::unsupported("COPY BINARY is not supported")),
            _ => {
                return Err(Error::new(
                    "22023",
                    format!("COPY format \"{format}\" not recognized"),
                ));
            }
        },
    };
    let has_header = match value("header").map(|(_, value)| value.as_deref()) {
        None => false,
        Some(None) => true,
        Some(Some(text)) => {
            boolean(text).ok_or_else(|| Error::new("22023", "header requires a Boolean value"))?
        }
    };
    let byte = |name: &str, default: u8| match value(name).map(|(_, value)| value.as_deref()) {
        None => Ok(default),
        Some(text) => match text.unwrap_or_default().as_bytes() {
            [byte] => Ok(*byte),
            _ => {
                Err(Error::new("0A000", format!("COPY {name} must be a single one-byte character")))
            }
        },
    };
    let quote = byte("quote", b'"')?;
    let options = CopyOptions {
        is_csv,
        has_header,
        delimiter: byte("delimiter", if is_csv { b',' } else { b'\t' })?,
        null: match value("null") {
            Some((_, text)) => text.clone().unwrap_or_default(),
            None if is_csv => String::new(),
            None => "\\N".to_owned(),
        },
        quote,
        escape: byte("escape", quote)?,
    };
    for (name, text) in written {
        match name.as_str() {
            "format" | "header" | "delimiter" | "null" => {}
            "quote" | "escape" if is_csv => {}
            "quote" | "escape" => {
                return Err(Error::unsupported(format!("COPY {name} requires CSV mode")));
            }
            "encoding"
                if text
                    .as_deref()
                    .is_some_and(|text| text.replace('-', "").eq_ignore_ascii_case("utf8")) => {}
            // It spares PostgreSQL work on the rows later, and asks for nothing else.
            "freeze" if text.as_deref().is_none_or(|text| boolean(text).is_some()) => {}
            "freeze" => return Err(Error::new("42601", "freeze requires a Boolean value")),
            "encoding" | "force_quote" | "force_not_null" | "force_null" | "force" | "on_error"
            | "default" => {
                return Err(Error::unsupported(format!("COPY option \"{name}\" is not supported")));
            }
            _ => return Err(Error::new("42601", format!("option \"{name}\" not recognized"))),
        }
    }
    Ok(options)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "true" | "on" | "1" => Some(true),
        "false" | "off" | "0" => Some(false),
        _ => None,
    }
}
