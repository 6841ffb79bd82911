//! The binary as a process: signals, and a terminal that went away.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::raw::{PATIENCE, Raw, tags};

/// Within this time after SIGTERM the process has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// A server process that dies with its test.
pub struct Process {
    child: Child,
    pub address: String,
}

impl Process {
    /// Starts the binary and waits until it is ready.
    fn start(log: &str) -> Self {
        Self::start_with(&["--in-memory"], log)
    }

    /// The same with these arguments, on a free port.
    pub fn start_with(arguments: &[&str], log: &str) -> Self {
        let mut child = Self::command(arguments)
            .args(["--listen", "127.0.0.1:0"])
            .env("TIDEWATER_LOG", log)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("ready on ").unwrap().to_owned();
        Self { child, address }
    }

    /// The binary with these arguments.
    pub fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
        command.args(arguments);
        command
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn client(&self) -> Raw {
        let socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Raw(socket);
        raw.packet(3 << 16, b"user\0test\0\0");
        raw.until(b'Z');
        raw
    }

    fn terminate(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sigterm_ends_busy_streams_and_stalled_clients_within_two_seconds() {
    let mut process = Process::start("warn");
    let mut clients: Vec<Raw> = (0..20).map(|_| process.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.query(match number % 4 {
            0 => "SELECT v FROM TABLE(generate_stream(1000))",
            1 => "SELECT repeat('x', 1000) FROM TABLE(generate_stream(1000000))",
            2 => "COPY (SELECT v FROM TABLE(generate_stream(1000))) TO STDOUT",
            _ => "SELECT count(*) FROM generate_series(1, 100000000000) AS s(i)",
        });
    }
    let mut client = process.client();
    client.query("CREATE TABLE t (k BIGINT PRIMARY KEY)");
    client.until(b'Z');
    client.query("CREATE JOB j AS SINK INTO t SELECT v FROM TABLE(generate_stream(100000))");
    assert_eq!(tags(&client.until(b'Z')), "CZ");
    let clock = storage::env::Env::real().clock;
    process.terminate();
    let start = clock.monotonic_nanos();
    let status = process.child.wait().unwrap();
    let took = Duration::from_nanos(clock.monotonic_nanos() - start);
    assert!(status.success(), "{status}");
    assert!(took < FAREWELL, "it took {took:?}");
}

#[test]
fn server_outlives_the_terminal_that_started_it() {
    let mut process = Process::start("debug");
    drop(process.child.stdout.take());
    drop(process.child.stderr.take());
    let mut client = process.client();
    // Each of these has something to log.
    for sql in ["SELECT 1", "SELECT no_such_column", "SELECT debug_panic()", "SELECT 1"] {
        client.query(sql);
        client.until(b'Z');
    }
    let mut stranger = TcpStream::connect(&process.address).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    // It is told why in the protocol it does not speak, or just dropped.
    let _ = stranger.read_to_end(&mut answer);
    client.query("SELECT 40 + 2");
    assert_eq!(tags(&client.until(b'Z')), "TDCZ");
    process.terminate();
    assert!(process.child.wait().unwrap().success());
}
