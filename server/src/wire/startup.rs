//! The first packets of a connection: encryption requests, CancelRequest, start-up. Everything
//! here is bounded in bytes and in time, because nobody has said who they are yet.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use planner::{Error, Result};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    connection::{Connection, Guard, Shared},
    directory::SessionListing,
    session::Session,
    settings,
    wire::{
        error::{Severity, shutting_down},
        frame::{STARTUP_LENGTH_MAX, protocol_violation},
        inbound::Inbound,
        outbound::Outbound,
        types::parameter::utf8,
    },
};

/// Time in which a client must have said who it is.
pub const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests for encryption that are answered before a client must start.
const ENCRYPTION_REQUESTS_MAX: usize = 2;

const PROTOCOL_MAJOR: u32 = 3;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// What a first packet says.
#[derive(Debug, PartialEq, Eq)]
enum Packet {
    /// SSLRequest or GSSENCRequest.
    Encryption,
    /// CancelRequest.
    Cancel {
        /// Session.
        session_id: i32,
        /// Its secret.
        secret: i32,
    },
    /// Start-up.
    Start(Start),
}

/// A start-up packet.
#[derive(Debug, PartialEq, Eq)]
struct Start {
    minor_version: u32,
    parameters: BTreeMap<String, String>,
}

/// Serves a socket from its first byte to its last.
pub async fn serve(shared: Arc<Shared>, socket: TcpStream) {
    let client = socket.peer_addr().map_or_else(|_| "unknown".to_owned(), |at| at.to_string());
    // Answers are small and waited for; a socket that cannot take the option works without it.
    drop(socket.set_nodelay(true));
    let (reader, writer) = socket.into_split();
    let (mut inbound, mut writer) = (Inbound::new(reader), writer);
    let start = async {
        for _ in 0..=ENCRYPTION_REQUESTS_MAX {
            let packet = loop {
                match take_packet(&mut inbound.buffer) {
                    Ok(Some(packet)) => break Ok(packet),
                    Ok(None) => inbound.read_more().await.ok()?,
                    Err(error) => break Err(error),
                }
            };
            match packet {
                // Whatever stands behind the request was not meant to be read in the clear.
                Ok(Packet::Encryption) if inbound.buffer.is_empty() => {
                    writer.write_all(b"N").await.ok()?;
                }
                Ok(Packet::Encryption) => {
                    let message = "received unencrypted data after encryption request";
                    return Some(Err(protocol_violation(message)));
                }
                Ok(other) => return Some(Ok(other)),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Err(protocol_violation("too many requests for encryption")))
    };
    let start = tokio::select! {
        start = tokio::time::timeout(STARTUP_TIMEOUT, start) => start.ok().flatten(),
        () = shared.shutdown.cancelled() => Some(Err(shutting_down())),
    };
    let Some(start) = start else { return };
    let mut outbound = Outbound::new(writer, shared.write_timeout);
    let greeted = match start {
        Ok(Packet::Cancel { session_id, secret }) => {
            return shared.directory.cancel_by_secret(session_id, secret);
        }
        Ok(Packet::Start(start)) => greet(&shared, start, client, &mut outbound),
        Ok(Packet::Encryption) => return,
        Err(error) => Err(error),
    };
    if let Err(error) = &greeted {
        outbound.error(error, Severity::Fatal);
    }
    let flushed = tokio::time::timeout(STARTUP_TIMEOUT, outbound.flush()).await;
    if let (Ok((session, listing)), Ok(Ok(()))) = (greeted, flushed) {
        let guard = Guard::default();
        let connection =
            Connection { shared, listing, inbound, outbound, session, guard, is_skipping: false };
        connection.run().await;
    }
}

/// Opens a session for a client that said who it is, and writes its greeting.
fn greet(
    shared: &Arc<Shared>,
    start: Start,
    client: String,
    outbound: &mut Outbound,
) -> Result<(Session, SessionListing)> {
    let Start { minor_version, mut parameters } = start;
    let user = parameters.remove("user").filter(|user| !user.is_empty()).ok_or_else(|| {
        Error::new("28000", "no PostgreSQL user name specified in startup packet")
    })?;
    let database = parameters.remove("database").unwrap_or_else(|| user.clone());
    if parameters.remove("replication").is_some_and(|value| value != "false") {
        return Err(Error::unsupported("replication connections are not supported"));
    }
    let unsupported: Vec<String> =
        parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if minor_version > 0 || !unsupported.is_empty() {
        outbound.negotiate_version(unsupported.clone());
    }
    parameters.retain(|name, _| !name.starts_with("_pq_."));
    let listing = shared.directory.enter(user.clone(), database.clone(), client)?;
    let mut session = Session::new(listing.entry.id, user, database);
    if let Some(options) = parameters.remove("options") {
        for (name, value) in read_options(&options)? {
            session.set(&name, Some(&value), false)?;
        }
    }
    for (name, value) in &parameters {
        session.set(name, Some(value), false)?;
    }
    session.remember_settings();
    if let Some(name) = session.planner.settings.get("application_name") {
        listing.entry.set_application(name);
    }
    outbound.authentication_ok();
    for name in settings::reported_names() {
        let value = &session.planner.settings[&name.to_ascii_lowercase()];
        outbound.parameter_status(name, value);
    }
    outbound.backend_key(listing.entry.id, listing.entry.secret);
    outbound.ready_for_query(session.status());
    Ok((session, listing))
}

/// `-c name=value --name=value …` of the start-up parameter `options`.
fn read_options(options: &str) -> Result<Vec<(String, String)>> {
    let invalid = |word: &str| {
        Error::new("42601", format!("invalid command-line argument for server process: {word}"))
    };
    let mut words = split_options(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next().ok_or_else(|| invalid(&word))?,
            Some(assignment) => assignment.to_owned(),
            None => return Err(invalid(&word)),
        };
        let (name, value) = assignment.split_once('=').ok_or_else(|| invalid(&word))?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// Words separated by blanks; a backslash keeps the next character.
fn split_options(options: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        let word = words.last_mut().expect("never empty");
        match character {
            '\\' => word.extend(characters.next()),
            blank if blank.is_ascii_whitespace() => words.push(String::new()),
            other => word.push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Takes the first packet off `input`; `None` if it is not all there.
fn take_packet(input: &mut BytesMut) -> Result<Option<Packet>> {
    let Some(header) = input.get(..4) else { return Ok(None) };
    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if !(8..=STARTUP_LENGTH_MAX).contains(&length) {
        return Err(protocol_violation("invalid length of startup packet"));
    }
    if input.len() < length {
        return Ok(None);
    }
    let mut body = input.split_to(length);
    body.advance(4);
    match body.get_u32() {
        SSL_REQUEST | GSS_REQUEST if body.is_empty() => Ok(Some(Packet::Encryption)),
        CANCEL_REQUEST if body.len() == 8 => {
            Ok(Some(Packet::Cancel { session_id: body.get_i32(), secret: body.get_i32() }))
        }
        version if version >> 16 == PROTOCOL_MAJOR => {
            let parameters = read_parameters(&body)?;
            Ok(Some(Packet::Start(Start { minor_version: version & 0xffff, parameters })))
        }
        SSL_REQUEST | GSS_REQUEST | CANCEL_REQUEST => {
            Err(protocol_violation("invalid length of startup packet"))
        }
        version => Err(Error::unsupported(format!(
            "unsupported frontend protocol {}.{}: server supports 3.0 to 3.0",
            version >> 16,
            version & 0xffff
        ))),
    }
}

/// Names and values, each ended by a zero, and a zero after the last. A name given twice counts
/// once, with its last value, as in PostgreSQL.
fn read_parameters(body: &[u8]) -> Result<BTreeMap<String, String>> {
    let invalid =
        || protocol_violation("invalid startup packet layout: expected terminator as last byte");
    let mut texts = body.strip_suffix(&[0]).ok_or_else(invalid)?.split(|byte| *byte == 0);
    let mut parameters = BTreeMap::new();
    loop {
        let name = texts.next().ok_or_else(invalid)?;
        if name.is_empty() {
            break;
        }
        let value = texts.next().ok_or_else(invalid)?;
        parameters.insert(utf8(name)?.to_owned(), utf8(value)?.to_owned());
    }
    match texts.next() {
        None => Ok(parameters),
        Some(_) => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, rest: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::from(&(rest.len() as u32 + 8).to_be_bytes()[..]);
        bytes.extend_from_slice(&code.to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn start_reads_parameters() {
        let mut input = packet(3 << 16 | 2, b"user\0me\0database\0db\0\0");
        let Some(Packet::Start(start)) = take_packet(&mut input).unwrap() else {
            panic!("a start")
        };
        assert_eq!(start.minor_version, 2);
        assert_eq!(start.parameters["user"], "me");
        assert_eq!(start.parameters.len(), 2);
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_at_once() {
        for length in [0, 3, 4, 7, 10_001, i32::MAX as u32, u32::MAX] {
            let mut input = BytesMut::from(&length.to_be_bytes()[..]);
            assert_eq!(take_packet(&mut input).unwrap_err().code, "08P01", "{length}");
        }
    }

    #[test]
    fn broken_parameters_are_a_protocol_violation() {
        for rest in [&b"user\0me"[..], b"user\0me\0", b"user\0", b"", b"user\0me\0\0x\0\0"] {
            let error = take_packet(&mut packet(3 << 16, rest)).unwrap_err();
            assert_eq!(error.code, "08P01", "{rest:?}");
        }
        let error = take_packet(&mut packet(3 << 16, b"user\0\xff\0\0")).unwrap_err();
        assert_eq!(error.code, "22021");
    }

    #[test]
    fn other_protocols_are_refused() {
        assert_eq!(take_packet(&mut packet(2 << 16, b"\0")).unwrap_err().code, "0A000");
        assert_eq!(take_packet(&mut packet(4 << 16, b"\0")).unwrap_err().code, "0A000");
    }

    #[test]
    fn options_are_read_as_postgres_does() {
        let read = read_options("-c statement_timeout=5s --application-name=a\\ b").unwrap();
        assert_eq!(read[0], ("statement_timeout".into(), "5s".into()));
        assert_eq!(read[1], ("application_name".into(), "a b".into()));
        assert_eq!(read_options("-x").unwrap_err().code, "42601");
    }
}
