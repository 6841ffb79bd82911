//! A real server process on a free port: start, kill, stop.
//! A missing or stale binary is an error, never a reason to skip.

use std::{
    io::{BufRead, BufReader, Error, ErrorKind, Read, Result},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

/// How long a server may take to print its ready line, or to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a server is started: its configuration file's keys that tests vary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerOptions {
    /// Lines of the configuration file (`simulated_owners = 3`).
    pub config: Vec<String>,
    /// `--file-root`.
    pub file_root: Option<PathBuf>,
    /// `--workers`.
    pub worker_count: Option<usize>,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    port: u16,
    config_file: Option<PathBuf>,
}

/// The binary beside this test's own, checked to be there and newer than its sources.
pub fn binary() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    // target/debug/deps/slt-… → target/debug/tidewater
    let folder = test.ancestors().nth(2).ok_or_else(|| Error::other("no target folder"))?;
    let binary = folder.join("tidewater");
    let built = std::fs::metadata(&binary).and_then(|data| data.modified()).map_err(|_| {
        Error::new(
            ErrorKind::NotFound,
            "the server binary is missing; run `cargo build` or plain `cargo test`",
        )
    })?;
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or_else(|| Error::other("no root"))?;
    for crate_folder in ["storage", "runtime", "planner", "server"] {
        if let Some(source) = newer_source(&root.join(crate_folder).join("src"), built)? {
            return Err(Error::other(format!(
                "the server binary is older than {}; run `cargo build` or plain `cargo test`",
                source.display()
            )));
        }
    }
    Ok(binary)
}

/// A source file below `folder` that changed after `built`.
fn newer_source(folder: &Path, built: SystemTime) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = newer_source(&path, built)? {
                return Ok(Some(found));
            }
            continue;
        }
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        if is_source && entry.metadata()?.modified()? > built {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

impl ServerProcess {
    /// Starts a server on a free port and waits for its ready line.
    pub fn start(options: &ServerOptions) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.args(["--in-memory", "--listen", "127.0.0.1:0"]);
        if let Some(count) = options.worker_count {
            command.args(["--workers", &count.to_string()]);
        }
        if let Some(root) = &options.file_root {
            command.arg("--file-root").arg(root);
        }
        let config_file = write_config(&options.config)?;
        if let Some(file) = &config_file {
            command.arg("--config").arg(file);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Error::other("no stdout"))?;
        let stderr = child.stderr.take().ok_or_else(|| Error::other("no stderr"))?;
        drain(stderr);
        let mut server = Self { child, port: 0, config_file };
        server.port = ready_port(stdout)?;
        Ok(server)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// SIGTERM; answers whether it ended with code 0, and how long it took.
    pub fn stop(&mut self) -> Result<(bool, Duration)> {
        let begin = now();
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        if !status.success() {
            return Err(Error::other("SIGTERM could not be sent"));
        }
        while now().duration_since(begin) < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status.success(), now().duration_since(begin)));
            }
            pause();
        }
        Err(Error::new(ErrorKind::TimedOut, "the server did not end after SIGTERM"))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell.
        let _ = self.kill();
        if let Some(file) = &self.config_file {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Writes the configuration to a file of its own; `None` for no lines.
fn write_config(lines: &[String]) -> Result<Option<PathBuf>> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if lines.is_empty() {
        return Ok(None);
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("tidewater-test-{}-{number}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, lines.join("\n"))?;
    Ok(Some(file))
}

/// Reads the ready line, then keeps the pipe empty.
fn ready_port(stdout: std::process::ChildStdout) -> Result<u16> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next();
        // The receiver may have given up; then nobody cares.
        let _ = sender.send(first);
        lines.for_each(drop);
    });
    let first = receiver
        .recv_timeout(PATIENCE)
        .map_err(|_| Error::new(ErrorKind::TimedOut, "the server printed no ready line in time"))?;
    let line = first.ok_or_else(|| Error::other("the server ended before it was ready"))??;
    let port = line.strip_prefix("ready on 127.0.0.1:").and_then(|port| port.trim().parse().ok());
    port.ok_or_else(|| Error::other(format!("not a ready line: {line}")))
}

/// Keeps a pipe empty so that the server never blocks on it.
fn drain(mut pipe: impl Read + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while matches!(pipe.read(&mut buffer), Ok(count) if count > 0) {}
    });
}

#[expect(clippy::disallowed_methods, reason = "tests measure the real server from outside")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A short pause between two polls of a condition.
#[expect(clippy::disallowed_methods, reason = "polls a condition with a bound")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
