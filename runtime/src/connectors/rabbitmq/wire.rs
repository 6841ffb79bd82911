//! AMQP 0-9-1 as far as a consumer needs it: bytes to frames, frames to what the broker says, what
//! the consumer says to bytes. No I/O; every length is checked before it is believed.
//!
//! ```text
//!   frame    kind 1 │ channel 2 │ length 4 │ payload … │ 0xCE
//!   method   class 2 │ method 2 │ arguments                        kind 1
//!   header   class 2 │ 0 2 │ length of the body 8 │ which properties 2 │ properties    kind 2
//!   body     bytes                                                 kind 3
//! ```
//! A message is a method `deliver`, a header, and as many bodies as its length needs.

use super::Trouble;

/// What a connection begins with.
pub const GREETING: &[u8] = b"AMQP\0\0\x09\x01";
/// Bytes of a frame that we take; brokers offer as much by default.
pub const FRAME_BYTES_MAX: u32 = 131_072;
/// Bytes of a frame around its payload.
const FRAME_AROUND: usize = 8;
const FRAME_END: u8 = 0xce;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// The channel that everything but the connection itself goes through.
const CHANNEL: u16 = 1;

const CONNECTION_START: (u16, u16) = (10, 10);
const CONNECTION_START_OK: (u16, u16) = (10, 11);
const CONNECTION_TUNE: (u16, u16) = (10, 30);
const CONNECTION_TUNE_OK: (u16, u16) = (10, 31);
const CONNECTION_OPEN: (u16, u16) = (10, 40);
const CONNECTION_OPEN_OK: (u16, u16) = (10, 41);
const CONNECTION_CLOSE: (u16, u16) = (10, 50);
const CONNECTION_CLOSE_OK: (u16, u16) = (10, 51);
const CHANNEL_OPEN: (u16, u16) = (20, 10);
const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
const CHANNEL_CLOSE: (u16, u16) = (20, 40);
const BASIC_QOS: (u16, u16) = (60, 10);
const BASIC_QOS_OK: (u16, u16) = (60, 11);
const BASIC_CONSUME: (u16, u16) = (60, 20);
const BASIC_CONSUME_OK: (u16, u16) = (60, 21);
const BASIC_CANCEL: (u16, u16) = (60, 30);
const BASIC_DELIVER: (u16, u16) = (60, 60);
const BASIC_ACK: (u16, u16) = (60, 80);

/// What the broker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It asks who we are.
    Start,
    /// It offers frames of so many bytes (0: any) and a heartbeat every so many seconds (0: none).
    Tune {
        /// Bytes.
        frame_max: u32,
        /// Seconds.
        heartbeat: u16,
    },
    /// The connection is open.
    Opened,
    /// The channel is open.
    ChannelOpened,
    /// It has done everything that the channel was asked before.
    QosOk,
    /// Messages follow.
    Consuming,
    /// A message follows, under that tag.
    Deliver(u64),
    /// The message has so many bytes, and that `message_id`.
    Header(u64, Option<String>),
    /// Bytes of the message.
    Body(Vec<u8>),
    /// It ends the connection, the channel or the consumer, and says why.
    Closed {
        /// Its code, as in HTTP: 403, 404 …
        code: u16,
        /// Its words.
        text: String,
    },
    /// We have said that we end the connection, and it agrees.
    CloseOk,
    /// Nothing that a consumer must know.
    Other,
}

/// The first frame of the bytes that have come, and how many it has; `None` if it is not all there.
pub fn first_frame(bytes: &[u8]) -> Result<Option<(Heard, usize)>, Trouble> {
    if bytes.first() == Some(&b'A') {
        return Err(Trouble::away("it does not speak AMQP 0-9-1"));
    }
    let Some(head) = bytes.first_chunk::<7>() else { return Ok(None) };
    let (kind, length) = (head[0], u32::from_be_bytes([head[3], head[4], head[5], head[6]]));
    if length > FRAME_BYTES_MAX {
        return Err(Trouble::away(format!("it sends a frame of {length} bytes")));
    }
    let end = length as usize + FRAME_AROUND;
    if bytes.len() < end {
        return Ok(None);
    }
    if bytes[end - 1] != FRAME_END {
        return Err(Trouble::away("it sends a frame without an end"));
    }
    let short = || Trouble::away("it sends a frame that is too short");
    heard(kind, &bytes[7..end - 1]).map(|heard| Some((heard, end))).ok_or_else(short)
}

fn heard(kind: u8, payload: &[u8]) -> Option<Heard> {
    let mut reader = Reader(payload);
    Some(match kind {
        METHOD => {
            let method = (reader.u16()?, reader.u16()?);
            method_heard(method, &mut reader)?
        }
        HEADER => {
            reader.skip(4)?;
            let length = reader.u64()?;
            Heard::Header(length, message_id(&mut reader)?)
        }
        BODY => Heard::Body(payload.to_vec()),
        HEARTBEAT => Heard::Other,
        _ => Heard::Other,
    })
}

fn method_heard(method: (u16, u16), reader: &mut Reader<'_>) -> Option<Heard> {
    Some(match method {
        CONNECTION_START => Heard::Start,
        CONNECTION_TUNE => {
            reader.skip(2)?;
            Heard::Tune { frame_max: reader.u32()?, heartbeat: reader.u16()? }
        }
        CONNECTION_OPEN_OK => Heard::Opened,
        CHANNEL_OPEN_OK => Heard::ChannelOpened,
        BASIC_QOS_OK => Heard::QosOk,
        BASIC_CONSUME_OK => Heard::Consuming,
        BASIC_DELIVER => {
            reader.short()?;
            Heard::Deliver(reader.u64()?)
        }
        CONNECTION_CLOSE | CHANNEL_CLOSE => {
            let code = reader.u16()?;
            Heard::Closed { code, text: String::from_utf8_lossy(reader.short()?).into_owned() }
        }
        BASIC_CANCEL => Heard::Closed { code: 404, text: "the queue is gone".to_owned() },
        CONNECTION_CLOSE_OK => Heard::CloseOk,
        _ => Heard::Other,
    })
}

/// The property of a message that tells it from all others. Which properties there are is said by
/// bits from the top, and they come in that order.
fn message_id(reader: &mut Reader<'_>) -> Option<Option<String>> {
    let flags = reader.u16()?;
    let has = |bit: u16| flags & (1 << bit) != 0;
    // content-type, content-encoding
    for bit in [15, 14] {
        if has(bit) {
            reader.short()?;
        }
    }
    // headers
    if has(13) {
        let length = reader.u32()?;
        reader.skip(length as usize)?;
    }
    // delivery-mode, priority
    reader.skip(usize::from(has(12)) + usize::from(has(11)))?;
    // correlation-id, reply-to, expiration
    for bit in [10, 9, 8] {
        if has(bit) {
            reader.short()?;
        }
    }
    if !has(7) {
        return Some(None);
    }
    let id = String::from_utf8_lossy(reader.short()?).into_owned();
    Some((!id.is_empty()).then_some(id))
}

/// Reads numbers and texts.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A text of up to 255 bytes.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.array::<1>()?[0];
        self.take(usize::from(length))
    }
}

/// Writes frames.
#[derive(Debug, Default)]
pub struct Words(Vec<u8>);

impl Words {
    /// The frames so far.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// Who we are. The broker is asked to say when a queue goes, and why it refuses us.
    pub fn start_ok(&mut self, user: &str, password: &str) {
        self.method(0, CONNECTION_START_OK, |out| {
            table(out, |out| {
                short(out, "product");
                long_text(out, "Tidewater");
                short(out, "capabilities");
                out.push(b'F');
                table(out, |out| {
                    for name in ["consumer_cancel_notify", "authentication_failure_close"] {
                        short(out, name);
                        out.extend([b't', 1]);
                    }
                });
            });
            short(out, "PLAIN");
            let secret = format!("\0{user}\0{password}");
            out.extend((secret.len() as u32).to_be_bytes());
            out.extend(secret.as_bytes());
            short(out, "en_US");
        });
    }

    /// Agrees on sizes.
    pub fn tune_ok(&mut self, frame_max: u32, heartbeat: u16) {
        self.method(0, CONNECTION_TUNE_OK, |out| {
            out.extend(CHANNEL.to_be_bytes());
            out.extend(frame_max.to_be_bytes());
            out.extend(heartbeat.to_be_bytes());
        });
    }

    /// Opens the connection and its one channel.
    pub fn open(&mut self, virtual_host: &str) {
        self.method(0, CONNECTION_OPEN, |out| {
            short(out, virtual_host);
            out.extend([0, 0]);
        });
    }

    /// Opens the channel.
    pub fn open_channel(&mut self) {
        self.method(CHANNEL, CHANNEL_OPEN, |out| out.push(0));
    }

    /// How many messages may wait for an acknowledgement. As the broker does one thing after the
    /// other, its answer also says that it has done all before.
    pub fn qos(&mut self, prefetch: u16) {
        self.method(CHANNEL, BASIC_QOS, |out| {
            out.extend(0_u32.to_be_bytes());
            out.extend(prefetch.to_be_bytes());
            out.push(0);
        });
    }

    /// Asks for the messages of a queue, each to be acknowledged.
    pub fn consume(&mut self, queue: &str) {
        self.method(CHANNEL, BASIC_CONSUME, |out| {
            out.extend([0, 0]);
            short(out, queue);
            out.extend([0, 0]);
            table(out, |_| {});
        });
    }

    /// Acknowledges all messages up to a tag.
    pub fn ack(&mut self, up_to: u64) {
        self.method(CHANNEL, BASIC_ACK, |out| {
            out.extend(up_to.to_be_bytes());
            out.push(1);
        });
    }

    /// Ends the connection.
    pub fn close(&mut self) {
        self.method(0, CONNECTION_CLOSE, |out| {
            out.extend(200_u16.to_be_bytes());
            short(out, "done");
            out.extend([0; 4]);
        });
    }

    /// Says that we live.
    pub fn heartbeat(&mut self) {
        self.frame(HEARTBEAT, 0, |_| {});
    }

    fn method(&mut self, channel: u16, (class, method): (u16, u16), fill: impl Fn(&mut Vec<u8>)) {
        self.frame(METHOD, channel, |out| {
            out.extend(class.to_be_bytes());
            out.extend(method.to_be_bytes());
            fill(out);
        });
    }

    fn frame(&mut self, kind: u8, channel: u16, fill: impl Fn(&mut Vec<u8>)) {
        self.0.push(kind);
        self.0.extend(channel.to_be_bytes());
        with_length(&mut self.0, fill);
        self.0.push(FRAME_END);
    }
}

/// Something behind its length of 32 bits.
fn with_length(out: &mut Vec<u8>, fill: impl Fn(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    fill(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn table(out: &mut Vec<u8>, fill: impl Fn(&mut Vec<u8>)) {
    with_length(out, fill);
}

/// A text of up to 255 bytes; options that are longer are refused.
fn short(out: &mut Vec<u8>, text: &str) {
    let length = text.len().min(255);
    out.push(length as u8);
    out.extend(&text.as_bytes()[..length]);
}

/// A text as a value of a table.
fn long_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'S');
    out.extend((text.len() as u32).to_be_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut words = Words::default();
        words.frame(kind, 1, |out| out.extend(payload));
        words.take()
    }

    fn hear(bytes: Vec<u8>) -> Heard {
        let (heard, length) = first_frame(&bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        heard
    }

    #[test]
    fn what_comes_in_pieces_is_heard_once_it_is_whole() {
        let mut all = frame(METHOD, &[0, 60, 0, 60, 1, b'c', 0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0]);
        all.extend(frame(BODY, b"text"));
        let mut bytes = Vec::new();
        let mut found = Vec::new();
        for byte in all {
            bytes.push(byte);
            if let Some((heard, length)) = first_frame(&bytes).unwrap() {
                found.push(heard);
                bytes.drain(..length);
            }
        }
        assert_eq!(found, [Heard::Deliver(7), Heard::Body(b"text".to_vec())]);
    }

    #[test]
    fn the_message_id_is_found_behind_other_properties() {
        let mut header = vec![0, 60, 0, 0];
        header.extend(5_u64.to_be_bytes());
        // content-type, headers, delivery-mode, correlation-id, message-id, timestamp
        let flags: u16 = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 10 | 1 << 7 | 1 << 6;
        header.extend(flags.to_be_bytes());
        header.extend([1, b'x']);
        header.extend([0, 0, 0, 4, 1, b'k', b't', 1]);
        header.extend([2]);
        header.extend([1, b'c']);
        header.extend([2, b'i', b'd']);
        header.extend([0; 8]);
        assert_eq!(hear(frame(HEADER, &header)), Heard::Header(5, Some("id".to_owned())));
        let mut bare = vec![0, 60, 0, 0];
        bare.extend(5_u64.to_be_bytes());
        bare.extend([0, 0]);
        assert_eq!(hear(frame(HEADER, &bare)), Heard::Header(5, None));
    }

    #[test]
    fn frames_that_lie_are_refused() {
        let long = [METHOD, 0, 1, 0xff, 0xff, 0xff, 0xff].to_vec();
        let mut no_end = frame(BODY, b"x");
        *no_end.last_mut().unwrap() = 0;
        // A text that is longer than its frame; the answer to another protocol.
        let short = frame(METHOD, &[0, 60, 0, 60, 200, b'c']);
        for bytes in [long, no_end, short, GREETING.to_vec()] {
            assert!(first_frame(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_refusal_says_its_code_and_words() {
        let mut close = vec![0, 20, 0, 40];
        close.extend(404_u16.to_be_bytes());
        close.extend([2, b'n', b'o', 0, 60, 0, 20]);
        let text = "no".to_owned();
        assert_eq!(hear(frame(METHOD, &close)), Heard::Closed { code: 404, text });
    }

    #[test]
    fn an_acknowledgement_is_spelled_as_the_protocol_says() {
        let mut words = Words::default();
        words.ack(258);
        let expected = [1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 1, 2, 1, 0xce];
        assert_eq!(words.take(), expected);
    }
}
