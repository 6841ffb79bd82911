//! The simple protocol's fast path: a statement with its literals taken out is a *shape*, the plan
//! cache's key. One pass over the bytes, no parser.
//!
//! ```text
//! SELECT v FROM t WHERE k = 42;   →   "SELECT v FROM t WHERE k = $1"  ["42"]
//! ```

use storage::Datum;

use super::compile::{number, string};
use crate::SqlType;

/// Longest statement that is looked at.
const SHAPE_BYTES_MAX: usize = 4_096;

/// A statement without its literals.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    /// The text with `$n` in place of each literal.
    pub text: String,
    /// The literals in order.
    pub literals: Vec<Literal>,
}

/// A literal as written.
#[derive(Debug, PartialEq, Eq)]
pub enum Literal {
    /// Digits, with a sign.
    Number(String),
    /// The text between the quotes.
    String(String),
}

impl Shape {
    /// The shape of a statement; `None` if it cannot be a keyed one, or would need a real parser.
    pub fn of(sql: &str) -> Option<Self> {
        let sql = sql.trim();
        let sql = sql.strip_suffix(';').unwrap_or(sql).trim_end();
        if sql.len() > SHAPE_BYTES_MAX || !is_candidate(sql) {
            return None;
        }
        let bytes = sql.as_bytes();
        let mut text = String::with_capacity(sql.len());
        let mut literals = Vec::new();
        // Where the part of `sql` begins that has not been copied yet.
        let (mut copied, mut at) = (0, 0);
        // The last byte that was no blank: tells a sign from a minus.
        let mut before = b' ';
        while at < bytes.len() {
            let byte = bytes[at];
            let end = match byte {
                b'\'' => string_end(bytes, at)?,
                b'0'..=b'9' => number_end(bytes, at)?,
                b'-' if matches!(before, b'=' | b'(' | b',' | b'+' | b'*' | b'/' | b'%')
                    && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) =>
                {
                    number_end(bytes, at + 1)?
                }
                b'"' => {
                    at += 1 + sql[at + 1..].find('"')? + 1;
                    before = b'"';
                    continue;
                }
                // Comments, dollar quotes, parameters, several statements: for the parser.
                b'-' if bytes.get(at + 1) == Some(&b'-') => return None,
                b'/' if bytes.get(at + 1) == Some(&b'*') => return None,
                b'$' | b';' | b'\\' => return None,
                _ if is_word(byte) => {
                    let length = bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
                    at += length;
                    // E'…', B'…', U&'…' are not plain strings.
                    if bytes.get(at) == Some(&b'\'') {
                        return None;
                    }
                    before = b'a';
                    continue;
                }
                _ => {
                    if !byte.is_ascii_whitespace() {
                        before = byte;
                    }
                    at += 1;
                    continue;
                }
            };
            literals.push(match byte {
                b'\'' => Literal::String(sql[at + 1..end - 1].replace("''", "'")),
                _ => Literal::Number(sql[at..end].to_owned()),
            });
            text.push_str(&sql[copied..at]);
            text.push('$');
            text.push_str(&literals.len().to_string());
            (copied, at, before) = (end, end, b'0');
        }
        text.push_str(&sql[copied..]);
        Some(Self { text, literals })
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn is_candidate(sql: &str) -> bool {
    let first = sql.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    ["select", "insert", "update", "delete", "sink"]
        .iter()
        .any(|word| first.eq_ignore_ascii_case(word))
}

fn string_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// After the number that begins at `at`; `None` for what is not a plain one (`1e5`, `0x1F`, `1_0`).
fn number_end(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = at + digits(at);
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    match bytes.get(end) {
        Some(byte) if is_word(*byte) || *byte == b'.' => None,
        _ => Some(end),
    }
}

/// The literals as values of a plan's parameters; `None` where the parser has to have its say.
pub fn literals(shape: &Shape, types: &[SqlType]) -> Option<Vec<Datum>> {
    if shape.literals.len() != types.len() {
        return None;
    }
    shape
        .literals
        .iter()
        .zip(types)
        .map(|(literal, sql_type)| match literal {
            Literal::Number(digits) => number(digits, sql_type),
            Literal::String(text) => string(text, sql_type),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(sql: &str) -> Option<(String, usize)> {
        Shape::of(sql).map(|shape| (shape.text, shape.literals.len()))
    }

    #[test]
    fn literals_leave_the_shape() {
        assert_eq!(
            shape("SELECT v FROM t1 WHERE k = -42 ;"),
            Some(("SELECT v FROM t1 WHERE k = $1".to_owned(), 1))
        );
        assert_eq!(
            shape("insert into t values (1, 'it''s', 2.5)"),
            Some(("insert into t values ($1, $2, $3)".to_owned(), 3))
        );
        let literals = Shape::of("insert into t values (1, 'it''s')").expect("a shape").literals;
        assert_eq!(literals[1], Literal::String("it's".to_owned()));
    }

    #[test]
    fn a_minus_between_operands_is_no_sign() {
        assert_eq!(
            shape("update t set v = v -1 where k = 2"),
            Some(("update t set v = v -$1 where k = $2".to_owned(), 2))
        );
        assert_eq!(
            shape("update t set v = v + -1 where k = 2"),
            Some(("update t set v = v + $1 where k = $2".to_owned(), 2))
        );
    }

    #[test]
    fn what_needs_a_parser_has_no_shape() {
        for sql in [
            "CREATE TABLE t (k int)",
            "select E'\\n'",
            "select 1; select 2",
            "select v from t where k = $1",
            "select 1 -- comment",
            "select 1e5",
            "select 'open",
        ] {
            assert_eq!(shape(sql), None, "{sql}");
        }
    }
}
