//! The session settings there are: names, defaults and what each accepts. A setting that nothing
//! here obeys accepts only the value that is true anyway; it is never silently ignored.

use std::collections::BTreeMap;

use planner::{Error, Result};

use crate::wire::types::TimeZone;

/// What PostgreSQL's version a client may count on, and ours.
pub const SERVER_VERSION: &str = concat!("15.0 (Tidewater ", env!("CARGO_PKG_VERSION"), ")");

/// Longest name, in bytes, as in PostgreSQL.
const NAME_BYTES_MAX: usize = 63;

/// Longest name of a time zone, in bytes, as in PostgreSQL.
const ZONE_BYTES_MAX: usize = 255;

/// What a setting accepts.
#[derive(Debug, Clone, Copy)]
enum Accepts {
    /// Any text.
    Text,
    /// A name: see [`clean_name`].
    Name,
    /// One of these words, compared without case.
    Words(&'static [&'static str]),
    /// A time in ms, or with a unit.
    Duration,
    /// A time zone.
    Zone,
    /// `UTF8` in any spelling.
    Encoding,
    /// `ISO`, with any order of day and month.
    DateStyle,
    /// Nothing: 55P02.
    Nothing,
}

/// A setting.
struct Setting {
    /// Name as PostgreSQL writes it.
    name: &'static str,
    default: &'static str,
    accepts: Accepts,
    /// Whether clients are told its value at start-up and when it changes.
    is_reported: bool,
}

const fn setting(name: &'static str, default: &'static str, accepts: Accepts) -> Setting {
    Setting { name, default, accepts, is_reported: false }
}

const fn reported(name: &'static str, default: &'static str, accepts: Accepts) -> Setting {
    Setting { name, default, accepts, is_reported: true }
}

const SETTINGS: &[Setting] = &[
    reported("server_version", SERVER_VERSION, Accepts::Nothing),
    reported("server_encoding", "UTF8", Accepts::Nothing),
    reported("client_encoding", "UTF8", Accepts::Encoding),
    reported("application_name", "", Accepts::Name),
    reported("default_transaction_read_only", "off", Accepts::Words(&["off"])),
    reported("in_hot_standby", "off", Accepts::Nothing),
    reported("is_superuser", "on", Accepts::Nothing),
    reported("session_authorization", "", Accepts::Nothing),
    reported("DateStyle", "ISO, MDY", Accepts::DateStyle),
    reported("IntervalStyle", "postgres", Accepts::Words(&["postgres"])),
    reported("TimeZone", "UTC", Accepts::Zone),
    reported("integer_datetimes", "on", Accepts::Nothing),
    reported("standard_conforming_strings", "on", Accepts::Words(&["on"])),
    setting("server_version_num", "150000", Accepts::Nothing),
    setting("max_identifier_length", "63", Accepts::Nothing),
    setting("search_path", "\"$user\", public", Accepts::Text),
    setting("bytea_output", "hex", Accepts::Words(&["hex"])),
    setting("extra_float_digits", "1", Accepts::Words(&["1", "2", "3"])),
    setting("client_min_messages", "notice", Accepts::Words(&["notice", "warning", "error"])),
    setting("statement_timeout", "0", Accepts::Duration),
    setting("idle_in_transaction_session_timeout", "0", Accepts::Duration),
    setting("idle_session_timeout", "0", Accepts::Duration),
    setting("lock_timeout", "0", Accepts::Words(&["0"])),
    setting("read_mode", "provisional", Accepts::Words(&["provisional", "durable"])),
    setting("transaction_isolation", "read committed", ISOLATION),
    setting("default_transaction_isolation", "read committed", ISOLATION),
    setting("transaction_read_only", "off", Accepts::Words(&["off"])),
    setting("default_transaction_deferrable", "off", Accepts::Words(&["off"])),
    setting("synchronous_commit", "on", Accepts::Words(&["on", "off", "local"])),
    setting("row_security", "on", Accepts::Words(&["on"])),
    setting("escape_string_warning", "on", Accepts::Words(&["on", "off"])),
];

/// READ UNCOMMITTED is READ COMMITTED, as in PostgreSQL.
const ISOLATION: Accepts = Accepts::Words(&["read committed", "read uncommitted"]);

fn find(name: &str) -> Result<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        Error::new("42704", format!("unrecognized configuration parameter \"{name}\""))
    })
}

/// All settings at their defaults, by lower-case name.
pub fn defaults() -> BTreeMap<String, String> {
    let entry = |setting: &Setting| (setting.name.to_ascii_lowercase(), setting.default.to_owned());
    SETTINGS.iter().map(entry).collect()
}

/// The settings told to clients, by PostgreSQL's spelling of the name.
pub fn reported_names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter(|setting| setting.is_reported).map(|setting| setting.name)
}

/// PostgreSQL's spelling of a setting's name, if clients are told when it changes.
pub fn reported_name(name: &str) -> Option<&'static str> {
    find(name).ok().filter(|setting| setting.is_reported).map(|setting| setting.name)
}

/// The value to store for `SET name = value`; an error if the setting does not accept it.
pub fn validate(name: &str, value: &str) -> Result<String> {
    let setting = find(name)?;
    let refused = || {
        let message = format!("invalid value for parameter \"{}\": \"{value}\"", setting.name);
        Error::new("22023", message)
    };
    match setting.accepts {
        Accepts::Text => Ok(value.to_owned()),
        Accepts::Name => Ok(clean_name(value)),
        Accepts::Words(words) => {
            let word = match value.to_ascii_lowercase().as_str() {
                "true" | "yes" if words.contains(&"on") => "on".to_owned(),
                "false" | "no" if words.contains(&"off") => "off".to_owned(),
                word => word.to_owned(),
            };
            let hint = || format!("Available values: {}.", words.join(", "));
            let is_known = words.contains(&word.as_str());
            is_known.then_some(word).ok_or_else(|| refused().with_hint(hint()))
        }
        Accepts::Duration => Ok(duration_ms(value).ok_or_else(refused)?.to_string()),
        Accepts::Zone => {
            if value.len() > ZONE_BYTES_MAX {
                return Err(refused());
            }
            TimeZone::of_setting(value)?;
            Ok(value.to_owned())
        }
        Accepts::Encoding => {
            let letters = value.chars().filter(char::is_ascii_alphanumeric);
            let spelling = letters.collect::<String>().to_ascii_lowercase();
            match spelling.as_str() {
                "utf8" | "unicode" => Ok("UTF8".to_owned()),
                _ => Err(refused().with_hint("The server speaks UTF8 only.")),
            }
        }
        Accepts::DateStyle => {
            let style = value.to_ascii_lowercase();
            let mut words = style.split(',').map(str::trim);
            let is_iso = |word| matches!(word, "iso" | "mdy" | "us");
            match words.all(is_iso) {
                true => Ok("ISO, MDY".to_owned()),
                false => Err(refused().with_hint("The server writes dates as ISO, MDY only.")),
            }
        }
        Accepts::Nothing => {
            Err(Error::new("55P02", format!("parameter \"{}\" cannot be changed", setting.name)))
        }
    }
}

/// The beginning of a name that is longer than a name may be, as PostgreSQL cuts identifiers; `None`
/// if the setting takes the value whole. What is reported has to stay short: clients take a long
/// ParameterStatus for a broken connection.
pub fn truncated<'a>(name: &str, value: &'a str) -> Option<&'a str> {
    let is_name = find(name).is_ok_and(|setting| matches!(setting.accepts, Accepts::Name));
    let end = value.floor_char_boundary(NAME_BYTES_MAX);
    (is_name && end < value.len()).then(|| &value[..end])
}

/// A name as PostgreSQL keeps it: cut, each byte that is no printable ASCII a question mark.
fn clean_name(value: &str) -> String {
    let bytes = value.as_bytes()[..value.floor_char_boundary(NAME_BYTES_MAX)].iter();
    bytes.map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' }).collect()
}

/// The default of a setting; 42704 if there is no such setting.
pub fn default_of(name: &str) -> Result<&'static str> {
    find(name).map(|setting| setting.default)
}

/// ms of `1500`, `'2s'`, `'1 min'`.
fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let factor = match text[end..].trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor).filter(|ms| *ms <= i32::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_refuse_what_they_would_not_obey() {
        assert_eq!(validate("STATEMENT_TIMEOUT", "2s").unwrap(), "2000");
        assert_eq!(validate("statement_timeout", "2 parsecs").unwrap_err().code, "22023");
        assert_eq!(validate("client_encoding", "'utf-8'").unwrap(), "UTF8");
        assert_eq!(validate("client_encoding", "LATIN1").unwrap_err().code, "22023");
        assert_eq!(validate("datestyle", "German").unwrap_err().code, "22023");
        assert_eq!(validate("server_version", "16").unwrap_err().code, "55P02");
        assert_eq!(validate("no_such", "1").unwrap_err().code, "42704");
        assert_eq!(validate("transaction_isolation", "serializable").unwrap_err().code, "22023");
    }

    #[test]
    fn names_are_cut_and_cleaned_as_in_postgresql() {
        let long = "a".repeat(1_000_000);
        assert_eq!(validate("application_name", &long).unwrap(), long[..63]);
        assert_eq!(truncated("Application_Name", &long), Some(&long[..63]));
        assert_eq!(truncated("search_path", &long), None);
        assert_eq!(truncated("application_name", &long[..63]), None);
        assert_eq!(validate("application_name", "\u{e4}b\tc~ \u{7f}").unwrap(), "??b?c~ ?");
        // A character is not cut in two.
        let umlauts = "\u{e4}".repeat(40);
        assert_eq!(validate("application_name", &umlauts).unwrap(), "?".repeat(62));
    }

    #[test]
    fn no_reported_setting_grows_long() {
        for name in reported_names() {
            for value in ["a".repeat(100_000), format!("{}1", "0".repeat(100_000))] {
                let stored = validate(name, &value).unwrap_or_default();
                assert!(stored.len() <= ZONE_BYTES_MAX, "{name}");
            }
        }
    }

    #[test]
    fn every_default_is_accepted_or_fixed() {
        for (name, value) in defaults() {
            match validate(&name, &value) {
                Ok(stored) => assert_eq!(stored, value, "{name}"),
                Err(error) => assert_eq!(error.code, "55P02", "{name}"),
            }
        }
    }
}
