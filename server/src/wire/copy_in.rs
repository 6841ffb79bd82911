//! COPY … FROM STDIN: the connection gathers CopyData into large pieces, a thread of the query
//! pool parses and writes them. Nothing is visible before CopyDone; any failure undoes all.
//!
//! ```text
//! CopyData* ─ gather ─→ 256 KiB pieces ─ channel of 4 ─→ LineParser ─ 8 192 rows ─→ CopyIn::write
//! ```

use bytes::{Buf, BytesMut};
use planner::{Error, plan::CopyIn};
use storage::table::take_unsynced;
use tokio::sync::mpsc;

use crate::{
    connection::{Connection, Failure},
    copy::{CopyError, LineParser},
    wire::{
        frame::{Message, take_frame},
        inbound::ReadEnd,
    },
};

/// Bytes handed to the parser at once.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces between the connection and the parser.
const PIECES_AHEAD: usize = 4;

/// What the connection tells the parser. Hanging up without [`Piece::End`] undoes the COPY.
enum Piece {
    Data(BytesMut),
    End,
}

/// How far the gathering got.
enum Gathered {
    /// All frames that are here are taken.
    All,
    /// CopyDone.
    Done,
}

impl Connection {
    /// Serves a COPY FROM STDIN; answers its tag.
    pub async fn copy_in(&mut self, copy: CopyIn) -> Result<String, Failure> {
        self.outbound.copy_in(copy.columns.len());
        self.flush_guarded().await?;
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let shared = std::sync::Arc::clone(&self.shared);
        let zone = self.session.zone;
        let worker = shared.pool.run((), move |()| {
            let loaded = load(copy, zone, receiver);
            Ok((loaded, take_unsynced()))
        });
        tokio::pin!(worker);
        let mut piece = BytesMut::new();
        let outcome = loop {
            let gathered = gather(&mut self.inbound.buffer, &mut piece)?;
            let is_done = matches!(gathered, Gathered::Done);
            if is_done || piece.len() >= PIECE_BYTES {
                let full = std::mem::take(&mut piece);
                let sending = async {
                    let sent = sender.send(Piece::Data(full)).await.is_ok();
                    sent && (!is_done || sender.send(Piece::End).await.is_ok())
                };
                tokio::select! {
                    biased;
                    (_, outcome) = &mut worker => break outcome,
                    end = self.guard.stopped(&self.shared.shutdown) => return Err(end),
                    _ = sending => {}
                }
            }
            if is_done {
                tokio::select! {
                    biased;
                    (_, outcome) = &mut worker => break outcome,
                    end = self.guard.stopped(&self.shared.shutdown) => return Err(end),
                }
            }
            if !self.inbound.buffer.is_empty() && is_frame_ready(&self.inbound.buffer) {
                continue;
            }
            tokio::select! {
                biased;
                (_, outcome) = &mut worker => break outcome,
                end = self.guard.stopped(&self.shared.shutdown) => return Err(end),
                read = self.inbound.read_more() => read.map_err(|end| match end {
                    ReadEnd::Gone => Failure::Gone,
                    ReadEnd::Malformed(error) => Failure::Fatal(error),
                })?,
            }
        };
        let (loaded, is_unsynced) = outcome?;
        self.tell_when_durable(is_unsynced);
        match loaded {
            Ok(count) => Ok(format!("COPY {count}")),
            Err(failed) => Err(Failure::Copy(failed)),
        }
    }
}

/// Whether `input` begins with a whole frame.
fn is_frame_ready(input: &BytesMut) -> bool {
    let Some(header) = input.get(1..5) else { return false };
    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
    input.len() > length
}

/// Moves the bodies of CopyData frames from `input` to `piece`, up to a full piece.
fn gather(input: &mut BytesMut, piece: &mut BytesMut) -> Result<Gathered, Failure> {
    while piece.len() < PIECE_BYTES {
        // The common case in place: psql sends one frame a line.
        if input.first() == Some(&b'd') && is_frame_ready(input) {
            let length = u32::from_be_bytes([input[1], input[2], input[3], input[4]]) as usize;
            if length >= 4 {
                piece.extend_from_slice(&input[5..=length]);
                input.advance(length + 1);
                continue;
            }
        }
        let Some(frame) = take_frame(input).map_err(Failure::Fatal)? else { break };
        if !matches!(frame.tag, b'd' | b'c' | b'f' | b'H' | b'S') {
            let tag = frame.tag;
            let message = format!("unexpected message type 0x{tag:02X} during COPY from stdin");
            return Err(Failure::Fatal(Error::new("08P01", message)));
        }
        match frame.message()? {
            Message::CopyData(body) => piece.extend_from_slice(&body),
            Message::CopyDone => return Ok(Gathered::Done),
            Message::CopyFail(reason) => {
                let message = format!("COPY from stdin failed: {reason}");
                return Err(Error::new("57014", message).into());
            }
            // Flush and Sync: as in PostgreSQL they mean nothing while data comes.
            _ => {}
        }
    }
    Ok(Gathered::All)
}

/// The parser's thread.
fn load(
    copy: CopyIn,
    zone: crate::wire::types::TimeZone,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<u64, Box<CopyError>> {
    let mut parser = LineParser::new(copy, zone);
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Data(piece)) => parser.push(&piece)?,
            Some(Piece::End) => return parser.finish(),
            None => {
                let error = Error::new("57014", "COPY from stdin was given up");
                return Err(Box::new(CopyError { error, context: String::new() }));
            }
        }
    }
}
