//! Messages to the client, gathered in one buffer and written in as few calls as possible.
//! Nothing is flushed behind the caller's back: the sub-protocols say when.

use std::{future::poll_fn, io::ErrorKind, sync::Arc, task::Poll, time::Duration};

use bytes::{Buf, BufMut, BytesMut};
use pgwire::messages::{
    Message,
    copy::{CopyInResponse, CopyOutResponse},
    data::ParameterDescription,
    response::{CommandComplete, ErrorResponse, NoticeResponse, ReadyForQuery, TransactionStatus},
    startup::{
        Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey,
    },
};
use planner::{Error, OutputColumn, SqlType};
use storage::{data_log::DataLog, log::Lsn};
use tokio::net::tcp::OwnedWriteHalf;

use super::{
    error::{Severity, fields, notice_fields},
    types::{
        Format,
        encode::{begin_frame, end_frame, format_of},
    },
};

/// Bytes gathered before rows are written, and the size of a buffer worth keeping.
pub const FLUSH_BYTES: usize = 64 << 10;

/// The writing half of a connection.
#[derive(Debug)]
pub struct Outbound {
    socket: OwnedWriteHalf,
    /// Frames that are not written yet.
    pub buffer: BytesMut,
    /// How long one write may wait for the client.
    patience: Duration,
    /// What must be on disk before the client is told anything.
    awaited: Option<Awaited>,
}

/// Records of a data log.
#[derive(Debug)]
struct Awaited {
    log: Arc<DataLog>,
    upto: Lsn,
}

impl Outbound {
    /// An empty buffer before `socket`, of whose client `patience` is had.
    pub fn new(socket: OwnedWriteHalf, patience: Duration) -> Self {
        Self { socket, buffer: BytesMut::with_capacity(4096), patience, awaited: None }
    }

    /// Holds back what is gathered, and what will be, until all that the log says by now is on disk.
    pub fn hold_back(&mut self, log: &Arc<DataLog>) {
        self.awaited = Some(Awaited { log: Arc::clone(log), upto: log.newest() });
    }

    /// Writes everything gathered. An error if the client takes no byte of it for the patience
    /// there is, or if what it would be told of cannot be made durable. Cancel safe: what was written
    /// is no longer in the buffer.
    pub async fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Some(Awaited { log, upto }) = &self.awaited {
            let synced = poll_fn(|context| match log.poll_synced(*upto, context.waker()) {
                Ok(false) => Poll::Pending,
                Ok(true) => Poll::Ready(Ok(())),
                Err(error) => Poll::Ready(Err(std::io::Error::other(error))),
            });
            synced.await?;
            self.awaited = None;
        }
        while !self.buffer.is_empty() {
            match self.socket.try_write(&self.buffer) {
                Ok(count) => self.buffer.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let writable = tokio::time::timeout(self.patience, self.socket.writable());
                    writable.await.map_err(|_| {
                        tracing::info!("client takes nothing of what is sent to it");
                        std::io::Error::from(ErrorKind::TimedOut)
                    })??;
                }
                Err(error) => return Err(error),
            }
        }
        if self.buffer.capacity() > 4 * FLUSH_BYTES {
            self.buffer = BytesMut::with_capacity(4096);
        }
        Ok(())
    }

    /// Whether enough is gathered to be worth a write.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= FLUSH_BYTES
    }

    fn put(&mut self, message: &impl Message) {
        message.encode(&mut self.buffer).expect("within the limits that pgwire checks");
    }

    /// A message without a body.
    fn put_empty(&mut self, tag: u8) {
        self.buffer.put_slice(&[tag, 0, 0, 0, 4]);
    }

    /// AuthenticationOk.
    pub fn authentication_ok(&mut self) {
        self.put(&Authentication::Ok);
    }

    /// ParameterStatus.
    pub fn parameter_status(&mut self, name: &str, value: &str) {
        self.put(&ParameterStatus::new(name.to_owned(), value.to_owned()));
    }

    /// BackendKeyData.
    pub fn backend_key(&mut self, session_id: i32, secret: i32) {
        self.put(&BackendKeyData::new(session_id, SecretKey::I32(secret)));
    }

    /// NegotiateProtocolVersion: the newest minor version is 0.
    pub fn negotiate_version(&mut self, unsupported_options: Vec<String>) {
        const VERSION_3_0: i32 = 3 << 16;
        self.put(&NegotiateProtocolVersion::new(VERSION_3_0, unsupported_options));
    }

    /// ReadyForQuery.
    pub fn ready_for_query(&mut self, status: TransactionStatus) {
        self.put(&ReadyForQuery::new(status));
    }

    /// RowDescription: written here, not by pgwire, because prepared statements ask for it with
    /// every execution.
    pub fn row_description(&mut self, columns: &[OutputColumn], formats: &[Format]) {
        let out = &mut self.buffer;
        let frame = begin_frame(b'T', out);
        out.put_u16(columns.len() as u16);
        for (index, column) in columns.iter().enumerate() {
            let sql_type = &column.sql_type;
            out.extend(column.name.bytes().filter(|byte| *byte != 0));
            out.put_u8(0);
            // Zeros for a column that is computed.
            out.put_u32(column.origin.map_or(0, |origin| origin.relation));
            out.put_i16(column.origin.map_or(0, |origin| origin.column));
            out.put_u32(wire_oid(sql_type));
            out.put_i16(type_size(sql_type));
            out.put_i32(type_modifier(sql_type));
            out.put_i16(format_of(formats, index).code());
        }
        end_frame(frame, out);
    }

    /// NoData.
    pub fn no_data(&mut self) {
        self.put_empty(b'n');
    }

    /// ParameterDescription.
    pub fn parameter_description(&mut self, types: &[SqlType]) {
        self.put(&ParameterDescription::new(types.iter().map(wire_oid).collect()));
    }

    /// ParseComplete.
    pub fn parse_complete(&mut self) {
        self.put_empty(b'1');
    }

    /// BindComplete.
    pub fn bind_complete(&mut self) {
        self.put_empty(b'2');
    }

    /// CloseComplete.
    pub fn close_complete(&mut self) {
        self.put_empty(b'3');
    }

    /// PortalSuspended.
    pub fn portal_suspended(&mut self) {
        self.put_empty(b's');
    }

    /// EmptyQueryResponse.
    pub fn empty_query(&mut self) {
        self.put_empty(b'I');
    }

    /// CommandComplete.
    pub fn command_complete(&mut self, tag: &str) {
        match tag.len() < 1000 {
            true => {
                self.buffer.put_u8(b'C');
                self.buffer.put_i32(tag.len() as i32 + 5);
                self.buffer.put_slice(tag.as_bytes());
                self.buffer.put_u8(0);
            }
            false => self.put(&CommandComplete::new(tag[..1000].to_owned())),
        }
    }

    /// CopyInResponse: text format.
    pub fn copy_in(&mut self, column_count: usize) {
        self.put(&CopyInResponse::new(0, column_count as i16, vec![0; column_count]));
    }

    /// CopyOutResponse: text format.
    pub fn copy_out(&mut self, column_count: usize) {
        self.put(&CopyOutResponse::new(0, column_count as i16, vec![0; column_count]));
    }

    /// CopyDone.
    pub fn copy_done(&mut self) {
        self.put_empty(b'c');
    }

    /// ErrorResponse.
    pub fn error(&mut self, error: &Error, severity: Severity) {
        self.put(&ErrorResponse::new(fields(error, severity)));
    }

    /// ErrorResponse with the CONTEXT field of COPY.
    pub fn error_in_context(&mut self, error: &Error, context: &str) {
        let mut fields = fields(error, Severity::Error);
        fields.push((b'W', context.replace('\0', "\u{fffd}")));
        self.put(&ErrorResponse::new(fields));
    }

    /// NoticeResponse.
    pub fn notice(&mut self, code: &str, message: &str, severity: Severity) {
        self.put(&NoticeResponse::new(notice_fields(code, message, severity)));
    }
}

/// Type id on the wire; what is not known goes as text.
fn wire_oid(sql_type: &SqlType) -> u32 {
    match sql_type {
        SqlType::Unknown => 25,
        known => known.oid(),
    }
}

/// Size of a value, −1 if it varies.
fn type_size(sql_type: &SqlType) -> i16 {
    match sql_type {
        SqlType::Bool | SqlType::Char => 1,
        SqlType::Int2 => 2,
        SqlType::Int4 | SqlType::Float4 | SqlType::Date | SqlType::Oid => 4,
        SqlType::Int8
        | SqlType::Float8
        | SqlType::Time
        | SqlType::Timestamp
        | SqlType::Timestamptz => 8,
        SqlType::Interval | SqlType::Uuid => 16,
        SqlType::Name => 64,
        _ => -1,
    }
}

/// PostgreSQL's type modifier: length or precision and scale, −1 if there is none.
fn type_modifier(sql_type: &SqlType) -> i32 {
    const HEADER: i32 = 4;
    match sql_type {
        SqlType::Varchar(Some(limit)) | SqlType::Bpchar(Some(limit)) => *limit as i32 + HEADER,
        SqlType::Numeric(precision, scale) => {
            (i32::from(*precision) << 16 | i32::from(*scale) & 0x7ff) + HEADER
        }
        _ => -1,
    }
}
