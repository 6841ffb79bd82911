//! `Picture`: a date and time picture (`YYYY-MM-DD HH24:MI`) cut into its parts.
//! Keywords are found longest first; what is none is text, and so is all between double quotes.

use datafusion::error::Result;

use crate::functions::error::user_error;

/// Longest picture, in bytes: it is read again for each batch.
const PICTURE_BYTES_MAX: usize = 1024;

/// How the letters of a name are written, as the keyword is: `MON`, `Mon`, `mon`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    /// All capitals.
    Upper,
    /// The first one a capital.
    Title,
    /// None.
    Lower,
}

/// What a keyword stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Last digits of the year.
    Year(u8),
    /// `2,024`.
    YearComma,
    /// Last digits of the year of ISO weeks.
    IsoYear(u8),
    /// Century.
    Century,
    /// Quarter.
    Quarter,
    /// 01 to 12.
    Month,
    /// Whole name.
    MonthName(Letters),
    /// Three letters.
    MonthShort(Letters),
    /// I to XII.
    MonthRoman(Letters),
    /// Day of the month.
    Day,
    /// Day of the year.
    DayOfYear,
    /// 1 is Sunday.
    DayOfWeek,
    /// 1 is Monday.
    IsoDayOfWeek,
    /// Whole name.
    DayName(Letters),
    /// Three letters.
    DayShort(Letters),
    /// Week of the month.
    WeekOfMonth,
    /// Week of the year, the first begins on January 1.
    Week,
    /// ISO week.
    IsoWeek,
    /// Julian day.
    Julian,
    /// 00 to 23.
    Hour24,
    /// 01 to 12.
    Hour12,
    /// Minutes.
    Minute,
    /// Seconds.
    Second,
    /// Digits of the second's fraction.
    Fraction(u8),
    /// Seconds since midnight.
    SecondOfDay,
    /// `AM`, with points or without.
    Meridiem(Letters, bool),
    /// `AD`, with points or without.
    Era(Letters, bool),
    /// Zone's abbreviation.
    Zone(Letters),
    /// Zone's hours.
    ZoneHours,
    /// Zone's minutes.
    ZoneMinutes,
    /// `+02` or `+05:30`.
    ZoneOffset,
}

/// One part of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A keyword with its modifiers.
    Field {
        /// What it stands for.
        field: Field,
        /// The keyword as written.
        keyword: String,
        /// `FM` before it: no padding.
        is_bare: bool,
        /// `TH` or `th` behind it.
        ordinal: Option<Letters>,
    },
    /// A character that stands for itself.
    Text(char),
    /// A character between double quotes.
    Quoted(char),
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its parts.
    pub parts: Vec<Part>,
}

impl Picture {
    /// Cuts a picture into its parts.
    pub fn read(text: &str) -> Result<Self> {
        if text.len() > PICTURE_BYTES_MAX {
            return Err(user_error("22023", "format picture is too long"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if first == '"' {
                rest = quoted(&rest[1..], &mut parts);
                continue;
            }
            let (is_bare, after) = modifiers(rest);
            if let Some((field, length)) = keyword(after) {
                let word = after[..length].to_owned();
                rest = &after[length..];
                let ordinal = [("TH", Letters::Upper), ("th", Letters::Lower)];
                let ordinal = ordinal.into_iter().find(|(suffix, _)| rest.starts_with(suffix));
                if ordinal.is_some() {
                    rest = &rest[2..];
                }
                let ordinal = ordinal.map(|(_, letters)| letters);
                parts.push(Part::Field { field, keyword: word, is_bare, ordinal });
                continue;
            }
            if after.len() < rest.len() {
                // A modifier that modifies nothing.
                rest = after;
                continue;
            }
            let escaped = rest.strip_prefix("\\\"").map(|_| '"');
            parts.push(Part::Text(escaped.unwrap_or(first)));
            rest = &rest[escaped.map_or(first.len_utf8(), |_| 2)..];
        }
        Ok(Self { parts })
    }
}

/// Text up to a closing quote; what follows it.
fn quoted<'a>(text: &'a str, parts: &mut Vec<Part>) -> &'a str {
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return &text[index + 1..],
            '\\' => {
                if let Some((_, next)) = characters.next() {
                    parts.push(Part::Quoted(next));
                }
            }
            other => parts.push(Part::Quoted(other)),
        }
    }
    ""
}

/// Whether `FM` is among the modifiers at the start of `text`, and what follows them.
fn modifiers(text: &str) -> (bool, &str) {
    let mut rest = text;
    let mut is_bare = false;
    loop {
        let Some(word) = rest.get(..2) else { return (is_bare, rest) };
        match word {
            "FM" | "fm" => is_bare = true,
            "TM" | "tm" | "FX" | "fx" => {}
            _ => return (is_bare, rest),
        }
        rest = &rest[2..];
    }
}

/// The keyword at the start of `text` and its length.
fn keyword(text: &str) -> Option<(Field, usize)> {
    use Letters::{Lower, Title, Upper};
    // Names: their spelling says how the value is written.
    const NAMES: [(&str, Field); 27] = [
        ("MONTH", Field::MonthName(Upper)),
        ("Month", Field::MonthName(Title)),
        ("month", Field::MonthName(Lower)),
        ("MON", Field::MonthShort(Upper)),
        ("Mon", Field::MonthShort(Title)),
        ("mon", Field::MonthShort(Lower)),
        ("DAY", Field::DayName(Upper)),
        ("Day", Field::DayName(Title)),
        ("day", Field::DayName(Lower)),
        ("DY", Field::DayShort(Upper)),
        ("Dy", Field::DayShort(Title)),
        ("dy", Field::DayShort(Lower)),
        ("RM", Field::MonthRoman(Upper)),
        ("rm", Field::MonthRoman(Lower)),
        ("A.M.", Field::Meridiem(Upper, true)),
        ("P.M.", Field::Meridiem(Upper, true)),
        ("a.m.", Field::Meridiem(Lower, true)),
        ("p.m.", Field::Meridiem(Lower, true)),
        ("AM", Field::Meridiem(Upper, false)),
        ("PM", Field::Meridiem(Upper, false)),
        ("am", Field::Meridiem(Lower, false)),
        ("pm", Field::Meridiem(Lower, false)),
        ("B.C.", Field::Era(Upper, true)),
        ("A.D.", Field::Era(Upper, true)),
        ("BC", Field::Era(Upper, false)),
        ("AD", Field::Era(Upper, false)),
        ("tz", Field::Zone(Lower)),
    ];
    // The longer ones first.
    const FIELDS: [(&str, Field); 40] = [
        ("SSSSS", Field::SecondOfDay),
        ("Y,YYY", Field::YearComma),
        ("HH24", Field::Hour24),
        ("HH12", Field::Hour12),
        ("IYYY", Field::IsoYear(4)),
        ("SSSS", Field::SecondOfDay),
        ("YYYY", Field::Year(4)),
        ("DDD", Field::DayOfYear),
        ("FF1", Field::Fraction(1)),
        ("FF2", Field::Fraction(2)),
        ("FF3", Field::Fraction(3)),
        ("FF4", Field::Fraction(4)),
        ("FF5", Field::Fraction(5)),
        ("FF6", Field::Fraction(6)),
        ("IYY", Field::IsoYear(3)),
        ("TZH", Field::ZoneHours),
        ("TZM", Field::ZoneMinutes),
        ("YYY", Field::Year(3)),
        ("CC", Field::Century),
        ("DD", Field::Day),
        ("HH", Field::Hour12),
        ("ID", Field::IsoDayOfWeek),
        ("IW", Field::IsoWeek),
        ("IY", Field::IsoYear(2)),
        ("MI", Field::Minute),
        ("MM", Field::Month),
        ("MS", Field::Fraction(3)),
        ("OF", Field::ZoneOffset),
        ("SS", Field::Second),
        ("TZ", Field::Zone(Upper)),
        ("US", Field::Fraction(6)),
        ("WW", Field::Week),
        ("YY", Field::Year(2)),
        ("D", Field::DayOfWeek),
        ("I", Field::IsoYear(1)),
        ("J", Field::Julian),
        ("Q", Field::Quarter),
        ("W", Field::WeekOfMonth),
        ("Y", Field::Year(1)),
        ("bc", Field::Era(Lower, false)),
    ];
    let name = NAMES.iter().find(|(word, _)| text.starts_with(word));
    let is_field =
        |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let found = name.or_else(|| FIELDS.iter().find(|(word, _)| is_field(word)));
    found.map(|(word, field)| (*field, word.len()))
}
