//! Decoders: bytes of messages straight into Arrow columns, driven by the schema of the rows that
//! are asked for. A message that cannot be decoded is a [`Poison`]; it leaves no trace in the
//! columns, and what to do about it is the caller's decision.
//!
//! Suggested reading order: [`column`] (where values go), [`value`] and [`time`] (text to value),
//! [`json`] (the scanner), [`json_flat`], [`csv`], [`whole`] (the formats), [`format`] (any of them),
//! [`records`] (to batches).

pub mod column;
pub mod csv;
pub mod format;
pub mod json;
pub mod json_flat;
pub mod records;
pub mod time;
pub mod value;
pub mod whole;

/// Why a message could not be decoded. Boxed: the good path must not carry it around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// SQLSTATE: `22P02` not of the type, `22003` out of range, `22021` not UTF-8, `22032` not JSON.
    pub code: &'static str,
    /// Lower case, no full stop.
    pub reason: String,
}

impl Poison {
    /// A poison with a code and a reason.
    pub fn new(code: &'static str, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { code, reason: reason.into() })
    }

    /// The same, saying which column it happened in.
    pub fn in_column(mut self: Box<Self>, name: &str) -> Box<Self> {
        self.reason = format!("column \"{name}\": {}", self.reason);
        self
    }
}

/// A decoder's result.
pub type Decoded<T> = Result<T, Box<Poison>>;

/// The longest piece of a message that an error shows.
const EXCERPT_LEN_MAX: usize = 60;

/// The beginning of a text, for error messages.
pub fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_LEN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A message as text.
pub fn utf8(bytes: &[u8]) -> Decoded<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        Poison::new("22021", format!("invalid UTF-8 at byte {}", error.valid_up_to()))
    })
}
