//! What one client, or one bug, may do to the server: end its own connection or statement, and
//! nothing else. Every test ends by asking the same server something.

use std::{io::Read, time::Duration};

use tidewater::{RunningServer, Server, ServerConfig};

use crate::raw::{PATIENCE, Raw, server, sqlstate, tags};

/// How soon a client that has gone, or a statement that was stopped, must be forgotten.
const SOON: Duration = Duration::from_secs(2);

fn answer(raw: &mut Raw, sql: &str) -> Vec<(u8, Vec<u8>)> {
    raw.query(sql);
    raw.until(b'Z')
}

/// SQLSTATE of the error among the frames.
fn error_of(frames: &[(u8, Vec<u8>)]) -> Option<String> {
    frames.iter().find(|(tag, _)| *tag == b'E').map(|(_, body)| sqlstate(body))
}

/// The only value of a query's only row.
fn value(raw: &mut Raw, sql: &str) -> String {
    let frames = answer(raw, sql);
    let row = frames.iter().find(|(tag, _)| *tag == b'D');
    let (_, body) = row.unwrap_or_else(|| panic!("{sql} answers {}", tags(&frames)));
    String::from_utf8(body[6..].to_vec()).unwrap()
}

/// Asks until the answer is as expected; panics after `patience`.
fn wait_for(raw: &mut Raw, sql: &str, expected: &str, patience: Duration) {
    let clock = storage::env::Env::real().clock;
    let start = clock.monotonic_nanos();
    loop {
        let seen = value(raw, sql);
        if seen == expected {
            return;
        }
        let waited = Duration::from_nanos(clock.monotonic_nanos() - start);
        assert!(waited < patience, "{sql} is {seen}, not {expected}, after {waited:?}");
    }
}

const STREAMS: &str = "SELECT count(*) FROM sys.queries WHERE query LIKE '%generate_stream%' AND \
                       query NOT LIKE '%sys.queries%'";

fn assert_alive(server: &RunningServer) {
    assert_eq!(value(&mut Raw::started(server), "SELECT 40 + 2"), "42");
}

#[test]
fn client_that_takes_nothing_loses_its_connection_and_no_more() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let write_timeout = Duration::from_secs(1);
    let config = ServerConfig { listen, write_timeout, ..ServerConfig::default() };
    let server = Server::start(config).unwrap();
    let mut stalled = Raw::started(&server);
    stalled.query("SELECT repeat('x', 1000), v FROM TABLE(generate_stream(1000000))");
    let mut other = Raw::started(&server);
    wait_for(&mut other, STREAMS, "1", PATIENCE);
    wait_for(&mut other, STREAMS, "0", PATIENCE);
    // What was on its way is still there; then the connection ends.
    let mut rest = Vec::new();
    let read = stalled.0.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20, "{} bytes were kept for it", rest.len());
    assert!(read.is_ok() || !rest.is_empty());
    assert_alive(&server);
}

#[test]
fn vanished_clients_are_forgotten_while_they_stream_copy_and_load() {
    let server = server();
    let mut other = Raw::started(&server);
    answer(&mut other, "CREATE TABLE t (k BIGINT PRIMARY KEY)");
    let mut reads = Raw::started(&server);
    reads.query("SELECT v FROM TABLE(generate_stream(100))");
    let mut copies = Raw::started(&server);
    copies.query("COPY (SELECT v FROM TABLE(generate_stream(1))) TO STDOUT");
    wait_for(&mut other, STREAMS, "2", PATIENCE);
    let mut loads = Raw::started(&server);
    loads.query("COPY t FROM STDIN");
    loads.until(b'G');
    loads.frame(b'd', b"1\n");
    wait_for(&mut other, "SELECT count(*) FROM sys.sessions", "4", PATIENCE);
    drop((reads, copies, loads));
    wait_for(&mut other, STREAMS, "0", SOON);
    wait_for(&mut other, "SELECT count(*) FROM sys.sessions", "1", SOON);
    assert_eq!(value(&mut other, "SELECT count(*) FROM t"), "0");
    assert_eq!(tags(&answer(&mut other, "INSERT INTO t VALUES (1)")), "CZ");
}

#[test]
fn statement_timeout_ends_every_phase() {
    let server = server();
    let mut writer = Raw::started(&server);
    answer(&mut writer, "CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)");
    answer(&mut writer, "BEGIN");
    answer(&mut writer, "INSERT INTO t VALUES (1, 1)");
    let mut raw = Raw::started(&server);
    answer(&mut raw, "SET statement_timeout = '100ms'");
    let clock = storage::env::Env::real().clock;
    for (phase, sql) in [
        ("streaming", "SELECT v FROM TABLE(generate_stream(10))"),
        ("streaming to COPY", "COPY (SELECT v FROM TABLE(generate_stream(10))) TO STDOUT"),
        ("computing", "SELECT count(*) FROM generate_series(1, 100000000000) AS s(i)"),
        ("waiting for a key", "INSERT INTO t VALUES (1, 2)"),
        ("waiting for a key again", "INSERT INTO t VALUES (1, 2)"),
        ("waiting for keys", "INSERT INTO t SELECT i, i FROM generate_series(1, 9) AS s(i)"),
    ] {
        let start = clock.monotonic_nanos();
        let frames = answer(&mut raw, sql);
        let took = Duration::from_nanos(clock.monotonic_nanos() - start);
        assert_eq!(error_of(&frames).as_deref(), Some("57014"), "{phase}");
        assert!(took < SOON, "{phase} took {took:?}");
    }
    raw.query("COPY t FROM STDIN");
    raw.until(b'G');
    assert_eq!(error_of(&raw.until(b'Z')).as_deref(), Some("57014"), "COPY FROM STDIN");
    assert_eq!(tags(&answer(&mut writer, "COMMIT")), "CZ");
    assert_eq!(value(&mut raw, "SELECT v FROM t WHERE k = 1"), "1");
}

/// A connection and what a CancelRequest for it needs.
fn started_with_key(server: &RunningServer) -> (Raw, Vec<u8>) {
    let mut raw = Raw::open(server);
    raw.packet(3 << 16, b"user\0test\0\0");
    let greeting = raw.until(b'Z');
    let key = greeting.into_iter().find(|(tag, _)| *tag == b'K').unwrap().1;
    (raw, key)
}

#[test]
fn cancel_ends_every_phase() {
    const CANCEL_REQUEST: u32 = 80_877_102;
    let server = server();
    let mut writer = Raw::started(&server);
    answer(&mut writer, "CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)");
    answer(&mut writer, "BEGIN");
    answer(&mut writer, "INSERT INTO t VALUES (1, 1)");
    for sql in [
        "SELECT v FROM TABLE(generate_stream(10))",
        "SELECT count(*) FROM generate_series(1, 100000000000) AS s(i)",
        "INSERT INTO t VALUES (1, 2)",
        "COPY t FROM STDIN",
    ] {
        let (mut raw, key) = started_with_key(&server);
        raw.query(sql);
        raw.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut seen = Vec::new();
        let mut tries = 0;
        // The request may come before the statement, so it is repeated.
        while !seen.windows(7).any(|bytes| bytes == b"C57014\0") {
            Raw::open(&server).packet(CANCEL_REQUEST, &key);
            let mut bytes = [0; 4096];
            if let Ok(count) = raw.0.read(&mut bytes) {
                assert!(count > 0, "{sql} lost its connection");
                seen.extend_from_slice(&bytes[..count]);
            }
            tries += 1;
            assert!(tries < 500, "{sql} is not cancelled");
        }
    }
    assert_eq!(tags(&answer(&mut writer, "COMMIT")), "CZ");
}

#[test]
fn suspended_portal_of_a_stream_is_closed_with_its_block() {
    let server = server();
    let mut other = Raw::started(&server);
    let mut raw = Raw::started(&server);
    answer(&mut raw, "BEGIN");
    raw.execute("SELECT v FROM TABLE(generate_stream(1000))", 3);
    raw.frame(b'S', b"");
    assert_eq!(tags(&raw.until(b'Z')), "12DDDsZ");
    wait_for(&mut other, STREAMS, "1", PATIENCE);
    assert_eq!(tags(&answer(&mut raw, "ROLLBACK")), "CZ");
    wait_for(&mut other, STREAMS, "0", SOON);
}

#[test]
fn panic_in_a_query_is_an_error_of_that_query() {
    let server = server();
    let mut raw = Raw::started(&server);
    answer(&mut raw, "CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)");
    answer(&mut raw, "INSERT INTO t SELECT i, i FROM generate_series(1, 1000) AS s(i)");
    for sql in [
        "SELECT debug_panic()",
        "SELECT debug_panic() + k FROM t",
        "SELECT sum(debug_panic()) FROM t GROUP BY k % 7",
        "SELECT count(*) FROM t a JOIN t b ON a.k = b.v + debug_panic()",
        "COPY (SELECT debug_panic() FROM t) TO STDOUT",
        "INSERT INTO t SELECT k + 5000, debug_panic() FROM t",
        "UPDATE t SET v = debug_panic() WHERE v > 7",
        "UPDATE t SET v = debug_panic() WHERE k = 7",
        "DELETE FROM t WHERE v = debug_panic()",
        "SELECT v + debug_panic() FROM TABLE(generate_stream(1000))",
        "EXPLAIN ANALYZE SELECT debug_panic() FROM t",
    ] {
        let frames = answer(&mut raw, sql);
        let code = error_of(&frames);
        let expected = if sql.starts_with("EXPLAIN ANALYZE") { "0A000" } else { "XX000" };
        assert!(
            code.as_deref() == Some(expected) || code.as_deref() == Some("XX000"),
            "{sql}: {code:?}"
        );
    }
    raw.execute("SELECT debug_panic() FROM t", 5);
    raw.frame(b'S', b"");
    assert_eq!(error_of(&raw.until(b'Z')).as_deref(), Some("XX000"));
    assert_eq!(value(&mut raw, "SELECT count(*) FROM t WHERE v = k"), "1000");
    assert_alive(&server);
}

#[test]
fn panic_in_a_job_fails_the_job_and_no_other() {
    let server = server();
    let mut raw = Raw::started(&server);
    answer(&mut raw, "CREATE TABLE good (k BIGINT PRIMARY KEY)");
    answer(&mut raw, "CREATE TABLE broken (k BIGINT PRIMARY KEY)");
    let from = "FROM TABLE(generate_stream(1000))";
    let frames = answer(&mut raw, &format!("CREATE JOB good AS SINK INTO good SELECT v {from}"));
    assert_eq!(tags(&frames), "CZ");
    let sql = format!("CREATE JOB broken AS SINK INTO broken SELECT v + debug_panic() {from}");
    answer(&mut raw, &sql);
    let status = |name: &str| format!("SELECT status FROM sys.jobs WHERE name = '{name}'");
    wait_for(&mut raw, &status("broken"), "FAILED", PATIENCE);
    let count = value(&mut raw, "SELECT count(*) FROM good");
    let more = format!("SELECT count(*) > {count} FROM good");
    wait_for(&mut raw, &more, "t", PATIENCE);
    assert_eq!(value(&mut raw, &status("good")), "RUNNING");
}

#[test]
fn dropping_a_table_names_the_jobs_that_fail_without_it() {
    let server = server();
    let mut raw = Raw::started(&server);
    answer(&mut raw, "CREATE TABLE t (k BIGINT PRIMARY KEY)");
    answer(&mut raw, "CREATE JOB j AS SINK INTO t SELECT v FROM TABLE(generate_stream(100))");
    let frames = answer(&mut raw, "DROP TABLE t");
    assert_eq!(tags(&frames), "NCZ");
    let notice = String::from_utf8_lossy(&frames[0].1).into_owned();
    assert!(notice.contains("job \"j\" uses table \"t\" and fails without it"), "{notice}");
    let status = "SELECT status || error_code FROM sys.jobs";
    wait_for(&mut raw, status, "FAILED42P01", PATIENCE);
}
