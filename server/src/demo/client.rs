//! The least client that can run the demo: simple protocol, text, blocking.
//! Not for anything else; the demo's user has psql.

use std::{
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

/// A row: text or NULL.
pub type Row = Vec<Option<String>>;

/// Why a statement of the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke: most likely the server stops.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The server refused a statement.
    #[error("{0}")]
    Statement(String),
}

/// A connection.
pub struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Client {
    /// Connects and starts a session.
    pub fn connect(address: SocketAddr) -> Result<Self, Error> {
        let writer = TcpStream::connect(address)?;
        let reader = BufReader::new(writer.try_clone()?);
        let mut client = Self { reader, writer };
        let body = b"\0\x03\0\0user\0demo\0application_name\0tidewater demo\0\0";
        client.writer.write_all(&(body.len() as u32 + 4).to_be_bytes())?;
        client.writer.write_all(body)?;
        client.answer()?;
        Ok(client)
    }

    /// Runs a statement; answers its rows.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        let mut frame = vec![b'Q'];
        frame.extend((sql.len() as u32 + 5).to_be_bytes());
        frame.extend(sql.as_bytes());
        frame.push(0);
        self.writer.write_all(&frame)?;
        self.answer()
    }

    /// Reads up to ReadyForQuery.
    fn answer(&mut self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        let mut refusal = None;
        loop {
            let mut header = [0; 5];
            self.reader.read_exact(&mut header)?;
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let mut body = vec![0; (length as usize).saturating_sub(4)];
            self.reader.read_exact(&mut body)?;
            match header[0] {
                b'D' => rows.push(row(&body)),
                b'E' => refusal = Some(message(&body)),
                b'Z' => return refusal.map_or(Ok(rows), |text| Err(Error::Statement(text))),
                _ => {}
            }
        }
    }
}

fn row(body: &[u8]) -> Row {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut row = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            rest = after;
            continue;
        };
        let (value, after) = after.split_at(length.min(after.len()));
        row.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    row
}

/// The message field of an ErrorResponse.
fn message(body: &[u8]) -> String {
    let fields = body.split(|byte| *byte == 0);
    let message = fields.filter_map(|field| field.strip_prefix(b"M")).next();
    String::from_utf8_lossy(message.unwrap_or(b"unknown error")).into_owned()
}
