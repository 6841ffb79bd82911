//! Our side: the release binary on a free port, pinned if asked for; killed when dropped.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{Result, now, process};

/// A running release server.
#[derive(Debug)]
pub struct Tidewater {
    child: Child,
    /// Port it listens on.
    pub port: u16,
    /// From exec to the ready line.
    pub ready_after: Duration,
}

impl Tidewater {
    /// Starts the binary beside this benchmark, in memory; `core` pins it to one CPU.
    pub fn start(core: Option<usize>, arguments: &[&str]) -> Result<Self> {
        Self::start_on(None, core, arguments)
    }

    /// The same on a data directory.
    pub fn start_on(
        data_dir: Option<&Path>,
        core: Option<usize>,
        arguments: &[&str],
    ) -> Result<Self> {
        let bench = std::env::current_exe()?;
        // target/release/deps/point_rows-… → target/release/tidewater
        let binary = bench.ancestors().nth(2).ok_or("no target folder")?.join("tidewater");
        if !binary.exists() {
            return Err("the release binary is missing; run `cargo build --release` first".into());
        }
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(&binary);
                command
            }
            None => Command::new(&binary),
        };
        match data_dir {
            Some(folder) => command.arg("--data-dir").arg(folder),
            None => command.arg("--in-memory"),
        };
        let begin = now();
        let mut child = command
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready_after = begin.elapsed();
        let port = line.trim().rsplit(':').next().unwrap_or_default().parse();
        let port = port.map_err(|_| format!("not a ready line: {line:?}"))?;
        Ok(Self { child, port, ready_after })
    }

    /// Ends it as SIGTERM does, and waits for that; how long it took.
    pub fn terminate(mut self) -> Result<Duration> {
        let begin = now();
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(begin.elapsed())
    }

    /// CPU-seconds so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.child.id())
    }

    /// Resident bytes.
    pub fn rss_bytes(&self) -> Result<u64> {
        process::rss_bytes(self.child.id())
    }
}

impl Drop for Tidewater {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
