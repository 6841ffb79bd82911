//! Limits on the size and depth of a statement, checked on its tokens before anything recursive
//! sees it: one SQL string must not take a member down.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::{Error, Result};

/// Longest query string, in bytes: more rows than that belong into COPY.
pub const STATEMENT_BYTES_MAX: usize = 8 << 20;

/// Deepest nesting of parentheses, brackets and CASE. Each level costs several stack frames in
/// every pass of the planner.
pub const NESTING_MAX: usize = 128;

/// Longest run of tokens between two commas of one nesting level. A chain `a + b + c …` becomes a
/// tree as deep as it has operators, so its length is a depth.
pub const CHAIN_TOKENS_MAX: usize = 4_000;

/// Most `NOT`, `-`, `+`, `~` and `EXPLAIN` in a row: each is one level of a tree.
const PREFIX_RUN_MAX: usize = 64;

/// Refuses statements that are too long or too deep (54001).
pub fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    // Tokens since the last comma, one entry a level.
    let mut runs = vec![0_usize];
    let mut prefix_run = 0;
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => runs.push(0),
            Token::RParen | Token::RBracket | Token::RBrace if runs.len() > 1 => {
                runs.pop();
            }
            Token::Word(word)
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("case") =>
            {
                runs.push(0);
            }
            Token::Word(word)
                if word.quote_style.is_none()
                    && word.value.eq_ignore_ascii_case("end")
                    && runs.len() > 1 =>
            {
                runs.pop();
            }
            Token::Comma | Token::SemiColon => {
                if let Some(run) = runs.last_mut() {
                    *run = 0;
                }
            }
            _ => {}
        }
        prefix_run = if is_prefix(&token.token) { prefix_run + 1 } else { 0 };
        let run = runs.last_mut().map_or(0, |run| {
            *run += 1;
            *run
        });
        if runs.len() > NESTING_MAX || run > CHAIN_TOKENS_MAX || prefix_run > PREFIX_RUN_MAX {
            return Err(too_complex());
        }
    }
    Ok(())
}

fn is_prefix(token: &Token) -> bool {
    match token {
        Token::Minus | Token::Plus | Token::Tilde => true,
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case("not"),
        _ => false,
    }
}

/// 54001 with the limits named.
pub fn too_complex() -> Error {
    Error::new("54001", "statement is too complex").with_detail(format!(
        "At most {NESTING_MAX} levels of nesting and {CHAIN_TOKENS_MAX} tokens between two commas \
         are planned."
    ))
}
