//! What the server needs to know, validated, without optional fields. Made from [`Args`] and the
//! config file; a key that is not known is an error.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use thiserror::Error;

use crate::args::Args;

/// Connections served at once unless the config file says otherwise.
const CONNECTIONS_DEFAULT: usize = 1000;

/// Bytes for hash tables and sorts: what a machine that also holds tables can spare.
const QUERY_MEMORY_DEFAULT: usize = 4 << 30;

/// Bytes of one job's or stream's state and queues: about ten million groups. A runaway job ends
/// before the server does.
const JOB_MEMORY_DEFAULT: usize = 2 << 30;

/// How long a client may take nothing: longer than somebody reads a page of a stream, short enough
/// that a forgotten one does not hold its query for a night.
const WRITE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);

/// Items a queue between two tasklets holds.
const QUEUE_CAPACITY_DEFAULT: usize = 1024;

/// Where everything is kept unless the command line or the config file says otherwise, seen from
/// the folder the server is started in.
const DATA_DIR_DEFAULT: &str = "tidewater-data";

/// Bytes of a config file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a server runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Address to serve SQL on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Worker threads for dags.
    pub worker_count: usize,
    /// Owners simulated in this process; 1 is none.
    pub simulated_owners: u16,
    /// Items a queue between two tasklets holds.
    pub queue_capacity: usize,
    /// Lanes a bounded query is spread over.
    pub query_lanes: usize,
    /// Bytes all tables together may take.
    pub table_memory_max: usize,
    /// Bytes all running queries together may take for hash tables and sorts.
    pub query_memory_max: usize,
    /// Bytes the state and the queues of a job or streaming query may take, unless it says
    /// otherwise itself (`maxMemory`).
    pub job_memory_max: usize,
    /// Folder in which everything is kept; `None` keeps it in memory alone.
    pub data_dir: Option<PathBuf>,
    /// Folder that mappings of type File may read and write beneath, absolute; `None` refuses them.
    pub file_root: Option<PathBuf>,
    /// Clients served at once.
    pub connection_max: usize,
    /// How long a client may take none of what is sent to it before its connection ends.
    pub write_timeout: Duration,
    /// Where executions of jobs are lost, once each and in this order, and after how many passes: for
    /// tests.
    pub failpoints: Vec<(String, u64)>,
}

/// Why the server does not start.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A flag or key has a value that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The config file cannot be read.
    #[error("config file {path}: {cause}")]
    File {
        /// Its path.
        path: String,
        /// What is wrong.
        cause: String,
    },
}

/// The config file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    workers: Option<usize>,
    simulated_owners: Option<u16>,
    queue_capacity: Option<usize>,
    query_lanes: Option<usize>,
    table_memory_mb: Option<usize>,
    query_memory_mb: Option<usize>,
    job_memory_mb: Option<usize>,
    data_dir: Option<PathBuf>,
    in_memory: Option<bool>,
    file_root: Option<PathBuf>,
    max_connections: Option<usize>,
    write_timeout_s: Option<u64>,
    /// `place:passes, …`.
    failpoint: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 5433)),
            worker_count: core_count(),
            simulated_owners: 1,
            queue_capacity: QUEUE_CAPACITY_DEFAULT,
            query_lanes: core_count(),
            table_memory_max: usize::MAX,
            query_memory_max: QUERY_MEMORY_DEFAULT,
            job_memory_max: JOB_MEMORY_DEFAULT,
            data_dir: None,
            file_root: None,
            connection_max: CONNECTIONS_DEFAULT,
            write_timeout: WRITE_TIMEOUT_DEFAULT,
            failpoints: Vec::new(),
        }
    }
}

/// Cores this process may use.
pub fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl ServerConfig {
    /// The configuration of a command line and the file it names.
    pub fn from_args(args: &Args) -> Result<Self, ConfigError> {
        let file = args.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
        let default = Self::default();
        let failpoints = file.failpoint.as_deref().map_or(Ok(Vec::new()), failpoints)?;
        let bytes = |given: Option<usize>, file: Option<usize>, default: usize| {
            given.or(file).map_or(default, |mb| mb.saturating_mul(1 << 20))
        };
        let in_memory = args.in_memory || (args.data_dir.is_none() && file.in_memory == Some(true));
        let data_dir = args.data_dir.as_ref().or(file.data_dir.as_ref());
        let data_dir = data_dir.cloned().unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
        let file_root = args.file_root.as_ref().or(file.file_root.as_ref());
        let config = Self {
            data_dir: (!in_memory).then_some(data_dir),
            file_root: file_root.map(|root| absolute(root)).transpose()?,
            listen: args.listen.or(file.listen).unwrap_or(default.listen),
            worker_count: args.workers.or(file.workers).unwrap_or(default.worker_count),
            simulated_owners: file.simulated_owners.unwrap_or(default.simulated_owners),
            queue_capacity: file.queue_capacity.unwrap_or(default.queue_capacity),
            query_lanes: file.query_lanes.unwrap_or(default.query_lanes),
            table_memory_max: bytes(
                args.table_memory_mb,
                file.table_memory_mb,
                default.table_memory_max,
            ),
            query_memory_max: bytes(
                args.query_memory_mb,
                file.query_memory_mb,
                default.query_memory_max,
            ),
            job_memory_max: bytes(args.job_memory_mb, file.job_memory_mb, default.job_memory_max),
            connection_max: file.max_connections.unwrap_or(default.connection_max),
            write_timeout: file.write_timeout_s.map_or(default.write_timeout, Duration::from_secs),
            failpoints,
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.listen.ip().is_loopback() {
            return Err(ConfigError::Invalid(format!(
                "--listen {} is refused: without roles and passwords, which are not built yet, \
                 anyone who reaches the port could read and change everything; listen on a \
                 loopback address such as 127.0.0.1:5433 and forward to it",
                self.listen
            )));
        }
        let bounds: [(&str, usize, std::ops::RangeInclusive<usize>); 9] = [
            ("workers", self.worker_count, 1..=1024),
            ("simulated_owners", usize::from(self.simulated_owners), 1..=64),
            ("queue_capacity", self.queue_capacity, 1..=1 << 20),
            ("query_lanes", self.query_lanes, 1..=1024),
            ("max_connections", self.connection_max, 1..=100_000),
            ("write_timeout_s", self.write_timeout.as_secs() as usize, 1..=86_400),
            ("query_memory_mb", self.query_memory_max >> 20, 1..=usize::MAX),
            ("job_memory_mb", self.job_memory_max >> 20, 1..=usize::MAX),
            ("table_memory_mb", self.table_memory_max >> 20, 1..=usize::MAX),
        ];
        for (name, value, range) in bounds {
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                return Err(ConfigError::Invalid(format!(
                    "{name} must be between {least} and {most}, not {value}"
                )));
            }
        }
        Ok(())
    }
}

/// `place:passes, …`.
fn failpoints(text: &str) -> Result<Vec<(String, u64)>, ConfigError> {
    let one = |text: &str| {
        let (place, passes) = text.trim().split_once(':')?;
        Some((place.to_owned(), passes.parse().ok()?))
    };
    let invalid = || ConfigError::Invalid(format!("failpoint is PLACE:PASSES, …, not '{text}'"));
    text.split(',').map(|part| one(part).ok_or_else(invalid)).collect()
}

/// The folder of `--file-root`, which must be there: a server with a misspelt one would refuse every
/// mapping later.
fn absolute(root: &Path) -> Result<PathBuf, ConfigError> {
    let invalid =
        |cause: String| ConfigError::Invalid(format!("--file-root {}: {cause}", root.display()));
    let root = std::fs::canonicalize(root).map_err(|error| invalid(error.to_string()))?;
    match root.is_dir() {
        true => Ok(root),
        false => Err(invalid("it is no directory".to_owned())),
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let fail = |cause: String| ConfigError::File { path: path.display().to_string(), cause };
        let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(fail(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        toml::from_str(&text).map_err(|error| fail(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::Parser;

    use super::*;

    fn config(line: &[&str]) -> Result<ServerConfig, String> {
        let line = [&["tidewater"], line].concat();
        ServerConfig::from_args(&Args::try_parse_from(line).map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())
    }

    fn with_file(text: &str, line: &[&str]) -> Result<ServerConfig, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        config(&[line, &["--config", file.path().to_str().unwrap()]].concat())
    }

    #[test]
    fn command_line_counts_more_than_the_file() {
        let file = "workers = 3\nqueue_capacity = 1\nlisten = \"127.0.0.1:7000\"\n";
        let config = with_file(file, &["--workers", "2"]).unwrap();
        assert_eq!((config.worker_count, config.queue_capacity), (2, 1));
        assert_eq!(config.listen.port(), 7000);
    }

    #[test]
    fn unknown_keys_and_impossible_values_are_errors() {
        assert!(with_file("wrokers = 3\n", &[]).unwrap_err().contains("wrokers"));
        assert!(with_file("workers = 0\n", &[]).unwrap_err().contains("workers must be between"));
        assert!(config(&["--config", "/does/not/exist"]).is_err());
    }

    #[test]
    fn memory_is_limited_on_the_command_line_or_in_the_file() {
        let default = config(&[]).unwrap();
        assert_eq!(default.table_memory_max, usize::MAX);
        assert_eq!((default.query_memory_max, default.job_memory_max), (4 << 30, 2 << 30));
        let file = "table_memory_mb = 1\nquery_memory_mb = 2\njob_memory_mb = 3\n";
        let limits = |line: &[&str]| {
            let config = with_file(file, line).unwrap();
            [config.table_memory_max, config.query_memory_max, config.job_memory_max]
                .map(|bytes| bytes >> 20)
        };
        assert_eq!(limits(&[]), [1, 2, 3]);
        let line = "--table-memory-mb 10 --query-memory-mb 20 --job-memory-mb 30";
        assert_eq!(limits(&line.split(' ').collect::<Vec<_>>()), [10, 20, 30]);
        for name in ["table", "query", "job"] {
            let error = config(&[&format!("--{name}-memory-mb"), "0"]).unwrap_err();
            assert!(error.contains(&format!("{name}_memory_mb must be between 1")), "{error}");
        }
    }

    #[test]
    fn file_root_is_a_directory_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let root = std::fs::canonicalize(path).unwrap();
        assert_eq!(config(&["--file-root", path]).unwrap().file_root, Some(root.clone()));
        let in_file = with_file(&format!("file_root = {path:?}\n"), &[]).unwrap();
        assert_eq!((in_file.file_root, config(&[]).unwrap().file_root), (Some(root), None));
        assert!(config(&["--file-root", "/does/not/exist"]).unwrap_err().contains("--file-root"));
    }

    #[test]
    fn other_addresses_are_refused_with_the_way_out() {
        assert!(config(&["--listen", "0.0.0.0:5433"]).unwrap_err().contains("loopback"));
        assert!(config(&["--listen", "[::1]:0", "--in-memory"]).is_ok());
    }

    #[test]
    fn everything_is_kept_in_a_folder_unless_told_otherwise() {
        let folder = |config: Result<ServerConfig, String>| config.unwrap().data_dir;
        assert_eq!(folder(config(&[])), Some(PathBuf::from(DATA_DIR_DEFAULT)));
        assert_eq!(folder(config(&["--data-dir", "d"])), Some(PathBuf::from("d")));
        assert_eq!(folder(config(&["--in-memory"])), None);
        assert_eq!(folder(with_file("in_memory = true\n", &[])), None);
        assert_eq!(folder(with_file("data_dir = \"e\"\n", &[])), Some(PathBuf::from("e")));
        let file = "in_memory = true\n";
        assert_eq!(folder(with_file(file, &["--data-dir", "d"])), Some(PathBuf::from("d")));
        assert_eq!(folder(with_file("data_dir = \"e\"\n", &["--in-memory"])), None);
        assert!(config(&["--in-memory", "--data-dir", "d"]).is_err());
    }
}
