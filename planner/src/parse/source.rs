//! A query string as tokens that know where they stand, and the way back from a token to its text
//! and position. Every syntax error is made here, in PostgreSQL's words.

use datafusion::sql::sqlparser::{
    parser::{Parser, ParserError},
    tokenizer::{Location, Token, TokenWithSpan, Tokenizer},
};

use super::{
    TidewaterDialect,
    limits::{self, NESTING_MAX, STATEMENT_BYTES_MAX},
};
use crate::{Error, Result};

/// A query string and where its lines begin.
pub struct Source<'a> {
    /// The text.
    pub sql: &'a str,
    /// Byte offsets of the lines.
    lines: Vec<usize>,
    /// Whether a column is a byte: a string of many statements asks for many places.
    is_ascii: bool,
}

impl<'a> Source<'a> {
    /// Splits a query string into tokens; refuses what is too long or too deep.
    pub fn tokens(sql: &'a str) -> Result<(Self, Vec<TokenWithSpan>)> {
        if sql.len() > STATEMENT_BYTES_MAX {
            return Err(Error::new(
                "54000",
                format!("query string is longer than {STATEMENT_BYTES_MAX} bytes"),
            )
            .with_hint("Load many rows with COPY."));
        }
        limits::check_text(sql)?;
        let lines =
            std::iter::once(0).chain(sql.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let source = Self { sql, lines, is_ascii: sql.is_ascii() };
        let tokens = Tokenizer::new(&TidewaterDialect, sql)
            .tokenize_with_location()
            .map_err(|error| source.token_error(&error.message, error.location))?;
        limits::check(&tokens)?;
        Ok((source, tokens))
    }

    /// A parser over some of the tokens.
    pub fn parser(&self, tokens: &[TokenWithSpan]) -> Parser<'static> {
        /// sqlparser counts several of its own levels for each of ours.
        const PARSER_LEVELS: usize = 4;
        Parser::new(&TidewaterDialect)
            .with_recursion_limit(NESTING_MAX * PARSER_LEVELS)
            .with_tokens_with_locations(tokens.to_vec())
    }

    /// The text the tokens were read from, without spaces around it.
    pub fn text(&self, tokens: &[TokenWithSpan]) -> &'a str {
        let is_blank = |token: &&TokenWithSpan| matches!(token.token, Token::Whitespace(_));
        let first = tokens.iter().find(|token| !is_blank(token));
        let last = tokens.iter().rev().find(|token| !is_blank(token));
        match (first, last) {
            (Some(first), Some(last)) => {
                let (start, end) = (self.byte(first.span.start), self.byte(last.span.end));
                self.sql.get(start..end).unwrap_or(self.sql).trim()
            }
            _ => "",
        }
    }

    /// Byte offset of a location.
    fn byte(&self, location: Location) -> usize {
        let line = (location.line as usize).saturating_sub(1);
        let Some(&start) = self.lines.get(line) else { return self.sql.len() };
        let column = (location.column as usize).saturating_sub(1);
        if self.is_ascii {
            return self.sql.len().min(start + column);
        }
        let rest = &self.sql[start..];
        rest.char_indices().nth(column).map_or(self.sql.len(), |(offset, _)| start + offset)
    }

    /// 1-based position of a location, in characters.
    pub fn position(&self, location: Location) -> usize {
        self.sql[..self.byte(location)].chars().count() + 1
    }

    /// `syntax error at or near "…"` at a token; at its end when there is none.
    pub fn syntax_error(&self, token: Option<&TokenWithSpan>) -> Error {
        match token {
            Some(token) if token.token != Token::EOF => {
                let text = self.text(std::slice::from_ref(token));
                Error::new("42601", format!("syntax error at or near \"{text}\""))
                    .at(self.position(token.span.start))
            }
            _ => {
                Error::new("42601", "syntax error at end of input").at(self.sql.chars().count() + 1)
            }
        }
    }

    fn token_error(&self, message: &str, location: Location) -> Error {
        let start = self.byte(location);
        let near: String = self.sql[start..].chars().take(NEAR_CHARACTERS).collect();
        let message = if message.contains("Unterminated string") {
            format!("unterminated quoted string at or near \"{near}\"")
        } else if message.contains("close delimiter") {
            format!("unterminated quoted identifier at or near \"{near}\"")
        } else if message.contains("Unexpected EOF while in a multi-line comment") {
            format!("unterminated /* comment at or near \"{near}\"")
        } else {
            format!("syntax error at or near \"{near}\"")
        };
        Error::new("42601", message).at(self.position(location))
    }

    /// The error of a parser that stopped in the middle of `tokens`.
    pub fn parser_error(&self, error: ParserError, tokens: &[TokenWithSpan]) -> Error {
        let text = match error {
            ParserError::RecursionLimitExceeded => {
                return limits::too_complex(format!(
                    "It is nested too deeply; at most {NESTING_MAX} levels are planned."
                ));
            }
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
        };
        let Some(location) = location_in(&text) else {
            let end_of_input = text.ends_with("found: EOF") || text.contains("found: EOF");
            if end_of_input {
                return self.syntax_error(None);
            }
            let code = match text.as_str() {
                "cursor can only scan forward" => "55000",
                text if text.ends_with("is not supported") || text.ends_with(" only") => "0A000",
                _ => "42601",
            };
            // These are our own parsers' words already.
            return Error::new(code, text);
        };
        let token = tokens.iter().find(|token| token.span.start == location);
        if token.is_none() && !text.contains("found: EOF") {
            return Error::new("42601", lower_first(&text));
        }
        self.syntax_error(token)
    }
}

/// How much of the text a tokenizer's error quotes.
const NEAR_CHARACTERS: usize = 32;

/// The ` at Line: 1, Column: 8` that sqlparser puts at the end of its messages.
fn location_in(text: &str) -> Option<Location> {
    let (_, tail) = text.rsplit_once(" at Line: ")?;
    let (line, column) = tail.split_once(", Column: ")?;
    Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// The unquoted word of a token, in upper case.
pub fn word(token: &TokenWithSpan) -> Option<String> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
        _ => None,
    }
}

/// Whether the parser's next token is the unquoted word; consumes it if so.
pub fn take_word(parser: &mut Parser<'_>, expected: &str) -> bool {
    let found = matches!(&parser.peek_token_ref().token,
        Token::Word(word) if word.quote_style.is_none()
            && word.value.eq_ignore_ascii_case(expected));
    if found {
        parser.next_token();
    }
    found
}

/// Several words in a row, or none of them.
pub fn take_words(parser: &mut Parser<'_>, expected: &[&str]) -> bool {
    let found = expected.iter().enumerate().all(|(n, expected)| {
        matches!(&parser.peek_nth_token_ref(n).token,
            Token::Word(word) if word.quote_style.is_none()
                && word.value.eq_ignore_ascii_case(expected))
    });
    if found {
        for _ in expected {
            parser.next_token();
        }
    }
    found
}

/// The word, or the parser's error.
pub fn expect_word(parser: &mut Parser<'_>, expected: &str) -> Result<(), ParserError> {
    if take_word(parser, expected) {
        return Ok(());
    }
    parser.expected(expected, parser.peek_token())
}

/// Nothing more, or the parser's error.
pub fn expect_end(parser: &Parser<'_>) -> Result<(), ParserError> {
    match parser.peek_token() {
        token if token.token == Token::EOF => Ok(()),
        token => parser.expected("end of statement", token),
    }
}
