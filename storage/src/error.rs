//! The crate's error: one variant per decision a caller can take.
//! Says in each variant whether anything changed; each has one SQLSTATE, the same wherever it ends.

use thiserror::Error;

/// What a caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong and will be wrong again.
    Invalid,
    /// Another writer was faster; trying again may work.
    Conflict,
    /// Somebody is away or still moving; trying again later may work.
    Unavailable,
    /// The data forbids it: a duplicate key, a null key, a limit.
    Data,
    /// A broken invariant; a bug.
    Internal,
}

/// Everything that can go wrong in the grid. Nothing has changed when one of these is returned,
/// unless the variant says otherwise.
#[derive(Debug, Clone, Error)]
pub enum Error {
    /// No object of that name or id.
    #[error("{kind} \"{name}\" does not exist")]
    NotFound {
        /// The kind of object: `table`, `mapping`, `job`, ….
        kind: &'static str,
        /// Its name, or its id as text.
        name: String,
    },
    /// An object of that name exists.
    #[error("{kind} \"{name}\" already exists")]
    AlreadyExists {
        /// The kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A key that is already there (SQLSTATE 23505). `detail` reads `Key (k)=(1) already exists.`
    #[error("duplicate key value violates unique constraint \"{table}_pkey\"")]
    DuplicateKey {
        /// Table name.
        table: String,
        /// PostgreSQL's detail line.
        detail: String,
    },
    /// A null where none may be (SQLSTATE 23502).
    #[error(
        "null value in column \"{column}\" of relation \"{table}\" violates not-null constraint"
    )]
    NullValue {
        /// Table name.
        table: String,
        /// Column name.
        column: String,
    },
    /// A row that another pending writer holds (SQLSTATE 40001).
    #[error("could not serialize access due to concurrent update")]
    Conflict,
    /// A writer that would wait for itself through others (SQLSTATE 40P01).
    #[error("deadlock detected")]
    Deadlock,
    /// A limit is reached (SQLSTATE 53200 or 54000); the text says which.
    #[error("{0}")]
    Limit(String),
    /// The request makes no sense for this object; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The state an object must be in for the request is another one (SQLSTATE 55000).
    #[error("{0}")]
    WrongState(String),
    /// Another process holds what is asked for (SQLSTATE 55006); the text says which.
    #[error("{0}")]
    InUse(String),
    /// Stored data is not what was written (SQLSTATE XX001); the text says which.
    #[error("{0}")]
    Damaged(String),
    /// The disk answered an error (SQLSTATE 58030); the text says which, and for which file.
    #[error("{0}")]
    Disk(String),
    /// The disk has no room left (SQLSTATE 53100). Nothing is written until it has.
    #[error("could not extend file \"{}\": no space left on device", .0.display())]
    DiskFull(std::path::PathBuf),
    /// A test had the work torn down at that place.
    #[error("lost at {0}")]
    Lost(String),
    /// The owner is away or the partition is moving.
    #[error("partition {0} is not available")]
    Unavailable(u16),
    /// A broken invariant.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// Its SQLSTATE.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::NotFound { kind: "job" | "snapshot", .. } => "42704",
            Error::NotFound { .. } => "42P01",
            Error::AlreadyExists { kind: "job" | "snapshot", .. } => "42710",
            Error::AlreadyExists { .. } => "42P07",
            Error::DuplicateKey { .. } => "23505",
            Error::NullValue { .. } => "23502",
            Error::Conflict => "40001",
            Error::Deadlock => "40P01",
            Error::Limit(_) => "53200",
            Error::Invalid(_) => "22023",
            Error::WrongState(_) => "55000",
            Error::InUse(_) => "55006",
            Error::Unavailable(_) => "57P01",
            Error::Damaged(_) => "XX001",
            Error::Disk(_) => "58030",
            Error::DiskFull(_) => "53100",
            Error::Lost(_) => "57P02",
            Error::Internal(_) => "XX000",
        }
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::Invalid(_)
            | Error::WrongState(_) => ErrorKind::Invalid,
            Error::Conflict | Error::Deadlock => ErrorKind::Conflict,
            Error::Unavailable(_)
            | Error::InUse(_)
            | Error::Lost(_)
            | Error::Disk(_)
            | Error::DiskFull(_) => ErrorKind::Unavailable,
            Error::DuplicateKey { .. }
            | Error::NullValue { .. }
            | Error::Limit(_)
            | Error::Damaged(_) => ErrorKind::Data,
            Error::Internal(_) => ErrorKind::Internal,
        }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Error::Internal(error.to_string())
    }
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
