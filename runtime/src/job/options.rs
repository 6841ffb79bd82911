//! `JobOptions`: what `CREATE JOB … OPTIONS` may say, checked. Options of Hazelcast's, and ours,
//! that are not built are refused by name: nothing is accepted and ignored.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use crate::{Error, Result};

/// Known options, for the error that names them.
const BUILT: [&str; 7] = [
    JobOptions::GUARANTEE,
    "snapshotIntervalMillis",
    "initialSnapshotName",
    "timeoutMillis",
    "maxMemory",
    "suspendOnFailure",
    "acceptMemoryTarget",
];

/// Those of them that ALTER JOB changes; the others say what the job's state is.
const ALTERABLE: [&str; 4] =
    ["snapshotIntervalMillis", "timeoutMillis", "maxMemory", "suspendOnFailure"];

/// What `snapshotIntervalMillis` may be: a snapshot costs a few milliseconds, and a job that goes
/// back by more than a day is restarted from nothing as well.
const INTERVAL_MILLIS: RangeInclusive<u64> = 10..=86_400_000;
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);

/// What `timeoutMillis` may be: up to a hundred years, so that every sum of times is one.
const TIMEOUT_MILLIS: RangeInclusive<u64> = 0..=3_155_760_000_000;

/// Options that mean something elsewhere, or will here.
const UNBUILT: [&str; 3] = ["autoScaling", "splitBrainProtectionEnabled", "on_conflict"];

/// A job's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOptions {
    /// What becomes of rows when an execution is lost.
    pub guarantee: Guarantee,
    /// Time between the beginnings of two snapshots.
    pub snapshot_interval: Duration,
    /// Name of the exported snapshot it starts from.
    pub initial_snapshot: Option<String>,
    /// How long after its creation it is ended, whatever it does; without it never.
    pub timeout: Option<Duration>,
    /// Bytes that its state and its queues may take; without it the engine's default.
    pub memory_max: Option<usize>,
    /// Whether a failure leaves it SUSPENDED, to be resumed, and not FAILED.
    pub suspends_on_failure: bool,
    /// Whether it may write exactly once into a table that a restart of the server empties.
    pub accepts_memory_target: bool,
}

/// What a job promises about the rows it writes when it goes on after a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// Nothing: no snapshots are taken.
    #[default]
    None,
    /// Nothing is lost, rows may repeat.
    AtLeastOnce,
    /// Nothing is lost, nothing repeats.
    ExactlyOnce,
}

impl Guarantee {
    /// The word in options and in `sys.jobs`.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::AtLeastOnce => "atLeastOnce",
            Self::ExactlyOnce => "exactlyOnce",
        }
    }
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            guarantee: Guarantee::None,
            snapshot_interval: INTERVAL_DEFAULT,
            initial_snapshot: None,
            timeout: None,
            memory_max: None,
            suspends_on_failure: false,
            accepts_memory_target: false,
        }
    }
}

impl JobOptions {
    /// Name of the option that says the guarantee; whoever creates a job decides what it is without.
    pub const GUARANTEE: &str = "processingGuarantee";

    /// Reads options as written. 42601 for an unknown one, 22023 for a value that makes no sense,
    /// 0A000 for what is not built.
    pub fn read(written: &BTreeMap<String, String>) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in written {
            match name.as_str() {
                Self::GUARANTEE => options.guarantee = guarantee(value)?,
                "snapshotIntervalMillis" => options.snapshot_interval = interval(value)?,
                "initialSnapshotName" => options.initial_snapshot = Some(value.clone()),
                "timeoutMillis" => options.timeout = timeout(value)?,
                "maxMemory" => options.memory_max = Some(bytes(value)?),
                "suspendOnFailure" => options.suspends_on_failure = boolean(name, value)?,
                "acceptMemoryTarget" => options.accepts_memory_target = boolean(name, value)?,
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

    /// `written` with what ALTER JOB changes in it; checked as by [`JobOptions::read`], and 0A000
    /// for an option that a job keeps for its life.
    pub fn altered(
        written: &BTreeMap<String, String>,
        changes: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>> {
        let mut altered = written.clone();
        altered.extend(changes.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self::read(&altered)?;
        match changes.keys().find(|name| !ALTERABLE.contains(&name.as_str())) {
            None => Ok(altered),
            Some(name) => {
                let valid = ALTERABLE.join(", ");
                let message =
                    format!("job option \"{name}\" cannot be changed; those that can are {valid}");
                Err(Error::Invalid { code: "0A000", message })
            }
        }
    }
}

fn guarantee(value: &str) -> Result<Guarantee> {
    let all = [Guarantee::ExactlyOnce, Guarantee::AtLeastOnce, Guarantee::None];
    let found = all.into_iter().find(|guarantee| guarantee.word() == value);
    found.ok_or_else(|| {
        let valid = all.map(Guarantee::word).join(", ");
        let message = format!("unknown processingGuarantee '{value}'; valid ones are {valid}");
        Error::Invalid { code: "22023", message }
    })
}

fn interval(value: &str) -> Result<Duration> {
    let millis = value.parse().ok().filter(|millis| INTERVAL_MILLIS.contains(millis));
    millis.map(Duration::from_millis).ok_or_else(|| Error::Invalid {
        code: "22023",
        message: format!(
            "job option \"snapshotIntervalMillis\" is a number from {} to {}, not '{value}'",
            INTERVAL_MILLIS.start(),
            INTERVAL_MILLIS.end()
        ),
    })
}

/// 0 is none.
fn timeout(value: &str) -> Result<Option<Duration>> {
    let millis = value.parse().ok().filter(|millis| TIMEOUT_MILLIS.contains(millis));
    let millis = millis.ok_or_else(|| Error::Invalid {
        code: "22023",
        message: format!(
            "job option \"timeoutMillis\" is a number from {} to {}, not '{value}'",
            TIMEOUT_MILLIS.start(),
            TIMEOUT_MILLIS.end()
        ),
    })?;
    Ok((millis > 0).then(|| Duration::from_millis(millis)))
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
