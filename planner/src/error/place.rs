//! Where in a statement an error stands, for errors that name something the user wrote: a column, a
//! relation, a function, a type. What planning says of names comes without their place, so the name
//! is looked for in the text: its first mention that can be meant.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::Error;
use crate::{
    parse::{fold, tokens_of},
    planner::Statement,
};

/// What an error names.
struct Named<'a> {
    /// Its parts: `["t", "k"]` of `t.k`.
    parts: Vec<&'a str>,
    /// What must follow it, if anything must.
    follower: Option<Token>,
}

/// The error with its place in the query string, if it names something of the statement.
pub fn placed(error: Error, statement: &Statement) -> Error {
    if error.position.is_some() {
        return error;
    }
    match named(&error).and_then(|named| position(&named, &statement.sql)) {
        Some(position) => error.at(statement.start + position),
        None => error,
    }
}

fn named(error: &Error) -> Option<Named<'_>> {
    let message = error.message.as_str();
    let of = |parts: Vec<_>, follower| Some(Named { parts, follower });
    match error.code {
        "42703" => match message.strip_prefix("column ")? {
            quoted if quoted.starts_with('"') => of(vec![in_quotes(quoted)?], None),
            qualified => of(qualified.split(' ').next()?.split('.').collect(), None),
        },
        "42702" => of(vec![in_quotes(message.strip_prefix("column reference ")?)?], None),
        "42P01" => match message.strip_prefix("relation ") {
            Some(quoted) => of(in_quotes(quoted)?.split('.').collect(), None),
            None => {
                let quoted = message.strip_prefix("missing FROM-clause entry for table ")?;
                of(vec![in_quotes(quoted)?], Some(Token::Period))
            }
        },
        "42883" => {
            let (name, _) = message.strip_prefix("function ")?.split_once('(')?;
            of(name.split('.').collect(), Some(Token::LParen))
        }
        "42704" => of(vec![in_quotes(message.strip_prefix("type ")?)?], None),
        _ => None,
    }
}

fn in_quotes(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('"')?;
    match rest.split_once("\" of relation ") {
        Some((name, _)) => Some(name),
        None => rest.rfind('"').map(|end| &rest[..end]),
    }
}

/// The 1-based position of the first mention, in characters.
fn position(named: &Named<'_>, sql: &str) -> Option<usize> {
    let (source, tokens) = tokens_of(sql).ok()?;
    let start = (0..tokens.len()).find(|start| {
        let is_alias = start.checked_sub(1).is_some_and(|before| is_word(&tokens[before], "as"));
        !is_alias && is_mention(named, &tokens[*start..])
    })?;
    Some(source.position(tokens[start].span.start))
}

fn is_mention(named: &Named<'_>, tokens: &[TokenWithSpan]) -> bool {
    let mut rest = tokens;
    for (index, part) in named.parts.iter().enumerate() {
        if index > 0 {
            match rest.split_first() {
                Some((dot, after)) if dot.token == Token::Period => rest = after,
                _ => return false,
            }
        }
        match rest.split_first() {
            Some((word, after)) if is_word(word, part) => rest = after,
            _ => return false,
        }
    }
    let next = rest.first().map(|token| &token.token);
    named.follower.is_none() || next == named.follower.as_ref()
}

fn is_word(token: &TokenWithSpan, name: &str) -> bool {
    match &token.token {
        Token::Word(word) => fold(&word.to_ident(token.span)) == name,
        _ => false,
    }
}
