//! Frames from the client, and the news that it went away.
//! What a client sends ahead of its answers is kept up to a limit, then it has to wait.

use std::time::Duration;

use bytes::BytesMut;
use planner::Result;
use tokio::{
    io::{AsyncReadExt, Interest},
    net::tcp::OwnedReadHalf,
};

use super::frame::{Frame, take_frame};

/// Bytes read ahead while a statement runs; more stay in the socket and push back.
const READ_AHEAD_MAX: usize = 1 << 20;

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 16 << 10;

/// How often a client that has sent more than we read ahead is looked after.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The reading half of a connection.
#[derive(Debug)]
pub struct Inbound {
    socket: OwnedReadHalf,
    /// Bytes that are not taken yet.
    pub buffer: BytesMut,
}

/// Why no frame came.
#[derive(Debug)]
pub enum ReadEnd {
    /// The client closed the connection, or it broke.
    Gone,
    /// The bytes make no sense; the connection must end.
    Malformed(planner::Error),
}

impl Inbound {
    /// An empty buffer behind `socket`.
    pub fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, buffer: BytesMut::with_capacity(READ_BYTES) }
    }

    /// The next frame, if it is already here.
    pub fn take_ready(&mut self) -> Result<Option<Frame>> {
        take_frame(&mut self.buffer)
    }

    /// The next frame.
    pub async fn next(&mut self) -> Result<Frame, ReadEnd> {
        loop {
            if let Some(frame) = self.take_ready().map_err(ReadEnd::Malformed)? {
                return Ok(frame);
            }
            self.read_more().await?;
        }
    }

    /// Reads at least one byte. Cancel safe: bytes read are in the buffer.
    pub async fn read_more(&mut self) -> Result<(), ReadEnd> {
        self.buffer.reserve(READ_BYTES);
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(count) if count > 0 => Ok(()),
            _ => Err(ReadEnd::Gone),
        }
    }

    /// Returns when the client has gone; reads ahead meanwhile.
    pub async fn gone(&mut self) {
        while self.buffer.len() < READ_AHEAD_MAX {
            if self.read_more().await.is_err() {
                return;
            }
        }
        loop {
            match self.socket.ready(Interest::READABLE).await {
                Ok(ready) if ready.is_read_closed() => return,
                Err(_) => return,
                Ok(_) => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    }
}
