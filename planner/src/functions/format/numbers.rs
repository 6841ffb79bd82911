//! `NumberPicture`: a number's picture (`9,999.00`, `S099`, `RN`) and `to_char` by it.
//!
//! ```text
//! '9,990.99'  of 12.5   →   blanks until a digit, a group mark or a 0 is due;
//!                           the sign stands before the first digit:  '    12.50'
//! ```

use datafusion::error::Result;

use super::write_time::ordinal_suffix;
use crate::functions::error::user_error;

/// Longest picture, in bytes.
const PICTURE_BYTES_MAX: usize = 256;

/// Width that roman numbers are padded to.
const ROMAN_WIDTH: usize = 15;

/// Where the sign of a number is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Before the first digit; a blank if positive.
    Plain,
    /// `S` in front: `+` or `-` before the first digit.
    Before,
    /// `S` behind.
    After,
    /// `MI`: `-` or a blank, at the end or the start.
    Minus { is_after: bool },
    /// `PL`: `+` or a blank at the start or end, and a plain `-`.
    Plus { is_after: bool },
    /// `SG`: `+` or `-` at the start or end.
    Any { is_after: bool },
    /// `PR`: `<5>`.
    Brackets,
}

/// One place before the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// `9` or `0`: whether zeros are written from here on.
    Digit { is_zero: bool },
    /// A group mark.
    Group,
    /// Any other character.
    Text(char),
}

/// A picture.
#[derive(Debug, Clone)]
pub struct NumberPicture {
    whole: Vec<Place>,
    /// Places after the point: whether each is a `0`.
    fraction: Vec<bool>,
    has_point: bool,
    sign: Sign,
    is_bare: bool,
    ordinal: Option<&'static str>,
    roman: Option<bool>,
    has_exponent: bool,
}

impl NumberPicture {
    /// Reads a picture; 42601 if it cannot be one.
    pub fn read(text: &str) -> Result<Self> {
        if text.len() > PICTURE_BYTES_MAX {
            return Err(user_error("22023", "format picture is too long"));
        }
        let mut this = Self {
            whole: Vec::new(),
            fraction: Vec::new(),
            has_point: false,
            sign: Sign::Plain,
            is_bare: false,
            ordinal: None,
            roman: None,
            has_exponent: false,
        };
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = match this.keyword(rest)? {
                0 => {
                    if !this.has_point {
                        this.whole.push(Place::Text(first));
                    }
                    first.len_utf8()
                }
                length => length,
            };
            rest = &rest[length..];
        }
        Ok(this)
    }

    /// Takes a keyword at the start of `text`; its length, 0 if there is none.
    fn keyword(&mut self, text: &str) -> Result<usize> {
        let start = |length: usize| text.get(..length).map(str::to_ascii_uppercase);
        let has_digits = self.digit_count() > 0 || self.has_point;
        if start(4).as_deref() == Some("EEEE") {
            self.has_exponent = true;
            return Ok(4);
        }
        let sign = match start(2).as_deref() {
            Some("FM") => {
                self.is_bare = true;
                return Ok(2);
            }
            Some("TH") => {
                self.ordinal = Some(if text.starts_with("th") { "th" } else { "TH" });
                return Ok(2);
            }
            Some("RN") => {
                self.roman = Some(text.starts_with("rn"));
                return Ok(2);
            }
            Some("MI") => Some(Sign::Minus { is_after: has_digits }),
            Some("PL") => Some(Sign::Plus { is_after: has_digits }),
            Some("SG") => Some(Sign::Any { is_after: has_digits }),
            Some("PR") => Some(Sign::Brackets),
            _ => None,
        };
        if let Some(sign) = sign {
            self.sign = sign;
            return Ok(2);
        }
        match start(1).as_deref() {
            Some("9" | "0") => self.digit(text.starts_with('0')),
            Some("." | "D") if self.has_point => {
                return Err(user_error("42601", "multiple decimal points"));
            }
            Some("." | "D") => self.has_point = true,
            Some("," | "G") => self.whole.push(Place::Group),
            Some("S") if self.sign != Sign::Plain => {
                return Err(user_error("42601", "cannot use \"S\" twice"));
            }
            Some("S") => self.sign = if has_digits { Sign::After } else { Sign::Before },
            // The C locale has no mark for its currency.
            Some("L") => self.whole.push(Place::Text(' ')),
            Some("V") => {
                return Err(user_error("0A000", "\"V\" in a number picture is not supported"));
            }
            _ => return Ok(0),
        }
        Ok(1)
    }

    fn digit(&mut self, is_zero: bool) {
        match self.has_point {
            true => self.fraction.push(is_zero),
            false => self.whole.push(Place::Digit { is_zero }),
        }
    }

    fn digit_count(&self) -> usize {
        self.whole.iter().filter(|place| matches!(place, Place::Digit { .. })).count()
    }

    /// Whether the picture has a decimal point.
    pub fn has_point(&self) -> bool {
        self.has_point
    }

    /// Writes a number given as plain digits: `-12.50`, `NaN`.
    pub fn write(&self, number: &str) -> String {
        let (is_negative, digits) = match number.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, number),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return self.overflow(is_negative);
        }
        if self.has_exponent {
            return self.scientific(is_negative, digits);
        }
        let (whole, fraction) = rounded(digits, self.fraction.len());
        if let Some(is_lower) = self.roman {
            return self.in_roman(&whole, is_negative, is_lower);
        }
        if whole.len() > self.digit_count() {
            return self.overflow(is_negative);
        }
        let is_negative = is_negative && !(whole.is_empty() && fraction.bytes().all(|b| b == b'0'));
        self.signed(is_negative, &self.body(&whole), &self.tail(&fraction, &whole))
    }

    /// The places before the point: blanks, then digits.
    fn body(&self, whole: &str) -> String {
        let count = self.digit_count();
        let mut text = String::new();
        let (mut index, mut has_begun) = (0, false);
        for place in &self.whole {
            match place {
                Place::Digit { is_zero } => {
                    let from_end = count - index;
                    index += 1;
                    has_begun |= *is_zero || from_end <= whole.len();
                    // The last place shows a 0 if nothing else would be shown.
                    let is_only = from_end == 1 && whole.is_empty() && !self.has_point;
                    if has_begun || is_only {
                        let digit = whole.len().checked_sub(from_end);
                        let digit = digit.and_then(|at| whole.as_bytes().get(at));
                        text.push(digit.map_or('0', |digit| char::from(*digit)));
                    } else if !self.is_bare {
                        text.push(' ');
                    }
                }
                Place::Group if has_begun => text.push(','),
                Place::Group if self.is_bare => {}
                Place::Group => text.push(' '),
                Place::Text(character) => text.push(*character),
            }
        }
        text
    }

    /// The point and the places behind it; bare pictures leave zeros out that no `0` asks for.
    fn tail(&self, fraction: &str, whole: &str) -> String {
        let mut text = String::new();
        if self.has_point {
            let asked = self.fraction.iter().rposition(|is_zero| *is_zero).map_or(0, |at| at + 1);
            let kept = match self.is_bare {
                true => fraction.trim_end_matches('0').len().max(asked),
                false => fraction.len(),
            };
            text.push('.');
            text.push_str(&fraction[..kept]);
        }
        if let Some(ordinal) = self.ordinal {
            let suffix = ordinal_suffix(whole);
            let is_upper = ordinal == "TH";
            text.push_str(&if is_upper { suffix.to_uppercase() } else { suffix.to_owned() });
        }
        text
    }

    fn signed(&self, is_negative: bool, body: &str, tail: &str) -> String {
        let plain = match (is_negative, self.is_bare) {
            (true, _) => "-",
            (false, true) => "",
            (false, false) => " ",
        };
        let both = if is_negative { "-" } else { "+" };
        let anchored = |sign: &str| {
            let digits = body.trim_start_matches(' ');
            format!("{}{sign}{digits}{tail}", &body[..body.len() - digits.len()])
        };
        match self.sign {
            Sign::Plain => anchored(plain),
            Sign::Before => anchored(both),
            Sign::After => format!("{body}{tail}{both}"),
            Sign::Minus { is_after: true } => format!("{body}{tail}{plain}"),
            Sign::Minus { is_after: false } => format!("{plain}{body}{tail}"),
            Sign::Plus { is_after } => {
                let plus = if is_negative { if self.is_bare { "" } else { " " } } else { "+" };
                let number = anchored(plain);
                if is_after { format!("{number}{plus}") } else { format!("{plus}{number}") }
            }
            Sign::Any { is_after: true } => format!("{body}{tail}{both}"),
            Sign::Any { is_after: false } => format!("{both}{body}{tail}"),
            Sign::Brackets => {
                let (open, close) = if is_negative { ("<", ">") } else { (plain, plain) };
                format!("{}{close}", anchored(open))
            }
        }
    }

    /// `#` in every place.
    fn overflow(&self, is_negative: bool) -> String {
        let body: String = self
            .whole
            .iter()
            .map(|place| match place {
                Place::Digit { .. } => '#',
                Place::Group => ',',
                Place::Text(character) => *character,
            })
            .collect();
        let point = if self.has_point { "." } else { "" };
        self.signed(is_negative, &body, &format!("{point}{}", "#".repeat(self.fraction.len())))
    }

    fn in_roman(&self, whole: &str, is_negative: bool, is_lower: bool) -> String {
        let value: u32 = whole.parse().unwrap_or_default();
        let text = match value {
            1..=3999 if !is_negative => roman(value),
            _ => "#".repeat(ROMAN_WIDTH),
        };
        let text = if is_lower { text.to_lowercase() } else { text };
        let width = if self.is_bare { 0 } else { ROMAN_WIDTH };
        format!("{text:>width$}")
    }

    /// `9.99EEEE`: one digit, the point, an exponent of two digits at least.
    fn scientific(&self, is_negative: bool, digits: &str) -> String {
        let value: f64 = digits.parse().unwrap_or_default();
        let text = format!("{value:.*e}", self.fraction.len());
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        let front = match (is_negative, self.is_bare) {
            (true, _) => "-",
            (false, true) => "",
            (false, false) => " ",
        };
        format!("{front}{mantissa}e{sign}{exponent:0>2}")
    }
}

/// Digits before the point (none for 0) and `places` behind it, half away from zero.
fn rounded(digits: &str, places: usize) -> (String, String) {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut kept: Vec<u8> = whole.bytes().chain(fraction.bytes().take(places)).collect();
    let missing = places.saturating_sub(fraction.len());
    kept.extend(std::iter::repeat_n(b'0', missing));
    let mut carries = fraction.as_bytes().get(places).is_some_and(|digit| *digit >= b'5');
    for digit in kept.iter_mut().rev().take_while(|_| true) {
        if !carries {
            break;
        }
        carries = *digit == b'9';
        *digit = if carries { b'0' } else { *digit + 1 };
    }
    if carries {
        kept.insert(0, b'1');
    }
    let text = String::from_utf8_lossy(&kept).into_owned();
    let (whole, fraction) = text.split_at(text.len() - places);
    (whole.trim_start_matches('0').to_owned(), fraction.to_owned())
}

fn roman(mut value: u32) -> String {
    const SIGNS: [(u32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let mut text = String::new();
    for (worth, sign) in SIGNS {
        while value >= worth {
            text.push_str(sign);
            value -= worth;
        }
    }
    text
}
