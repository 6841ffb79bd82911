//! Errors of functions with their SQLSTATE, in a form that survives DataFusion and the engine:
//! `DataFusionError::External(runtime::Error::User)`, which both ways of running can read.

use datafusion::error::DataFusionError;

/// An error of the user's data or types.
pub fn user_error(code: &'static str, message: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(runtime::Error::User { code, message: message.into() }))
}

/// 22012.
pub fn division_by_zero() -> DataFusionError {
    user_error("22012", "division by zero")
}

/// 22003 for a number that leaves its type.
pub fn out_of_range(type_name: &str) -> DataFusionError {
    user_error("22003", format!("{type_name} out of range"))
}

/// Carries an error of this crate through DataFusion.
pub fn carry(error: crate::Error) -> DataFusionError {
    user_error(error.code, error.message)
}
