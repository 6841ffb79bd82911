//! Client bytes → frames and messages. Lengths are checked before anything waits or allocates, and
//! text before anything believes it. pgwire's own decoder is not used for this direction: it
//! replaces invalid UTF-8, reads past the end of short frames and allows 1 GiB before a password.

use bytes::{Buf, Bytes, BytesMut};
use planner::{Error, Result};

use super::types::{Format, parameter::utf8};

/// Bytes of a first packet (start-up, cancel, SSL request), as in PostgreSQL.
pub const STARTUP_LENGTH_MAX: usize = 10_000;

/// Bytes of any later frame: a statement, a Bind, a CopyData. PostgreSQL allows 1 GiB; nothing we
/// do with a statement of that size would succeed.
pub const FRAME_LENGTH_MAX: usize = 64 << 20;

/// Bytes of a frame that carries only a name.
const SHORT_FRAME_LENGTH_MAX: usize = 64 << 10;

/// One frame after start-up.
#[derive(Debug)]
pub struct Frame {
    /// Message type.
    pub tag: u8,
    /// Body, without type and length.
    pub body: Bytes,
}

/// A message of the client.
#[derive(Debug)]
pub enum Message {
    /// Simple query.
    Query(Bytes),
    /// Parse.
    Parse(Parse),
    /// Bind.
    Bind(Bind),
    /// Describe a statement or portal.
    Describe(Target),
    /// Execute.
    Execute {
        /// Portal.
        portal: Name,
        /// Rows; 0 for all.
        row_limit: u32,
    },
    /// Close a statement or portal.
    Close(Target),
    /// Flush.
    Flush,
    /// Sync.
    Sync,
    /// Terminate.
    Terminate,
    /// A piece of COPY.
    CopyData(Bytes),
    /// End of COPY.
    CopyDone,
    /// The client gives up its COPY, with its reason.
    CopyFail(String),
}

/// A name on the wire; empty for the unnamed statement or portal. Shares the frame's memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Bytes);

/// Parse.
#[derive(Debug)]
pub struct Parse {
    /// Statement name.
    pub name: Name,
    /// Text.
    pub query: String,
    /// Declared parameter types; 0 is none.
    pub parameter_oids: Vec<u32>,
}

/// Bind.
#[derive(Debug)]
pub struct Bind {
    /// Portal to make.
    pub portal: Name,
    /// Statement it is made from.
    pub statement: Name,
    /// Formats of parameters: none, one for all, or one each.
    pub parameter_formats: Vec<Format>,
    /// Values; `None` is NULL.
    pub values: Vec<Option<Bytes>>,
    /// Formats of result columns: none, one for all, or one each.
    pub result_formats: Vec<Format>,
}

/// What Describe and Close name.
#[derive(Debug)]
pub enum Target {
    /// A prepared statement.
    Statement(Name),
    /// A portal.
    Portal(Name),
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was read")
    }

    /// Whether it is the unnamed one.
    pub fn is_unnamed(&self) -> bool {
        self.0.is_empty()
    }
}

/// 08P01 in PostgreSQL's words.
pub fn protocol_violation(message: impl Into<String>) -> Error {
    Error::new("08P01", message)
}

/// Takes the next whole frame off `input`; `None` if it is not all there. An error is fatal: the
/// frame's border can no longer be trusted.
pub fn take_frame(input: &mut BytesMut) -> Result<Option<Frame>> {
    let Some(header) = input.get(..5) else {
        // One wrong byte is enough to know.
        return match input.first() {
            Some(tag) if length_max(*tag).is_none() => Err(invalid_tag(*tag)),
            _ => Ok(None),
        };
    };
    let tag = header[0];
    let length_max = length_max(tag).ok_or_else(|| invalid_tag(tag))?;
    let length = i32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let length = usize::try_from(length).ok().filter(|length| (4..=length_max).contains(length));
    let Some(length) = length else {
        return Err(protocol_violation("invalid message length"));
    };
    if input.len() < length + 1 {
        return Ok(None);
    }
    let mut frame = input.split_to(length + 1);
    frame.advance(5);
    Ok(Some(Frame { tag, body: frame.freeze() }))
}

/// Whether the first frame of `input` is whole and is a Sync.
pub fn is_sync_next(input: &BytesMut) -> bool {
    input.starts_with(&[b'S', 0, 0, 0, 4])
}

/// Longest frame of a type; `None` if there is no such type.
fn length_max(tag: u8) -> Option<usize> {
    match tag {
        b'Q' | b'P' | b'B' | b'd' | b'F' => Some(FRAME_LENGTH_MAX),
        b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' | b'p' => {
            Some(SHORT_FRAME_LENGTH_MAX)
        }
        _ => None,
    }
}

fn invalid_tag(tag: u8) -> Error {
    protocol_violation(format!("invalid frontend message type {tag}"))
}

impl Frame {
    /// Reads the body. 08P01 if it is cut or has a rest, 22021 if a text is no UTF-8.
    pub fn message(self) -> Result<Message> {
        let mut body = Body(self.body);
        let message = match self.tag {
            b'Q' => Message::Query(body.text()?),
            b'P' => Message::Parse(body.parse()?),
            b'B' => Message::Bind(body.bind()?),
            b'D' => Message::Describe(body.target("DESCRIBE")?),
            b'C' => Message::Close(body.target("CLOSE")?),
            b'E' => {
                let portal = body.name()?;
                // A negative limit means none, as in PostgreSQL.
                let row_limit = u32::try_from(body.int32()?).unwrap_or(0);
                Message::Execute { portal, row_limit }
            }
            b'H' => Message::Flush,
            b'S' => Message::Sync,
            // Whoever leaves need not leave in order.
            b'X' => return Ok(Message::Terminate),
            b'd' => return Ok(Message::CopyData(body.0)),
            b'c' => Message::CopyDone,
            b'f' => Message::CopyFail(utf8(&body.text()?)?.to_owned()),
            b'F' => return Err(Error::unsupported("function call messages are not supported")),
            tag => return Err(invalid_tag(tag)),
        };
        if !body.0.is_empty() {
            return Err(protocol_violation("invalid message format"));
        }
        Ok(message)
    }
}

/// A frame's body, read from the front.
struct Body(Bytes);

impl Body {
    /// Bytes up to a zero.
    fn text(&mut self) -> Result<Bytes> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| protocol_violation("invalid string in message"))?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        Ok(text)
    }

    fn name(&mut self) -> Result<Name> {
        let text = self.text()?;
        utf8(&text)?;
        Ok(Name(text))
    }

    fn take(&mut self, count: usize) -> Result<Bytes> {
        if self.0.len() < count {
            return Err(protocol_violation("insufficient data left in message"));
        }
        Ok(self.0.split_to(count))
    }

    fn int32(&mut self) -> Result<i32> {
        Ok(self.take(4)?.get_i32())
    }

    fn count(&mut self) -> Result<usize> {
        Ok(usize::from(self.take(2)?.get_u16()))
    }

    fn target(&mut self, verb: &str) -> Result<Target> {
        let Some(&kind) = self.0.first() else {
            return Err(protocol_violation("no data left in message"));
        };
        self.0.advance(1);
        let name = self.name()?;
        match kind {
            _ if !self.0.is_empty() => Err(protocol_violation("invalid message format")),
            b'S' => Ok(Target::Statement(name)),
            b'P' => Ok(Target::Portal(name)),
            other => Err(protocol_violation(format!("invalid {verb} message subtype {other}"))),
        }
    }

    fn parse(&mut self) -> Result<Parse> {
        let name = self.name()?;
        let query = utf8(&self.text()?)?.to_owned();
        let count = self.count()?;
        let mut oids = self.take(count * 4)?;
        let parameter_oids = (0..count).map(|_| oids.get_u32()).collect();
        Ok(Parse { name, query, parameter_oids })
    }

    fn formats(&mut self) -> Result<Vec<Format>> {
        let count = self.count()?;
        let mut codes = self.take(count * 2)?;
        let format_of = |code: i16| match code {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            other => Err(Error::new("22023", format!("unsupported format code: {other}"))),
        };
        (0..count).map(|_| format_of(codes.get_i16())).collect()
    }

    fn bind(&mut self) -> Result<Bind> {
        let portal = self.name()?;
        let statement = self.name()?;
        let parameter_formats = self.formats()?;
        let count = self.count()?;
        if parameter_formats.len() > 1 && parameter_formats.len() != count {
            return Err(protocol_violation(format!(
                "bind message has {} parameter formats but {count} parameters",
                parameter_formats.len()
            )));
        }
        // A value takes at least its length's four bytes.
        let mut values = Vec::with_capacity(count.min(self.0.len() / 4));
        for _ in 0..count {
            values.push(match self.int32()? {
                -1 => None,
                length => {
                    // A negative length is more than there is.
                    Some(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
                }
            });
        }
        let result_formats = self.formats()?;
        Ok(Bind { portal, statement, parameter_formats, values, result_formats })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &[u8]) -> BytesMut {
        let mut input = BytesMut::from(&[tag][..]);
        input.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
        input.extend_from_slice(body);
        input
    }

    fn message(tag: u8, body: &[u8]) -> Result<Message> {
        take_frame(&mut frame(tag, body)).and_then(|frame| frame.expect("a whole frame").message())
    }

    #[test]
    fn frames_wait_for_their_last_byte() {
        let whole = frame(b'Q', b"SELECT 1\0");
        for cut in 1..whole.len() {
            assert!(take_frame(&mut BytesMut::from(&whole[..cut])).unwrap().is_none());
        }
        let mut two = whole.clone();
        two.extend_from_slice(&frame(b'S', b""));
        assert!(matches!(
            take_frame(&mut two).unwrap().unwrap().message().unwrap(),
            Message::Query(text) if &text[..] == b"SELECT 1"
        ));
        assert!(is_sync_next(&two));
    }

    #[test]
    fn impossible_lengths_are_refused_before_the_body_comes() {
        for length in [i32::MIN, -1, 0, 3, FRAME_LENGTH_MAX as i32 + 1, i32::MAX] {
            let mut input = BytesMut::from(&b"Q"[..]);
            input.extend_from_slice(&length.to_be_bytes());
            assert_eq!(take_frame(&mut input).unwrap_err().code, "08P01", "{length}");
        }
        assert_eq!(take_frame(&mut BytesMut::from(&b"\x00"[..])).unwrap_err().code, "08P01");
    }

    #[test]
    fn every_cut_of_a_bind_is_a_protocol_violation() {
        let mut body = b"p\0s\0".to_vec();
        body.extend_from_slice(&[0, 1, 0, 1]); // one parameter format: binary
        body.extend_from_slice(&[0, 2, 0, 0, 0, 1, 7, 0xff, 0xff, 0xff, 0xff]); // 7, NULL
        body.extend_from_slice(&[0, 1, 0, 0]); // one result format: text
        let Message::Bind(bind) = message(b'B', &body).unwrap() else { panic!("a Bind") };
        assert_eq!(bind.values, [Some(Bytes::from_static(&[7])), None]);
        assert_eq!(bind.result_formats, [Format::Text]);
        for cut in 0..body.len() {
            assert_eq!(message(b'B', &body[..cut]).unwrap_err().code, "08P01", "{cut}");
        }
        body.push(0);
        assert_eq!(message(b'B', &body).unwrap_err().code, "08P01");
    }

    #[test]
    fn counts_that_lie_allocate_nothing() {
        assert_eq!(message(b'B', b"\0\0\0\0\xff\xff\0\0").unwrap_err().code, "08P01");
        assert_eq!(message(b'P', b"\0\0\xff\xff").unwrap_err().code, "08P01");
        assert_eq!(message(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0").unwrap_err().code, "08P01");
    }

    #[test]
    fn text_that_is_no_utf8_is_22021() {
        assert_eq!(message(b'P', b"\0SELECT \xff\0\0\0").unwrap_err().code, "22021");
        assert_eq!(message(b'E', b"\xc0\xaf\0\0\0\0\0").unwrap_err().code, "22021");
    }
}
