//! The crate's error: what PostgreSQL's ErrorResponse needs, in its words. DataFusion's errors
//! become it in one place, [`datafusion`], so that no caller guesses a SQLSTATE.

mod datafusion;
mod place;

pub use self::{datafusion::no_such_relation, place::placed};

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
    /// 1-based character position in the query string.
    pub position: Option<usize>,
    /// What it is about, for programs that do not read messages.
    pub object: Option<Box<ErrorObject>>,
}

/// The names that an error is about; those that mean nothing are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorObject {
    /// A table of `public`.
    pub table: String,
    /// A column of it.
    pub column: String,
    /// A constraint of it.
    pub constraint: String,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a SQLSTATE and a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message, detail: None, hint: None, position: None, object: None }
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
        let detail = match &error {
            S::DuplicateKey { detail, .. } => Some(detail.clone()),
            _ => None,
        };
        let object = match &error {
            S::DuplicateKey { table, .. } => Some(ErrorObject {
                constraint: format!("{table}_pkey"),
                table: table.clone(),
                ..ErrorObject::default()
            }),
            S::NullValue { table, column } => Some(ErrorObject {
                table: table.clone(),
                column: column.clone(),
                ..ErrorObject::default()
            }),
            _ => None,
        };
        let object = object.map(Box::new);
        Self { detail, object, ..Self::new(error.sqlstate(), error.to_string()) }
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        use runtime::Error as R;
        let code = error.sqlstate();
        match error {
            R::Storage(error) => error.into(),
            R::Cancelled => Self::new(code, "canceling statement due to user request"),
            R::User { message, .. }
            | R::Invalid { message, .. }
            | R::Connection(message)
            | R::Limit(message)
            | R::Lost(message)
            | R::Internal(message) => Self::new(code, message),
        }
    }
}
