//! Limits on the length and depth of a statement, counted on its tokens before anything recursive
//! sees it: one SQL string must not take a member down.
//!
//! Each limit is what the planner answers in about a second; the error says it and what was counted.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::{Error, Result};

/// Longest query string, in bytes: more rows than that belong into COPY.
pub const STATEMENT_BYTES_MAX: usize = 8 << 20;

/// Most words, signs and blanks of one query string, each of which is a token of a hundred bytes.
pub const TOKENS_MAX: usize = 4_000_000;

/// Most statements of one query string: all are parsed before the first one runs.
pub const STATEMENTS_MAX: usize = 20_000;

/// Deepest nesting of parentheses, brackets and CASE. Each level costs several stack frames in
/// every pass of the planner.
pub const NESTING_MAX: usize = 128;

/// Most AND, OR, UNION and JOIN between two commas of one nesting level. A chain `a AND b AND c …`
/// becomes a tree as deep as it has operators: time grows with the square of the depth.
pub const CONNECTIVES_MAX: usize = 256;

/// Most other operators between two of those. Every pass asks for the types of all levels below, and
/// a type comes with a name made of all levels below that: time grows with the cube of the depth.
pub const OPERATORS_MAX: usize = 128;

/// Deepest nesting of function calls: the types of arguments are worked out at every level.
pub const CALLS_MAX: usize = 48;

/// Longest list of literals behind IN: more values belong into a table that is joined.
pub const LIST_MAX: usize = 100_000;

/// Longest list of anything else: arguments, elements of an array, expressions behind IN.
pub const COMPUTED_LIST_MAX: usize = 10_000;

/// Most `NOT`, `-`, `+`, `~` and `EXPLAIN` in a row: each is one level of a tree.
const PREFIX_RUN_MAX: usize = 64;

/// One open parenthesis, bracket or CASE.
#[derive(Default)]
struct Level {
    /// AND, OR, UNION, JOIN since the last comma.
    connectives: usize,
    /// Other operators since the last comma or connective.
    operators: usize,
    /// Commas in it.
    commas: usize,
    /// What it holds.
    kind: LevelKind,
    /// Whether something in it is more than a literal.
    is_computed: bool,
}

impl Level {
    /// Counts a token that opens and closes nothing.
    fn take(&mut self, token: &Token) {
        if *token == Token::Comma {
            self.commas += 1;
        }
        if *token == Token::Comma || is_word(token, &["WHEN", "THEN", "ELSE"]) {
            (self.connectives, self.operators) = (0, 0);
        } else if is_connective(token) {
            self.is_computed = true;
            self.connectives += 1;
            self.operators = 0;
        } else if is_operator(token) {
            // The sign of a number is no operation.
            self.is_computed |= !matches!(token, Token::Minus | Token::Plus);
            self.operators += 1;
        }
    }
}

/// What a parenthesis holds.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum LevelKind {
    /// Anything else.
    #[default]
    Group,
    /// The arguments of a call.
    Call,
    /// The list of an IN.
    List,
    /// The elements of an array.
    Array,
}

/// The largest of everything that has a limit.
#[derive(Default)]
struct Counted {
    statements: usize,
    nesting: usize,
    calls: usize,
    connectives: usize,
    operators: usize,
    prefixes: usize,
    literals_in_list: usize,
    list: usize,
}

impl Counted {
    /// The first limit that is passed (54001).
    fn check(&self) -> Result<()> {
        let limits = [
            (self.statements, STATEMENTS_MAX, "statements in one query string"),
            (self.nesting, NESTING_MAX, "levels of nesting"),
            (self.calls, CALLS_MAX, "nested calls"),
            (self.connectives, CONNECTIVES_MAX, "AND, OR, UNION or JOIN in a row"),
            (self.operators, OPERATORS_MAX, "operators in a row"),
            (self.prefixes, PREFIX_RUN_MAX, "prefix operators in a row"),
            (self.literals_in_list, LIST_MAX, "values behind IN"),
            (self.list, COMPUTED_LIST_MAX, "expressions in one list"),
        ];
        limits.into_iter().try_for_each(|(count, limit, what)| at_most(count, limit, what))
    }
}

/// Refuses a text of too many tokens (54001), before any of them is made. A quoted text and a comment
/// count as one; the bytes of a dollar-quoted text may count one by one.
pub fn check_text(sql: &str) -> Result<()> {
    let bytes = sql.as_bytes();
    let (mut at, mut count) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at + 1..];
        let ends_at = |is_end: fn(&u8) -> bool| rest.iter().position(is_end);
        let length = match byte {
            b'\'' => ends_at(|byte| *byte == b'\'').map(|end| end + 1),
            b'"' => ends_at(|byte| *byte == b'"').map(|end| end + 1),
            b'-' if rest.first() == Some(&b'-') => ends_at(|byte| *byte == b'\n'),
            b'/' if rest.first() == Some(&b'*') => {
                rest.windows(2).position(|pair| pair == b"*/").map(|end| end + 2)
            }
            byte if is_word_byte(byte) => ends_at(|byte| !is_word_byte(*byte)),
            _ => Some(0),
        };
        count += 1;
        // What does not end reaches to the end.
        at += 1 + length.unwrap_or(rest.len());
    }
    at_most(count, TOKENS_MAX, "words, signs and blanks")
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | 0x80..)
}

/// Refuses statements that are too long or too deep (54001).
pub fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut counted = Counted { nesting: 1, statements: 1, ..Counted::default() };
    let mut levels = vec![Level::default()];
    // Levels beyond the limit are counted, not kept.
    let mut levels_beyond = 0;
    let (mut prefix_run, mut call_count, mut is_after_name) = (0, 0, false);
    let mut is_after_in = false;
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) => continue,
            token if opens(token) => {
                let kind = match token {
                    Token::LBracket => LevelKind::Array,
                    Token::LParen if is_after_in => LevelKind::List,
                    Token::LParen if is_after_name => LevelKind::Call,
                    _ => LevelKind::Group,
                };
                call_count += usize::from(kind == LevelKind::Call);
                if let Some(level) = levels.last_mut() {
                    level.is_computed = true;
                    level.operators += usize::from(*token == Token::LBracket);
                    counted.operators = counted.operators.max(level.operators);
                }
                match levels.len() <= NESTING_MAX {
                    true => levels.push(Level { kind, ..Level::default() }),
                    false => levels_beyond += 1,
                }
            }
            token if closes(token) => match levels_beyond {
                0 => call_count -= counted.close(&mut levels),
                _ => levels_beyond -= 1,
            },
            Token::SemiColon => {
                counted.statements += 1;
                while levels.len() > 1 {
                    counted.close(&mut levels);
                }
                levels = vec![Level::default()];
                (call_count, levels_beyond) = (0, 0);
            }
            token => {
                if let Some(level) = levels.last_mut() {
                    level.take(token);
                    counted.operators = counted.operators.max(level.operators);
                    counted.connectives = counted.connectives.max(level.connectives);
                }
            }
        }
        is_after_name = is_name(&token.token);
        is_after_in = is_word(&token.token, &["IN"]);
        prefix_run = if is_prefix(&token.token) { prefix_run + 1 } else { 0 };
        counted.prefixes = counted.prefixes.max(prefix_run);
        counted.calls = counted.calls.max(call_count);
        counted.nesting = counted.nesting.max(levels.len() + levels_beyond);
    }
    while levels.len() > 1 {
        counted.close(&mut levels);
    }
    counted.check()
}

impl Counted {
    /// Leaves the innermost level; answers how many calls that ends.
    fn close(&mut self, levels: &mut Vec<Level>) -> usize {
        if levels.len() < 2 {
            return 0;
        }
        let Some(level) = levels.pop() else { return 0 };
        let length = level.commas + 1;
        match level.kind {
            LevelKind::List if !level.is_computed => {
                self.literals_in_list = self.literals_in_list.max(length);
            }
            LevelKind::Group => {}
            _ => self.list = self.list.max(length),
        }
        usize::from(level.kind == LevelKind::Call)
    }
}

/// Refuses what there are more than `limit` of (54001).
pub(super) fn at_most(count: usize, limit: usize, what: &str) -> Result<()> {
    match count > limit {
        true => Err(too_complex(format!("It has {count} {what}; at most {limit} are planned."))),
        false => Ok(()),
    }
}

fn opens(token: &Token) -> bool {
    matches!(token, Token::LParen | Token::LBracket | Token::LBrace) || is_word(token, &["CASE"])
}

fn closes(token: &Token) -> bool {
    matches!(token, Token::RParen | Token::RBracket | Token::RBrace) || is_word(token, &["END"])
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

/// Words that join conditions, queries and relations.
fn is_connective(token: &Token) -> bool {
    is_word(token, &["AND", "OR", "UNION", "EXCEPT", "INTERSECT", "JOIN"])
}

/// Operators between operands and behind one; comparisons, too, can be written in a row.
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
        | Token::HashArrow
        | Token::AtSign
        | Token::CustomBinaryOperator(_)
        | Token::Eq
        | Token::DoubleEq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Tilde
        | Token::TildeAsterisk
        | Token::ExclamationMarkTilde
        | Token::ExclamationMarkTildeAsterisk
        | Token::DoubleTilde
        | Token::DoubleTildeAsterisk
        | Token::ExclamationMarkDoubleTilde
        | Token::ExclamationMarkDoubleTildeAsterisk => true,
        Token::Word(_) => is_word(token, &OPERATOR_WORDS),
        _ => false,
    }
}

/// Words that are operators.
const OPERATOR_WORDS: [&str; 10] =
    ["IS", "ISNULL", "NOTNULL", "LIKE", "ILIKE", "SIMILAR", "BETWEEN", "IN", "AT", "COLLATE"];

fn is_prefix(token: &Token) -> bool {
    matches!(token, Token::Minus | Token::Plus | Token::Tilde) || is_word(token, &["NOT"])
}

/// 54001 with a detail that names the limit.
pub fn too_complex(detail: impl Into<String>) -> Error {
    Error::new("54001", "statement is too complex").with_detail(detail)
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
    fn comparisons_and_postfix_operators_are_counted_too() {
        for operator in [" = 1", " IS NULL", " ISNULL", " IN (1)", " AT TIME ZONE 'UTC'", "[1]"] {
            let chain = format!("SELECT 1{}", operator.repeat(1_000));
            assert_eq!(code_of(&chain), Some("54001"), "{operator}");
        }
        let conditions = vec!["a = 1"; 250].join(" AND ");
        assert_eq!(code_of(&format!("SELECT 1 WHERE {conditions}")), None);
        let branches = vec!["WHEN a = 1 THEN b + 1"; 1_000].join(" ");
        assert_eq!(code_of(&format!("SELECT CASE {branches} END")), None);
    }

    #[test]
    fn the_limit_and_what_was_counted_are_said() {
        let nest = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        let error = parse(&nest).unwrap_err();
        let detail = "It has 10001 levels of nesting; at most 128 are planned.";
        assert_eq!(error.detail.as_deref(), Some(detail));
        let array = format!("SELECT ARRAY[{}]", vec!["1"; 10_001].join(","));
        let detail = "It has 10001 expressions in one list; at most 10000 are planned.";
        assert_eq!(parse(&array).unwrap_err().detail.as_deref(), Some(detail));
        let strings = "SELECT 1;".repeat(20_001);
        assert_eq!(code_of(&strings), Some("54001"));
    }

    #[test]
    fn blanks_and_signs_are_counted_before_they_are_tokens() {
        assert_eq!(code_of(&format!("SELECT{}1", " ".repeat(5_000_000))), Some("54001"));
        assert_eq!(code_of(&";".repeat(5_000_000)), Some("54001"));
        assert_eq!(code_of(&format!("SELECT '{}'", " ".repeat(5_000_000))), None);
        assert_eq!(code_of(&format!("SELECT 1 -- '\n + {}", "1".repeat(5_000_000))), None);
        assert_eq!(code_of(&format!("SELECT 1 /* ' {} */", " ".repeat(5_000_000))), None);
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
