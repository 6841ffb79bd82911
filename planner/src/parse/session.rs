//! Statements about the session: SET, RESET, BEGIN … ROLLBACK, PREPARE … DEALLOCATE, cursors.
//! They are parsed here and carried out by the server.

use datafusion::sql::sqlparser::{
    ast,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

use super::{
    fold,
    source::{expect_end, expect_word, take_word, take_words},
};
use crate::{Error, Result, plan::SessionStatement};

type Parsed<T> = Result<T, ParserError>;

/// After `SET`.
pub fn parse_set(parser: &mut Parser<'_>) -> Parsed<SessionStatement> {
    if take_word(parser, "TRANSACTION") {
        return parse_modes(parser, SessionStatement::Nothing("SET"));
    }
    if take_words(parser, &["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
        return parse_modes(parser, SessionStatement::Nothing("SET"));
    }
    let is_local = take_word(parser, "LOCAL");
    if !is_local {
        let _ = take_word(parser, "SESSION");
    }
    let name = if take_words(parser, &["TIME", "ZONE"]) {
        "timezone".to_owned()
    } else if take_word(parser, "NAMES") {
        "client_encoding".to_owned()
    } else {
        let name = setting_name(parser)?;
        if !parser.consume_token(&Token::Eq) {
            expect_word(parser, "TO")?;
        }
        name
    };
    let value = parse_set_value(parser)?;
    expect_end(parser)?;
    Ok(SessionStatement::Set { name, value, is_local })
}

/// A setting's name: one or two words, in lower case.
pub fn setting_name(parser: &mut Parser<'_>) -> Parsed<String> {
    let mut name = parser.parse_identifier()?.value.to_lowercase();
    while parser.consume_token(&Token::Period) {
        name.push('.');
        name.push_str(&parser.parse_identifier()?.value.to_lowercase());
    }
    Ok(name)
}

fn parse_set_value(parser: &mut Parser<'_>) -> Parsed<Option<String>> {
    let mut parts = Vec::new();
    loop {
        let mut sign = "";
        if parser.consume_token(&Token::Minus) {
            sign = "-";
        }
        let _ = take_word(parser, "INTERVAL");
        let token = parser.next_token();
        match token.token {
            Token::Word(word) if word.quote_style.is_none() => {
                if word.value.eq_ignore_ascii_case("default") && parts.is_empty() {
                    return Ok(None);
                }
                parts.push(word.value.to_lowercase());
            }
            Token::Word(word) => parts.push(word.value),
            Token::Number(digits, _) => parts.push(format!("{sign}{digits}")),
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => parts.push(text),
            _ => return parser.expected("value", token),
        }
        if !parser.consume_token(&Token::Comma) {
            return Ok(Some(parts.join(", ")));
        }
    }
}

/// Transaction modes: those that ask for what we do anyway are accepted.
pub fn parse_modes(parser: &mut Parser<'_>, then: SessionStatement) -> Parsed<SessionStatement> {
    let refuse = |what: &str| ParserError::ParserError(format!("{what} is not supported"));
    loop {
        if take_words(parser, &["ISOLATION", "LEVEL"]) {
            let level = parser.parse_identifier()?.value.to_uppercase();
            match level.as_str() {
                "READ" => {
                    parser.parse_identifier()?;
                }
                "REPEATABLE" => return Err(refuse("isolation level REPEATABLE READ")),
                "SERIALIZABLE" => return Err(refuse("isolation level SERIALIZABLE")),
                _ => {
                    parser.prev_token();
                    return parser.expected("isolation level", parser.peek_token());
                }
            }
        } else if take_words(parser, &["READ", "WRITE"])
            || take_words(parser, &["NOT", "DEFERRABLE"])
        {
            // What every transaction is.
        } else if take_words(parser, &["READ", "ONLY"]) {
            return Err(refuse("READ ONLY"));
        } else if take_word(parser, "DEFERRABLE") {
            return Err(refuse("DEFERRABLE"));
        } else {
            break;
        }
        let _ = parser.consume_token(&Token::Comma);
    }
    expect_end(parser)?;
    Ok(then)
}

/// After `BEGIN`, `COMMIT`, `END`, `ROLLBACK`, `ABORT`: the noise words.
pub fn parse_end_of_block(
    parser: &mut Parser<'_>,
    then: SessionStatement,
) -> Parsed<SessionStatement> {
    let _ = take_word(parser, "WORK") || take_word(parser, "TRANSACTION");
    if take_words(parser, &["AND", "NO", "CHAIN"]) {
        // The default.
    }
    expect_end(parser)?;
    Ok(then)
}

/// After `RESET` or `DISCARD`.
pub fn parse_reset(parser: &mut Parser<'_>, discard: bool) -> Parsed<SessionStatement> {
    let statement = if take_word(parser, "ALL") {
        SessionStatement::ResetAll { discard }
    } else if discard {
        let word = parser.parse_identifier()?.value.to_uppercase();
        match word.as_str() {
            "PLANS" | "SEQUENCES" | "TEMP" | "TEMPORARY" => SessionStatement::Nothing("DISCARD"),
            _ => {
                parser.prev_token();
                return parser.expected("ALL, PLANS or TEMP", parser.peek_token());
            }
        }
    } else if take_words(parser, &["TIME", "ZONE"]) {
        SessionStatement::Set { name: "timezone".to_owned(), value: None, is_local: false }
    } else {
        SessionStatement::Set { name: setting_name(parser)?, value: None, is_local: false }
    };
    expect_end(parser)?;
    Ok(statement)
}

/// After `PREPARE`, up to `AS`: name and types.
pub fn parse_prepare_head(parser: &mut Parser<'_>) -> Parsed<(String, Vec<ast::DataType>)> {
    let name = fold(&parser.parse_identifier()?);
    let mut types = Vec::new();
    if parser.consume_token(&Token::LParen) {
        types = parser.parse_comma_separated(Parser::parse_data_type)?;
        parser.expect_token(&Token::RParen)?;
    }
    expect_end(parser)?;
    Ok((name, types))
}

/// After `EXECUTE`: name and constants.
pub fn parse_execute(parser: &mut Parser<'_>) -> Parsed<(String, Vec<ast::Expr>)> {
    let name = fold(&parser.parse_identifier()?);
    let mut values = Vec::new();
    if parser.consume_token(&Token::LParen) && !parser.consume_token(&Token::RParen) {
        values = parser.parse_comma_separated(Parser::parse_expr)?;
        parser.expect_token(&Token::RParen)?;
    }
    expect_end(parser)?;
    Ok((name, values))
}

/// The text of a constant, or `None` for NULL.
pub fn constant_text(expression: &ast::Expr) -> Result<Option<String>> {
    use ast::{Expr as E, UnaryOperator, Value as V};
    match expression {
        E::Value(value) => match &value.value {
            V::Null => Ok(None),
            V::Boolean(value) => Ok(Some(value.to_string())),
            V::Number(digits, _) => Ok(Some(digits.clone())),
            V::SingleQuotedString(text) | V::EscapedStringLiteral(text) => Ok(Some(text.clone())),
            V::DollarQuotedString(text) => Ok(Some(text.value.clone())),
            _ => Err(Error::unsupported("EXECUTE takes constants only")),
        },
        E::UnaryOp { op: UnaryOperator::Minus, expr } => {
            Ok(constant_text(expr)?.map(|text| format!("-{text}")))
        }
        E::UnaryOp { op: UnaryOperator::Plus, expr } => constant_text(expr),
        E::Nested(inner) => constant_text(inner),
        E::Cast { expr, .. } => constant_text(expr),
        E::TypedString(typed) => match &typed.value.value {
            V::SingleQuotedString(text) => Ok(Some(text.clone())),
            _ => Err(Error::unsupported("EXECUTE takes constants only")),
        },
        _ => Err(Error::unsupported("EXECUTE takes constants only")),
    }
}

/// After `DEALLOCATE [PREPARE]` or `CLOSE`: a name, or `None` for ALL.
pub fn parse_name_or_all(parser: &mut Parser<'_>) -> Parsed<Option<String>> {
    let name = match take_word(parser, "ALL") {
        true => None,
        false => Some(fold(&parser.parse_identifier()?)),
    };
    expect_end(parser)?;
    Ok(name)
}

/// After `DECLARE`, up to `FOR`: name and WITH HOLD.
pub fn parse_declare_head(parser: &mut Parser<'_>) -> Parsed<(String, bool)> {
    let name = fold(&parser.parse_identifier()?);
    loop {
        if take_word(parser, "CURSOR") {
            break;
        }
        if take_words(parser, &["NO", "SCROLL"])
            || take_word(parser, "INSENSITIVE")
            || take_word(parser, "ASENSITIVE")
        {
            continue;
        }
        for refused in ["BINARY", "SCROLL"] {
            if take_word(parser, refused) {
                return Err(ParserError::ParserError(format!("{refused} CURSOR is not supported")));
            }
        }
        return parser.expected("CURSOR", parser.peek_token());
    }
    let is_hold = take_words(parser, &["WITH", "HOLD"]);
    if !is_hold {
        let _ = take_words(parser, &["WITHOUT", "HOLD"]);
    }
    expect_end(parser)?;
    Ok((name, is_hold))
}

/// After `FETCH` or `MOVE`.
pub fn parse_fetch(parser: &mut Parser<'_>, is_move: bool) -> Parsed<SessionStatement> {
    let refuse = || ParserError::ParserError("cursor can only scan forward".to_owned());
    let mut count = Some(1);
    if take_word(parser, "NEXT") {
        // One.
    } else if take_word(parser, "ALL") {
        count = None;
    } else {
        for backward in ["PRIOR", "FIRST", "LAST", "ABSOLUTE", "RELATIVE", "BACKWARD"] {
            if take_word(parser, backward) {
                return Err(refuse());
            }
        }
        let _ = take_word(parser, "FORWARD");
        if take_word(parser, "ALL") {
            count = None;
        } else if parser.consume_token(&Token::Minus) {
            return Err(refuse());
        } else if let Token::Number(digits, _) = parser.peek_token().token {
            count = Some(digits.parse().map_err(|_error| refuse())?);
            parser.next_token();
        }
    }
    let _ = take_word(parser, "FROM") || take_word(parser, "IN");
    let name = fold(&parser.parse_identifier()?);
    expect_end(parser)?;
    Ok(SessionStatement::Fetch { name, count, is_move })
}
