//! The crate's error: what PostgreSQL's ErrorResponse needs, in its words. DataFusion's errors
//! become it in one place, [`datafusion`], so that no caller guesses a SQLSTATE.

mod datafusion;

pub use self::datafusion::no_such_relation;

use thiserror::Error;

/// An error as the client sees it.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub struct Error {
    /// SQLSTATE.
    pub code: &'static str,
    /// Primary message: lower case, no full stop.
    pub message: String,
    /// Detail: sentences.
    pub detail: Option<String>,
    /// Hint: sentences; what to do next.
    pub hint: Option<String>,
    /// 1-based character position in the statement's text.
    pub position: Option<usize>,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a SQLSTATE and a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None, position: None }
    }

    /// 0A000: parsed, but not built.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new("0A000", message)
    }

    /// Adds a detail.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a position.
    pub fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        use storage::Error as S;
        let code = match &error {
            S::NotFound { kind: "job", .. } => "42704",
            S::NotFound { .. } => "42P01",
            S::AlreadyExists { kind: "job", .. } => "42710",
            S::AlreadyExists { .. } => "42P07",
            S::DuplicateKey { .. } => "23505",
            S::NullValue { .. } => "23502",
            S::Conflict => "40001",
            S::Limit(_) => "53200",
            S::Invalid(_) => "22023",
            S::WrongState(_) => "55000",
            S::Unavailable(_) => "57P01",
            S::Internal(_) => "XX000",
        };
        let detail = match &error {
            S::DuplicateKey { detail, .. } => Some(detail.clone()),
            _ => None,
        };
        Self { detail, ..Self::new(code, error.to_string()) }
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        use runtime::Error as R;
        match error {
            R::Storage(error) => error.into(),
            R::User { code, message } | R::Invalid { code, message } => Self::new(code, message),
            R::Connection(message) => Self::new("08001", message),
            R::Limit(message) => Self::new("53200", message),
            R::Cancelled => Self::new("57014", "canceling statement due to user request"),
            R::Internal(message) => Self::new("XX000", message),
        }
    }
}
