//! Raw bytes on the wire, where no driver would send them. It knows frames and nothing of SQL.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use tidewater::{RunningServer, Server, ServerConfig};

/// How long any answer may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn server() -> RunningServer {
    let listen = "127.0.0.1:0".parse().unwrap();
    Server::start(ServerConfig { listen, worker_count: 2, ..ServerConfig::default() }).unwrap()
}

/// A raw connection: frames in, frames out.
pub struct Raw(pub TcpStream);

impl Raw {
    pub fn open(server: &RunningServer) -> Self {
        let socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// A connection that is through its start-up.
    pub fn started(server: &RunningServer) -> Self {
        let mut raw = Self::open(server);
        raw.packet(3 << 16, b"user\0test\0\0");
        raw.until(b'Z');
        raw
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn packet(&mut self, code: u32, rest: &[u8]) {
        self.bytes(&(rest.len() as u32 + 8).to_be_bytes());
        self.bytes(&code.to_be_bytes());
        self.bytes(rest);
    }

    pub fn frame(&mut self, tag: u8, body: &[u8]) {
        // In one piece: a server that refuses the tag closes before a second one comes.
        let length = (body.len() as u32 + 4).to_be_bytes();
        self.bytes(&[&[tag], &length[..], body].concat());
    }

    pub fn query(&mut self, sql: &str) {
        self.frame(b'Q', &[sql.as_bytes(), b"\0"].concat());
    }

    /// Parse, Bind without parameters, Execute with a limit.
    pub fn execute(&mut self, sql: &str, row_limit: i32) {
        self.frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
        self.frame(b'B', b"\0\0\0\0\0\0\0\0");
        self.frame(b'E', &[&b"\0"[..], &row_limit.to_be_bytes()].concat());
    }

    /// The next frame; `None` when the server closed the connection.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.0.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes(header[1..].try_into().unwrap());
        let mut body = vec![0; length as usize - 4];
        self.0.read_exact(&mut body).ok()?;
        Some((header[0], body))
    }

    /// Frames up to and with the first of type `tag`.
    pub fn until(&mut self, tag: u8) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("closed after {:?}", tags(&frames)));
            let is_last = frame.0 == tag;
            frames.push(frame);
            if is_last {
                return frames;
            }
        }
    }

    /// SQLSTATE of the error that ends the connection; `None` if it just ends.
    pub fn fatal(&mut self) -> Option<String> {
        let mut code = None;
        while let Some((tag, body)) = self.next() {
            if tag == b'E' {
                code = Some(sqlstate(&body));
            }
        }
        code
    }
}

pub fn tags(frames: &[(u8, Vec<u8>)]) -> String {
    frames.iter().map(|(tag, _)| *tag as char).collect()
}

pub fn sqlstate(body: &[u8]) -> String {
    let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
    String::from_utf8(code.unwrap().to_vec()).unwrap()
}

/// Sends COPY data in pieces of `piece` bytes; answers the frames up to ReadyForQuery.
pub fn copy(raw: &mut Raw, sql: &str, data: &[u8], piece: usize) -> Vec<(u8, Vec<u8>)> {
    raw.query(sql);
    raw.until(b'G');
    for piece in data.chunks(piece) {
        raw.frame(b'd', piece);
    }
    raw.frame(b'c', b"");
    raw.until(b'Z')
}
