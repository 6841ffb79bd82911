//! The peer for point rows, COPY and durable writes: a PostgreSQL of the distribution in a folder of
//! its own; stopped and removed when dropped.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{Result, process};

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    bin: PathBuf,
    pid: u32,
    /// Port it listens on.
    pub port: u16,
}

/// Settings that make the comparison fair: a machine that is its own, and no clean-up in between.
const SETTINGS: &str = "shared_buffers = '2GB'\nmax_connections = 200\n\
    max_wal_size = '16GB'\nautovacuum = off\nlisten_addresses = '127.0.0.1'\n";

impl Postgres {
    /// Makes a cluster whose commits wait for no disk and starts it; `core` pins it to one CPU.
    pub fn start(core: Option<usize>) -> Result<Self> {
        Self::start_with(core, "synchronous_commit = off\n")
    }

    /// The same with commits that are on disk when they are answered.
    pub fn start_durable(core: Option<usize>) -> Result<Self> {
        Self::start_with(core, "synchronous_commit = on\n")
    }

    fn start_with(core: Option<usize>, settings: &str) -> Result<Self> {
        let bin = newest_bin()?;
        let port = free_port()?;
        let folder = std::env::temp_dir().join(format!("tidewater-bench-postgres-{port}"));
        std::fs::create_dir_all(&folder)?;
        let mut postgres = Self { folder, bin, pid: 0, port };
        let data = postgres.folder.join("data");
        if is_root()? {
            run(Command::new("chown").arg("postgres").arg(&postgres.folder))?;
        }
        run(postgres.tool("initdb", None)?.args(["-A", "trust", "-U", "bench", "-D"]).arg(&data))?;
        let config = format!("{SETTINGS}{settings}port = {port}\nunix_socket_directories = ''\n");
        let file = data.join("postgresql.auto.conf");
        std::fs::write(&file, config)?;
        let log = postgres.folder.join("log");
        run(postgres
            .tool("pg_ctl", core)?
            .args(["-w", "-l"])
            .arg(log)
            .arg("-D")
            .arg(&data)
            .arg("start"))?;
        let pid = std::fs::read_to_string(data.join("postmaster.pid"))?;
        postgres.pid = pid.lines().next().unwrap_or_default().parse()?;
        run(Command::new(postgres.bin.join("createdb")).args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "bench",
            "bench",
        ]))?;
        Ok(postgres)
    }

    /// CPU-seconds of the server and all its backends so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.pid)
    }

    /// A server tool, as a user that PostgreSQL accepts.
    fn tool(&self, name: &str, core: Option<usize>) -> Result<Command> {
        let mut words: Vec<String> = Vec::new();
        if is_root()? {
            words.extend(["runuser", "-u", "postgres", "--"].map(str::to_owned));
        }
        if let Some(core) = core {
            words.extend(["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
        }
        words.push(self.bin.join(name).display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(std::env::temp_dir());
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Ok(mut command) = self.tool("pg_ctl", None) {
            // Best effort: the benchmark is over.
            let _ = command
                .args(["-m", "immediate", "-D"])
                .arg(self.folder.join("data"))
                .arg("stop")
                .output();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The newest server's tools.
fn newest_bin() -> Result<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map_err(|_| "PostgreSQL's server is not installed (package postgresql)")?
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|path| Path::exists(&path.join("initdb")))
        .collect();
    versions.sort();
    versions.pop().ok_or_else(|| "no PostgreSQL server found".into())
}

fn is_root() -> Result<bool> {
    Ok(run(Command::new("id").arg("-u"))?.stdout.starts_with(b"0\n"))
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs a command to its end; its words are the error.
fn run(command: &mut Command) -> Result<Output> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{:?}: {text}", command.get_program()).into())
}
