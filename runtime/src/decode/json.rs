//! A scanner of JSON text (RFC 8259) that finds where values begin and end, checks all of their
//! grammar and decodes nothing. Texts are scanned eight bytes at a time. Input is UTF-8 by its
//! type, so only structure and escapes are left to check; nesting is limited.

use super::{Decoded, Poison};

/// Objects and arrays within each other, at most: the scanner keeps one bit for each.
const DEPTH_MAX: usize = 128;

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// There is none.
    Absent,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, `start .. end`.
    Number(usize, usize),
    /// A string, without its quotes.
    Text(usize, usize),
    /// A string with escapes in it, without its quotes.
    Escaped(usize, usize),
    /// An object or array.
    Nested(usize, usize),
}

/// A position in a JSON text.
#[derive(Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// Position of the next byte.
    pub at: usize,
}

impl<'a> Scanner<'a> {
    /// At the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    /// The error for what is found here.
    #[cold]
    pub fn unexpected(&self, expected: &str) -> Box<Poison> {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => "the end".to_owned(),
            Some(found) => format!("{found:?}"),
        };
        Poison::new(
            "22032",
            format!("invalid JSON: expected {expected} at byte {}, found {found}", self.at),
        )
    }

    /// The next byte, without taking it; 0 at the end.
    #[inline]
    pub fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    /// Skips blanks.
    #[inline]
    pub fn skip_blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    /// Takes one byte.
    #[inline]
    pub fn expect(&mut self, byte: u8, name: &str) -> Decoded<()> {
        if self.peek() != byte {
            return Err(self.unexpected(name));
        }
        self.at += 1;
        Ok(())
    }

    /// Takes `bytes` and a closing quote, if that is what follows.
    #[inline]
    pub fn eat_name(&mut self, bytes: &[u8]) -> bool {
        let end = self.at + bytes.len();
        let is_it =
            self.bytes.get(self.at..end) == Some(bytes) && self.bytes.get(end) == Some(&b'"');
        if is_it {
            self.at = end + 1;
        }
        is_it
    }

    /// Only blanks may follow.
    pub fn end(&mut self) -> Decoded<()> {
        self.skip_blanks();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.unexpected("the end")) }
    }

    /// Takes a value; blanks before it are already skipped.
    #[inline]
    pub fn value(&mut self) -> Decoded<Span> {
        match self.peek() {
            b'"' => {
                self.at += 1;
                self.string()
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'{' | b'[' => self.nested(),
            b't' => self.literal("true", Span::Bool(true)),
            b'f' => self.literal("false", Span::Bool(false)),
            b'n' => self.literal("null", Span::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    #[inline]
    fn literal(&mut self, word: &str, span: Span) -> Decoded<Span> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(span)
    }

    #[inline]
    fn digits(&mut self) -> Decoded<()> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    #[inline]
    fn number(&mut self) -> Decoded<Span> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Span::Number(start, self.at))
    }

    /// Takes the rest of a string behind its opening quote.
    #[inline]
    pub fn string(&mut self) -> Decoded<Span> {
        let start = self.at;
        let mut has_escape = false;
        loop {
            self.at = next_special(self.bytes, self.at);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let span = (start, self.at);
                    self.at += 1;
                    return Ok(match has_escape {
                        true => Span::Escaped(span.0, span.1),
                        false => Span::Text(span.0, span.1),
                    });
                }
                Some(b'\\') => {
                    has_escape = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return Err(self.unexpected("no control character in a string")),
                None => return Err(self.unexpected("a closing quote")),
            }
        }
    }

    /// Takes what follows a backslash. Surrogates are checked when the text is decoded.
    fn escape(&mut self) -> Decoded<()> {
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_ascii_hexdigit() {
                        return Err(self.unexpected("a hexadecimal digit"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.unexpected("an escape")),
        }
        Ok(())
    }

    /// Takes an object or array. Not recursive: whether each open one is an object is one bit.
    fn nested(&mut self) -> Decoded<Span> {
        let start = self.at;
        let (mut depth, mut objects) = (0, 0_u128);
        loop {
            // Here a value begins.
            let open = self.peek();
            if matches!(open, b'{' | b'[') {
                if depth == DEPTH_MAX {
                    return Err(Poison::new("54001", "JSON is nested too deeply"));
                }
                self.at += 1;
                depth += 1;
                objects = objects << 1 | u128::from(open == b'{');
                self.skip_blanks();
                let is_empty = self.peek() == if open == b'{' { b'}' } else { b']' };
                if !is_empty {
                    if open == b'{' {
                        self.name()?;
                    }
                    continue;
                }
            } else {
                self.value()?;
            }
            // Here a value, or the emptiness of a new object or array, has ended.
            loop {
                self.skip_blanks();
                let is_object = objects & 1 == 1;
                match self.peek() {
                    b',' => {
                        self.at += 1;
                        self.skip_blanks();
                        if is_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if is_object => self.at += 1,
                    b']' if !is_object => self.at += 1,
                    _ => return Err(self.unexpected("a comma or the end of an object or array")),
                }
                depth -= 1;
                objects >>= 1;
                if depth == 0 {
                    return Ok(Span::Nested(start, self.at));
                }
            }
        }
    }

    /// Takes `"name" :` and the blanks behind it.
    fn name(&mut self) -> Decoded<()> {
        self.expect(b'"', "a field name")?;
        self.string()?;
        self.skip_blanks();
        self.expect(b':', "a colon")?;
        self.skip_blanks();
        Ok(())
    }
}

/// Position of the first quote, backslash or control character from `at` on.
///
/// Eight bytes at a time: a byte of `word ^ pattern` is zero where it matches, and `(x − 1) & !x`
/// has its top bit set in the lowest zero byte (and perhaps, by borrow, in some above it).
#[inline]
fn next_special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = ONES << 7;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("the slice has eight bytes"));
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let quotes = zeros(word ^ (ONES * u64::from(b'"')));
        let escapes = zeros(word ^ (ONES * u64::from(b'\\')));
        let found = (controls | quotes | escapes) & TOPS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if *byte < 0x20 || *byte == b'"' || *byte == b'\\' {
            break;
        }
        at += 1;
    }
    at
}

/// Appends the text of a string whose escapes were checked by the scanner.
pub fn unescape(escaped: &str, out: &mut String) -> Decoded<()> {
    let mut rest = escaped;
    while let Some(position) = rest.find('\\') {
        out.push_str(&rest[..position]);
        let kind = rest.as_bytes().get(position + 1).copied().unwrap_or(b'\\');
        rest = rest.get(position + 2..).unwrap_or("");
        match kind {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => rest = unicode_escape(rest, out)?,
            other => out.push(char::from(other)),
        }
    }
    out.push_str(rest);
    Ok(())
}

/// Appends the character of `\u` and up to one more `\u` behind it; the text behind them.
fn unicode_escape<'a>(rest: &'a str, out: &mut String) -> Decoded<&'a str> {
    let invalid = || Poison::new("22P05", "invalid surrogate in a JSON string");
    let unit = |text: &str| text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let first = unit(rest).ok_or_else(invalid)?;
    if first == 0 {
        return Err(Poison::new("22P05", "\\u0000 cannot be stored in a text"));
    }
    if let Some(character) = char::from_u32(first) {
        out.push(character);
        return Ok(&rest[4..]);
    }
    let second = rest.get(4..).and_then(|rest| rest.strip_prefix("\\u")).and_then(unit);
    let second = second.filter(|second| (0xDC00..0xE000).contains(second)).ok_or_else(invalid)?;
    if first >= 0xDC00 {
        return Err(invalid());
    }
    let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    out.push(char::from_u32(code).ok_or_else(invalid)?);
    Ok(&rest[10..])
}
