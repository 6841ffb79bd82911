//! `JobOptions`: what `CREATE JOB … OPTIONS` may say, checked. Options of Hazelcast's, and ours,
//! that are not built are refused by name: nothing is accepted and ignored.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// Known options, for the error that names them.
const BUILT: [&str; 3] = ["processingGuarantee", "maxMemory", "suspendOnFailure"];

/// Options that mean something elsewhere, or will here.
const UNBUILT: [&str; 7] = [
    "snapshotIntervalMillis",
    "autoScaling",
    "splitBrainProtectionEnabled",
    "initialSnapshotName",
    "timeoutMillis",
    "on_conflict",
    "acceptMemoryTarget",
];

/// A job's options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// Bytes that its state and its queues may take; without it the engine's default.
    pub memory_max: Option<usize>,
    /// Whether a failure leaves it SUSPENDED, to be resumed, and not FAILED.
    pub suspends_on_failure: bool,
}

impl JobOptions {
    /// Reads options as written. 42601 for an unknown one, 22023 for a value that makes no sense,
    /// 0A000 for what is not built.
    pub fn read(written: &BTreeMap<String, String>) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in written {
            match name.as_str() {
                "processingGuarantee" => check_guarantee(value)?,
                "maxMemory" => options.memory_max = Some(bytes(value)?),
                "suspendOnFailure" => options.suspends_on_failure = boolean(name, value)?,
                name if UNBUILT.contains(&name) => {
                    let message = format!("job option \"{name}\" is not supported");
                    return Err(Error::Invalid { code: "0A000", message });
                }
                name => {
                    let valid = BUILT.join(", ");
                    let message = format!("unknown job option \"{name}\"; valid ones are {valid}");
                    return Err(Error::Invalid { code: "42601", message });
                }
            }
        }
        Ok(options)
    }
}

fn check_guarantee(value: &str) -> Result<()> {
    match value {
        "none" => Ok(()),
        "exactlyOnce" | "atLeastOnce" => Err(Error::Invalid {
            code: "0A000",
            message: format!(
                "processingGuarantee '{value}' is not supported: jobs have the guarantee 'none' \
                 until snapshots exist"
            ),
        }),
        _ => Err(Error::Invalid {
            code: "22023",
            message: format!(
                "unknown processingGuarantee '{value}'; valid ones are exactlyOnce, atLeastOnce, none"
            ),
        }),
    }
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::Invalid {
            code: "22023",
            message: format!("job option \"{name}\" is 'true' or 'false', not '{value}'"),
        }),
    }
}

/// `512 MB`: a number and one of PostgreSQL's units, each 1024 times the one before.
fn bytes(value: &str) -> Result<usize> {
    let text = value.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (text[..digits].parse::<usize>().ok(), text[digits..].trim());
    let shift = match unit.to_ascii_lowercase().as_str() {
        "b" => Some(0),
        "kb" => Some(10),
        "mb" => Some(20),
        "gb" => Some(30),
        "tb" => Some(40),
        _ => None,
    };
    let bytes = number.zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    bytes.filter(|&bytes| bytes > 0).ok_or_else(|| Error::Invalid {
        code: "22023",
        message: format!(
            "job option \"maxMemory\" is a size such as '512 MB' (units B, kB, MB, GB, TB), not \
             '{value}'"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<JobOptions> {
        JobOptions::read(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn sizes_have_a_unit() {
        let max = |text| read("maxMemory", text).map(|options| options.memory_max.unwrap());
        assert_eq!(max("512 MB").unwrap(), 512 << 20);
        assert_eq!(max("2gb").unwrap(), 2 << 30);
        assert_eq!(max("100 B").unwrap(), 100);
        for wrong in ["512", "0 MB", "-1 MB", "MB", "", "1 PB", "99999999999 TB"] {
            let error = max(wrong).unwrap_err();
            assert!(matches!(error, Error::Invalid { code: "22023", .. }), "{wrong}: {error}");
        }
    }

    #[test]
    fn unknown_options_are_told_the_valid_ones() {
        let Err(Error::Invalid { code: "42601", message }) = read("suspendonfailure", "true")
        else {
            panic!("it was taken");
        };
        for valid in BUILT {
            assert!(message.contains(valid), "{message}");
        }
        for unbuilt in UNBUILT {
            let error = read(unbuilt, "1").unwrap_err();
            assert!(matches!(error, Error::Invalid { code: "0A000", .. }), "{unbuilt}: {error}");
        }
    }
}
