//! The crate's errors as ErrorResponse and NoticeResponse fields. The mapping of storage and
//! runtime errors to SQLSTATEs is `planner::Error`'s; here it only becomes bytes.

use planner::Error;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed, the session goes on.
    Error,
    /// The session ends.
    Fatal,
    /// Nothing failed.
    Notice,
    /// Nothing failed, but it looks like a mistake.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
        }
    }
}

/// What a prepared statement says whose columns are no longer those it was described with.
const PLAN_HAS_CHANGED: &str = "cached plan must not change result type";

/// 0A000: the objects that a prepared statement names have changed under it.
pub fn plan_has_changed() -> Error {
    Error::unsupported(PLAN_HAS_CHANGED)
}

/// Fields of the response, in PostgreSQL's order.
pub fn fields(error: &Error, severity: Severity) -> Vec<(u8, String)> {
    let mut fields = vec![
        (b'S', severity.word().to_owned()),
        (b'V', severity.word().to_owned()),
        (b'C', error.code.to_owned()),
        (b'M', without_zeros(&error.message)),
    ];
    for (tag, text) in [(b'D', &error.detail), (b'H', &error.hint)] {
        if let Some(text) = text {
            fields.push((tag, without_zeros(text)));
        }
    }
    if let Some(position) = error.position {
        fields.push((b'P', position.to_string()));
    }
    if let Some(object) = &error.object {
        fields.push((b's', "public".to_owned()));
        let names = [(b't', &object.table), (b'c', &object.column), (b'n', &object.constraint)];
        let names = names.into_iter().filter(|(_, name)| !name.is_empty());
        fields.extend(names.map(|(tag, name)| (tag, without_zeros(name))));
    }
    if error.message == PLAN_HAS_CHANGED {
        // By this name pgjdbc knows that preparing the statement again heals it.
        fields.push((b'R', "RevalidateCachedQuery".to_owned()));
    }
    fields
}

/// Fields of a notice or warning.
pub fn notice_fields(code: &str, message: &str, severity: Severity) -> Vec<(u8, String)> {
    vec![
        (b'S', severity.word().to_owned()),
        (b'V', severity.word().to_owned()),
        (b'C', code.to_owned()),
        (b'M', without_zeros(message)),
    ]
}

/// A zero would end the field early.
fn without_zeros(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// 57014: the user, or another session, asked for it.
pub fn cancelled() -> Error {
    Error::new("57014", "canceling statement due to user request")
}

/// 57014: `statement_timeout`.
pub fn timed_out() -> Error {
    Error::new("57014", "canceling statement due to statement timeout")
}

/// 57P01: the server stops.
pub fn shutting_down() -> Error {
    Error::new("57P01", "terminating connection due to administrator command")
}

/// 25P02: nothing runs until the block ends.
pub fn block_has_failed() -> Error {
    Error::new(
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// XX000: a caught panic.
pub fn panicked(payload: &(dyn std::any::Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown cause".to_owned());
    Error::new("XX000", format!("internal error: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_carry_everything_and_no_zero_byte() {
        let error = Error::new("42703", "column \"a\0\" does not exist").with_hint("Look.").at(8);
        let fields = fields(&error, Severity::Error);
        assert!(fields.contains(&(b'C', "42703".to_owned())));
        assert!(fields.contains(&(b'P', "8".to_owned())));
        assert!(fields.contains(&(b'H', "Look.".to_owned())));
        assert!(fields.iter().all(|(_, text)| !text.contains('\0')));
    }
}
