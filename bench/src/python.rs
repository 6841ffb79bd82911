//! The peers for scans, and DuckDB as the judge of every answer: from PyPI, in a Python process beside
//! us, one statement a line.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::Result;

/// An engine with bindings on PyPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// DuckDB.
    DuckDb,
    /// DataFusion with its tables in memory.
    DataFusion,
}

/// A running engine: a process of `peers/peer.py`.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Its version.
    pub version: String,
}

impl Peer {
    /// Installs it once into a virtual environment of the user's cache, and starts it.
    pub fn start(engine: Engine) -> Result<Self> {
        let python = environment()?.join("bin/python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/peer.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(match engine {
                Engine::DuckDb => "duckdb",
                Engine::DataFusion => "datafusion",
            })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no stdin")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut version = String::new();
        output.read_line(&mut version)?;
        Ok(Self { child, input, output, version: version.trim().to_owned() })
    }

    /// Milliseconds to the last row, and the answer as the script prints it.
    pub fn query(&mut self, sql: &str) -> Result<(f64, String)> {
        writeln!(self.input, "{}", sql.replace('\n', " "))?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let body = line.trim().strip_prefix('[').ok_or("the peer failed; see above")?;
        let (elapsed, rows) = body.split_once(", ").ok_or("not an answer")?;
        Ok((elapsed.parse()?, rows.strip_suffix(']').unwrap_or(rows).to_owned()))
    }
}

impl Peer {
    /// Fails unless the rows of two CSV files, read with the same column types, are the same rows,
    /// each as often: `theirs` is SQL, `ours` the file that our server's COPY wrote.
    pub fn assert_same_rows(&mut self, ours: &Path, columns: &str, theirs: &str) -> Result<()> {
        let file = ours.display();
        self.query("DROP TABLE IF EXISTS ours; DROP TABLE IF EXISTS theirs")?;
        self.query(&format!(
            "CREATE TABLE ours AS FROM read_csv('{file}', header = false, columns = {columns})"
        ))?;
        self.query(&format!("CREATE TABLE theirs AS {theirs}"))?;
        let (_, counts) = self.query(
            "SELECT (SELECT count(*) FROM (FROM ours EXCEPT ALL FROM theirs)), \
             (SELECT count(*) FROM (FROM theirs EXCEPT ALL FROM ours)), \
             (SELECT count(*) > 0 FROM ours)",
        )?;
        if counts == r#"[["0", "0", "True"]]"# {
            return Ok(());
        }
        Err(format!("rows only ours, rows only DuckDB's, any rows: {counts} for {theirs}").into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The virtual environment, made on first use.
fn environment() -> Result<PathBuf> {
    let cache = std::env::var("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|_| std::env::var("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    let folder = cache.join("tidewater-bench-peers");
    let complete = folder.join(".complete");
    if !complete.exists() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).status()?;
        let pip = folder.join("bin/pip");
        let installed = Command::new(pip)
            .args(["-q", "install", "duckdb>=1", "datafusion>=50", "pyarrow"])
            .status()?;
        if !made.success() || !installed.success() {
            return Err("DuckDB and DataFusion could not be installed from PyPI".into());
        }
        std::fs::write(complete, "")?;
    }
    Ok(folder)
}
