//! A client that only counts: reads the rows of one simple query as frames, without building values,
//! so that it costs a few nanoseconds a row and the server is what is measured.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::Result;

/// Bytes read at once.
const READ: usize = 256 << 10;

/// A query whose rows arrive on a socket of its own.
#[derive(Debug)]
pub struct RawRows {
    socket: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl RawRows {
    /// Connects and sends the query.
    pub fn start(port: u16, sql: &str) -> Result<Self> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        let parameters = b"user\0bench\0database\0bench\0\0";
        let mut startup = ((parameters.len() + 8) as u32).to_be_bytes().to_vec();
        startup.extend(196_608u32.to_be_bytes());
        startup.extend(parameters);
        socket.write_all(&startup)?;
        let mut query = vec![b'Q'];
        query.extend(((sql.len() + 5) as u32).to_be_bytes());
        query.extend(sql.as_bytes());
        query.push(0);
        socket.write_all(&query)?;
        Ok(Self { socket, buffer: vec![0; READ * 2], filled: 0 })
    }

    /// Waits for bytes, then gives the first column's text of every whole row that is there. False
    /// when the server closed the connection.
    pub fn read(&mut self, mut row: impl FnMut(&[u8])) -> Result<bool> {
        if self.buffer.len() - self.filled < READ {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let count = self.socket.read(&mut self.buffer[self.filled..])?;
        self.filled += count;
        let mut at = 0;
        while let Some(frame) = frame(&self.buffer[at..self.filled]) {
            let body = &self.buffer[at + 5..at + frame];
            match self.buffer[at] {
                b'D' => row(first_column(body)),
                b'E' => return Err(String::from_utf8_lossy(body).into_owned().into()),
                _ => {}
            }
            at += frame;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(count > 0)
    }
}

/// Length of the whole frame at the front of `bytes`, if all of it is there.
fn frame(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..5)?.try_into().ok()?;
    let whole = 1 + u32::from_be_bytes(length) as usize;
    (bytes.len() >= whole).then_some(whole)
}

/// The first column of a DataRow's body: number of columns (2 bytes), its length (4 bytes), its text.
fn first_column(body: &[u8]) -> &[u8] {
    let length = body.get(2..6).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    let length = length.unwrap_or(0).max(0) as usize;
    body.get(6..6 + length).unwrap_or_default()
}
