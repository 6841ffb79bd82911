//! Runs `pgbench` with a script of ours against either side.

use std::{io::Write, process::Command};

use crate::Result;

/// One run.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// Port of the server.
    pub port: u16,
    /// The script.
    pub script: &'a str,
    /// `prepared` or `simple`.
    pub mode: &'a str,
    /// Connections.
    pub clients: u32,
    /// Length, seconds.
    pub seconds: u64,
    /// CPU to pin the client to.
    pub core: Option<usize>,
}

/// Transactions a second; an error of any transaction is an error of the run.
pub fn tps(run: &Run<'_>) -> Result<f64> {
    let file = std::env::temp_dir().join(format!("tidewater-bench-{}.sql", std::process::id()));
    std::fs::File::create(&file)?.write_all(run.script.as_bytes())?;
    let mut words: Vec<String> = Vec::new();
    if let Some(core) = run.core {
        words.extend(["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
    }
    words.push("pgbench".to_owned());
    let output = Command::new(&words[0])
        .args(&words[1..])
        .args(["-n", "-h", "127.0.0.1", "-U", "bench", "-p", &run.port.to_string()])
        .args(["-M", run.mode, "-c", &run.clients.to_string(), "-j", "1"])
        .args(["-T", &run.seconds.to_string(), "-f"])
        .arg(&file)
        .arg("bench")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() || errors.contains("ERROR") {
        return Err(format!("pgbench: {errors}").into());
    }
    let line = text.lines().find(|line| line.starts_with("tps = ")).ok_or("no tps line")?;
    Ok(line["tps = ".len()..].split(' ').next().unwrap_or_default().parse()?)
}
