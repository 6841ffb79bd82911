//! Limits on the size and depth of a statement, checked on its tokens before anything recursive
//! sees it: one SQL string must not take a member down.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{Query, Select, Visit, Visitor},
    tokenizer::{Token, TokenWithSpan},
};

use crate::{Error, Result};

/// Longest query string, in bytes: more rows than that belong into COPY.
pub const STATEMENT_BYTES_MAX: usize = 8 << 20;

/// Deepest nesting of parentheses, brackets and CASE. Each level costs several stack frames in
/// every pass of the planner.
pub const NESTING_MAX: usize = 128;

/// Most operators between two commas of one nesting level. A chain `a + b + c …` becomes a tree as
/// deep as it has operators, and every pass asks for the types of all levels below: time grows with
/// the square of the depth.
pub const CHAIN_OPERATORS_MAX: usize = 256;

/// Deepest nesting of function calls: the types of arguments are worked out at every level.
pub const CALLS_MAX: usize = 48;

/// Longest list behind IN: more values belong into a table that is joined.
pub const LIST_MAX: usize = 100_000;

/// Most `NOT`, `-`, `+`, `~` and `EXPLAIN` in a row: each is one level of a tree.
const PREFIX_RUN_MAX: usize = 64;

/// Most columns of one SELECT list, as in PostgreSQL.
pub const TARGET_ENTRIES_MAX: usize = 1664;

/// One open parenthesis, bracket or CASE.
#[derive(Default)]
struct Level {
    /// Operators since the last comma.
    operators: usize,
    /// Whether it holds the arguments of a call.
    is_call: bool,
    /// Whether it holds the list of an IN.
    is_list: bool,
    /// Commas in it.
    commas: usize,
}

/// Refuses statements that are too long or too deep (54001).
pub fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut levels = vec![Level::default()];
    let (mut prefix_run, mut call_count, mut is_after_name) = (0, 0, false);
    let mut is_after_in = false;
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => {
                call_count += usize::from(is_after_name);
                levels.push(Level {
                    is_call: is_after_name,
                    is_list: is_after_in,
                    ..Level::default()
                });
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                call_count -= close(&mut levels);
            }
            token if is_word(token, &["CASE"]) => levels.push(Level::default()),
            token if is_word(token, &["END"]) => call_count -= close(&mut levels),
            Token::Comma | Token::SemiColon => {
                if let Some(level) = levels.last_mut() {
                    level.operators = 0;
                    level.commas += 1;
                    if level.is_list && level.commas >= LIST_MAX {
                        return Err(too_complex());
                    }
                }
            }
            token if is_operator(token) => {
                if let Some(level) = levels.last_mut() {
                    level.operators += 1;
                }
            }
            _ => {}
        }
        is_after_name = is_name(&token.token);
        is_after_in = is_word(&token.token, &["IN"]);
        prefix_run = if is_prefix(&token.token) { prefix_run + 1 } else { 0 };
        let operators = levels.last().map_or(0, |level| level.operators);
        if levels.len() > NESTING_MAX
            || call_count > CALLS_MAX
            || operators > CHAIN_OPERATORS_MAX
            || prefix_run > PREFIX_RUN_MAX
        {
            return Err(too_complex());
        }
    }
    Ok(())
}

/// Refuses queries with a longer SELECT list than anybody can want (54011).
pub fn check_targets(query: &Query) -> Result<()> {
    struct Targets;
    impl Visitor for Targets {
        type Break = ();
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            match select.projection.len() > TARGET_ENTRIES_MAX {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    match query.visit(&mut Targets) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            let message = format!("target lists can have at most {TARGET_ENTRIES_MAX} entries");
            Err(Error::new("54011", message))
        }
    }
}

/// Leaves the innermost level; answers how many calls that ends.
fn close(levels: &mut Vec<Level>) -> usize {
    match levels.len() {
        0 | 1 => 0,
        _ => usize::from(levels.pop().is_some_and(|level| level.is_call)),
    }
}

fn is_word(token: &Token, words: &[&str]) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none()
        && words.iter().any(|wanted| word.value.eq_ignore_ascii_case(wanted)))
}

/// Whether a parenthesis behind the token holds arguments: it is a name, not a keyword.
fn is_name(token: &Token) -> bool {
    /// Keywords before a parenthesis that groups.
    const GROUPING: [&str; 17] = [
        "AND", "OR", "NOT", "IN", "EXISTS", "SELECT", "FROM", "WHERE", "JOIN", "ON", "AS", "WHEN",
        "THEN", "ELSE", "VALUES", "UNION", "ALL",
    ];
    matches!(token, Token::Word(_)) && !is_word(token, &GROUPING)
}

/// Operators that chain: comparisons do not.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::Mod
        | Token::Caret
        | Token::StringConcat
        | Token::DoubleColon
        | Token::Ampersand
        | Token::Pipe
        | Token::Sharp
        | Token::ShiftLeft
        | Token::ShiftRight
        | Token::Arrow
        | Token::LongArrow
        | Token::CustomBinaryOperator(_) => true,
        Token::Word(_) => {
            is_word(token, &["AND", "OR", "UNION", "EXCEPT", "INTERSECT", "IS", "JOIN", "COLLATE"])
        }
        _ => false,
    }
}

fn is_prefix(token: &Token) -> bool {
    matches!(token, Token::Minus | Token::Plus | Token::Tilde) || is_word(token, &["NOT"])
}

/// 54001 with the limits named.
pub fn too_complex() -> Error {
    Error::new("54001", "statement is too complex").with_detail(format!(
        "At most {NESTING_MAX} levels of nesting, {CALLS_MAX} nested calls, \
         {CHAIN_OPERATORS_MAX} operators in a row and {LIST_MAX} values behind IN are planned."
    ))
}

#[cfg(test)]
mod tests {
    use crate::parse::parse;

    fn code_of(sql: &str) -> Option<&'static str> {
        parse(sql).err().map(|error| error.code)
    }

    #[test]
    fn long_chains_and_deep_nests_are_refused() {
        let list = format!("SELECT 1 WHERE 1 IN ({})", vec!["1"; 100_001].join(","));
        assert_eq!(code_of(&list), Some("54001"));
        let chain = format!("SELECT {}", vec!["1"; 100_000].join(" + "));
        assert_eq!(code_of(&chain), Some("54001"));
        let nest = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(code_of(&nest), Some("54001"));
        let calls = format!("SELECT {}1{}", "abs(".repeat(100), ")".repeat(100));
        assert_eq!(code_of(&calls), Some("54001"));
        let prefixes = format!("SELECT {} true", "NOT ".repeat(1_000));
        assert_eq!(code_of(&prefixes), Some("54001"));
        let unions = vec!["SELECT 1"; 1_000].join(" UNION ALL ");
        assert_eq!(code_of(&unions), Some("54001"));
    }

    #[test]
    fn wide_statements_are_no_deep_ones() {
        let rows = vec!["(1, 2 + 3, 'x')"; 10_000].join(", ");
        assert_eq!(code_of(&format!("INSERT INTO t VALUES {rows}")), None);
        let list = vec!["1"; 10_000].join(", ");
        assert_eq!(code_of(&format!("SELECT 1 WHERE 1 IN ({list})")), None);
        let nest = format!("SELECT {}1{}", "(".repeat(100), ")".repeat(100));
        assert_eq!(code_of(&nest), None);
    }
}
