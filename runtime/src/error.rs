//! The crate's error: one variant per decision the job coordinator or the client can take.

use datafusion_common::DataFusionError;
use storage::cluster::control::JobError;
use thiserror::Error;

/// Everything that can go wrong in a dag. `Clone`, because one failure is told to the job record,
/// to the client and to the log.
#[derive(Debug, Clone, Error)]
pub enum Error {
    /// The grid refused.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The user's data or expression: overflow, division by zero, a poison message. The job fails.
    /// `code` is the SQLSTATE (`22003`, `22012`, `22P02` …).
    #[error("{message}")]
    User {
        /// SQLSTATE.
        code: &'static str,
        /// Primary message, lower case, no full stop.
        message: String,
    },
    /// An option or request that makes no sense; nothing was started. `code` is the SQLSTATE
    /// (`22023` wrong option value, `0A000` not built, `42601` …).
    #[error("{message}")]
    Invalid {
        /// SQLSTATE.
        code: &'static str,
        /// Primary message.
        message: String,
    },
    /// An external system is away (SQLSTATE 08001): bounded reads fail, running jobs retry.
    #[error("{0}")]
    Connection(String),
    /// A limit of memory or length (SQLSTATE 53200).
    #[error("{0}")]
    Limit(String),
    /// The execution is lost through nobody's fault; a job is started again from its newest
    /// snapshot.
    #[error("execution was lost: {0}")]
    Lost(String),
    /// The execution was cancelled by its owner.
    #[error("execution was cancelled")]
    Cancelled,
    /// A broken invariant or a caught panic.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// Its SQLSTATE.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::Storage(error) => error.sqlstate(),
            Error::User { code, .. } | Error::Invalid { code, .. } => code,
            Error::Connection(_) => "08001",
            Error::Limit(_) => "53200",
            Error::Lost(_) => "57P02",
            Error::Cancelled => "57014",
            Error::Internal(_) => "XX000",
        }
    }

    /// Whether it is for want of memory (SQLSTATE class 53): a job is then suspended, whatever its
    /// options say, because what it lacks can be given to it.
    pub fn is_out_of_memory(&self) -> bool {
        self.sqlstate().starts_with("53")
    }
}

impl From<&Error> for JobError {
    /// As `sys.jobs` shows it: there is one line for it, so the detail stands behind the message.
    fn from(error: &Error) -> Self {
        let message = match error {
            Error::Storage(storage::Error::DuplicateKey { detail, .. }) => {
                format!("{error}: {}", detail.trim_end_matches('.'))
            }
            _ => error.to_string(),
        };
        JobError::new(error.sqlstate(), message)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<DataFusionError> for Error {
    /// Evaluation errors are the user's data, with the SQLSTATE that Arrow's variant says.
    fn from(error: DataFusionError) -> Self {
        use arrow::error::ArrowError as A;
        let root = error.find_root();
        if let Some(carried) = carried(root) {
            return carried;
        }
        let code = match root {
            DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
                A::DivideByZero => "22012",
                A::ArithmeticOverflow(_) => "22003",
                A::CastError(_) | A::ParseError(_) => "22P02",
                _ => "XX000",
            },
            DataFusionError::Execution(_) => "22000",
            _ => "XX000",
        };
        let message = match code {
            "22012" => "division by zero".to_owned(),
            _ => root.strip_backtrace(),
        };
        Error::User { code, message }
    }
}

/// The error of ours that a function put into DataFusion's, SQLSTATE and all.
fn carried(root: &DataFusionError) -> Option<Error> {
    let inner = match root {
        DataFusionError::External(inner) => inner,
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            arrow::error::ArrowError::ExternalError(inner) => inner,
            _ => return None,
        },
        _ => return None,
    };
    inner.downcast_ref::<Error>().cloned()
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
