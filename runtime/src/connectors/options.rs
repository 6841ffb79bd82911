//! Reading a mapping's OPTIONS. Every option is asked for by name and every other one is refused
//! by name: nothing a user writes is silently ignored.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// Options of every source that the planner reads into the event-time policy; connectors accept
/// them and leave their values to it.
pub const EVENT_TIME_OPTIONS: [&str; 3] = ["idle_timeout", "late_rows", "max_future"];

/// Units of a duration and their length in µs. Months and longer have no fixed length.
const DURATION_UNITS: [(&str, i64); 20] = [
    ("us", 1),
    ("µs", 1),
    ("microsecond", 1),
    ("microseconds", 1),
    ("ms", 1_000),
    ("millisecond", 1_000),
    ("milliseconds", 1_000),
    ("s", 1_000_000),
    ("sec", 1_000_000),
    ("second", 1_000_000),
    ("seconds", 1_000_000),
    ("min", 60_000_000),
    ("minute", 60_000_000),
    ("minutes", 60_000_000),
    ("h", 3_600_000_000),
    ("hour", 3_600_000_000),
    ("hours", 3_600_000_000),
    ("d", 86_400_000_000),
    ("day", 86_400_000_000),
    ("days", 86_400_000_000),
];

/// What to do with a message or record that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Fail the job.
    Fail,
    /// Count and skip it.
    Skip,
}

/// The options of one mapping, with the connector's name for error messages.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    connector: &'static str,
    values: &'a BTreeMap<String, String>,
}

impl<'a> Options<'a> {
    /// The options of a mapping of TYPE `connector`.
    pub fn new(connector: &'static str, values: &'a BTreeMap<String, String>) -> Self {
        Self { connector, values }
    }

    /// The value of an option, if it was given.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(String::as_str)
    }

    /// Fails with 22023 on an option that is neither in `accepted` nor an event-time one.
    pub fn refuse_unknown(&self, accepted: &[&str]) -> Result<()> {
        for name in self.values.keys() {
            let name = name.as_str();
            if !accepted.contains(&name) && !EVENT_TIME_OPTIONS.contains(&name) {
                return Err(self.unknown(name, accepted));
            }
        }
        Ok(())
    }

    /// Fails with 22023 on any option at all.
    pub fn refuse_all(&self) -> Result<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::Invalid {
                code: "22023",
                message: format!(
                    "unknown option \"{name}\" for a mapping of type {}; it takes none",
                    self.connector
                ),
            }),
        }
    }

    /// The error for an option nobody reads.
    pub fn unknown(&self, name: &str, accepted: &[&str]) -> Error {
        Error::Invalid {
            code: "22023",
            message: format!(
                "unknown option \"{name}\" for a mapping of type {}; accepted are {}",
                self.connector,
                quoted(accepted)
            ),
        }
    }

    /// The error for a value that is not what the option takes.
    pub fn wrong(&self, name: &str, value: &str, expected: &str) -> Error {
        Error::Invalid {
            code: "22023",
            message: format!(
                "invalid value \"{value}\" for option \"{name}\" of a mapping of type {}: \
                 expected {expected}",
                self.connector
            ),
        }
    }

    /// The error for an option that must be given.
    pub fn missing(&self, name: &str, expected: &str) -> Error {
        Error::Invalid {
            code: "22023",
            message: format!(
                "option \"{name}\" is required for a mapping of type {}: {expected}",
                self.connector
            ),
        }
    }

    /// A whole number of at least `least`, or `default` if it was not given.
    pub fn number(&self, name: &str, least: u64, default: u64) -> Result<u64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        match value.trim().parse() {
            Ok(number) if number >= least => Ok(number),
            _ => Err(self.wrong(name, value, &format!("a whole number of at least {least}"))),
        }
    }

    /// A duration in µs, or `default` if it was not given.
    pub fn duration(&self, name: &str, default: i64) -> Result<i64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        parse_duration(value)
            .ok_or_else(|| self.wrong(name, value, "a duration such as '5 s' or '10 ms'"))
    }

    /// `on_error`: what to do about poison.
    pub fn on_error(&self) -> Result<OnError> {
        match self.get("on_error") {
            None | Some("fail") => Ok(OnError::Fail),
            Some("skip") => Ok(OnError::Skip),
            Some(table) => Err(Error::Invalid {
                code: "0A000",
                message: format!(
                    "on_error with a table (\"{table}\") is not supported; use 'fail' or 'skip'"
                ),
            }),
        }
    }

    /// `true` or `false`, or `default` if it was not given.
    pub fn boolean(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(self.wrong(name, value, "'true' or 'false'")),
        }
    }
}

/// `'a', 'b', 'c'`.
pub fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// µs of a duration such as `5 s`, `10ms`, `1.5 minutes`; `None` if it is not one. Never negative.
pub fn parse_duration(text: &str) -> Option<i64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (amount, unit) = (&text[..end], text[end..].trim().to_ascii_lowercase());
    let micros = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    let is_number = !whole.is_empty() && (fraction.is_empty() != amount.contains('.'));
    if !is_number || fraction.contains('.') || fraction.len() > 9 {
        return None;
    }
    let mut total = whole.parse::<i64>().ok()?.checked_mul(micros)?;
    if !fraction.is_empty() {
        let scale = 10_i64.pow(fraction.len() as u32);
        let part = i128::from(fraction.parse::<i64>().ok()?) * i128::from(micros);
        total = total.checked_add((part / i128::from(scale)) as i64)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_and_without_space() {
        assert_eq!(parse_duration("5 s"), Some(5_000_000));
        assert_eq!(parse_duration("10ms"), Some(10_000));
        assert_eq!(parse_duration(" 1.5 minutes "), Some(90_000_000));
        assert_eq!(parse_duration("3 h"), Some(10_800_000_000));
        assert_eq!(parse_duration("0 s"), Some(0));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "-5 s", "5 parsecs", "1..5 s", "5. s", ".5 s", "9e9 s", "5 s 3"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration("99999999999999999 days"), None);
    }

    #[test]
    fn unknown_option_is_named_with_those_accepted() {
        let values = BTreeMap::from([("speed".to_owned(), "9".to_owned())]);
        let error = Options::new("Generator", &values).refuse_unknown(&["rate"]).unwrap_err();
        let Error::Invalid { code, message } = error else { panic!("{error:?}") };
        assert_eq!(code, "22023");
        assert!(message.contains("\"speed\"") && message.contains("'rate'"), "{message}");
    }
}
