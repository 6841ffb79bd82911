//! The server as real clients and hostile ones see it: a driver over the extended protocol, and
//! raw bytes where no driver would send them. SQL itself is specified in `sql-tests/`.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod bad_input;
mod blocks;
mod changes;
mod malformed;
mod pgbench;
mod position;
mod process;
mod raw;
mod restart;
mod robust;
mod wide;

use std::{
    io::{Read, Write},
    time::Duration,
};

use raw::{PATIENCE, Raw, copy, server, sqlstate, tags};
use tidewater::{RunningServer, Server, ServerConfig};
use tokio_postgres::{Client, NoTls};

async fn connect(server: &RunningServer) -> Client {
    let port = server.address().port();
    let target = format!("host=127.0.0.1 port={port} user=test dbname=test");
    let (client, connection) = tokio_postgres::connect(&target, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", |state| state.code())
}

#[test]
fn encryption_is_declined_and_startup_goes_on() {
    let server = server();
    let mut raw = Raw::open(&server);
    for request in [80_877_103, 80_877_104] {
        raw.packet(request, b"");
        let mut answer = [0];
        raw.0.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"N");
    }
    raw.packet(3 << 16 | 2, b"user\0test\0_pq_.new\0on\0\0");
    let greeting = raw.until(b'Z');
    assert_eq!(greeting[0].0, b'v', "a newer minor version is negotiated down");
    let told =
        |name: &[u8]| greeting.iter().any(|(tag, body)| *tag == b'S' && body.starts_with(name));
    assert!(told(b"server_version\x0015.") && told(b"client_encoding\0UTF8\0"));
}

#[test]
fn plaintext_glued_to_an_encryption_request_is_refused() {
    let server = server();
    let mut raw = Raw::open(&server);
    raw.bytes(&[&[0, 0, 0, 8, 4, 210, 22, 47][..], b"\0\0\0\x10\0\x03\0\0user\0me\0\0"].concat());
    assert_eq!(raw.fatal().as_deref(), Some("08P01"));
}

#[test]
fn startup_that_makes_no_sense_ends_with_08p01() {
    let server = server();
    for length in [0u32, 3, 4, 7, 10_001, i32::MAX as u32, u32::MAX] {
        let mut raw = Raw::open(&server);
        raw.bytes(&length.to_be_bytes());
        assert_eq!(raw.fatal().as_deref(), Some("08P01"), "{length}");
    }
    let mut raw = Raw::open(&server);
    raw.packet(2 << 16, b"user\0me\0\0");
    assert_eq!(raw.fatal().as_deref(), Some("0A000"));
    let mut raw = Raw::open(&server);
    raw.packet(3 << 16, b"user\0me\0TimeZone\0Mars\0\0");
    assert_eq!(raw.fatal().as_deref(), Some("22023"));
}

#[test]
fn every_message_type_has_a_defined_answer() {
    let server = server();
    for tag in 0..=255u8 {
        let mut raw = Raw::started(&server);
        // In one write: the server may close before a second one.
        raw.bytes(&[tag, 0, 0, 0, 4, b'S', 0, 0, 0, 4]);
        match tag {
            b'X' => assert!(raw.next().is_none(), "Terminate ends without a word"),
            // A known type, whatever is missing in it: the session goes on.
            tag if b"SHdcfFQPBDEC".contains(&tag) => drop(raw.until(b'Z')),
            _ => assert!(raw.fatal().is_some(), "{tag} is told why the connection ends"),
        }
    }
}

#[test]
fn huge_lengths_are_refused_before_their_bytes_come() {
    let server = server();
    for _ in 0..100 {
        let mut raw = Raw::started(&server);
        raw.bytes(&[b'Q', 0x3f, 0xff, 0xff, 0xff, b'S']);
        assert_eq!(raw.fatal().as_deref(), Some("08P01"));
    }
}

#[test]
fn text_that_is_no_utf8_is_22021_and_the_session_goes_on() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.frame(b'Q', b"SELECT '\xff'\0");
    let frames = raw.until(b'Z');
    assert_eq!(sqlstate(&frames[0].1), "22021");
    raw.query("SELECT 1");
    assert_eq!(tags(&raw.until(b'Z')), "TDCZ");
}

#[test]
fn errors_skip_to_sync_and_not_further() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.execute("SELECT no_such_column", 0);
    raw.execute("SELECT 1", 0);
    raw.frame(b'S', b"");
    raw.execute("SELECT 2", 0);
    raw.frame(b'S', b"");
    assert_eq!(tags(&raw.until(b'Z')), "EZ");
    assert_eq!(tags(&raw.until(b'Z')), "12DCZ");
    raw.frame(b'E', b"nowhere\0\0\0\0\0");
    raw.frame(b'S', b"");
    assert_eq!(sqlstate(&raw.until(b'Z')[0].1), "34000");
}

#[test]
fn row_limits_suspend_a_portal_until_its_end() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.execute("SELECT * FROM (VALUES (1), (2), (3)) AS t(x)", 2);
    raw.frame(b'E', b"\0\0\0\0\x02");
    raw.frame(b'S', b"");
    assert_eq!(tags(&raw.until(b'Z')), "12DDsDCZ");
}

#[test]
fn several_statements_commit_together_or_not_at_all() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY)");
    raw.until(b'Z');
    raw.query("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1); SELECT 1");
    assert_eq!(tags(&raw.until(b'Z')), "CEZ");
    raw.query("SELECT k FROM t");
    assert_eq!(tags(&raw.until(b'Z')), "TCZ");
    raw.query(" ; ");
    assert_eq!(tags(&raw.until(b'Z')), "IZ");
}

#[test]
fn pipelined_statements_are_answered_in_one_go() {
    const COUNT: usize = 2000;
    let server = server();
    let mut raw = Raw::started(&server);
    let mut writer = raw.0.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for _ in 0..COUNT {
            writer.write_all(b"P\0\0\0\x10\0SELECT 1\0\0\0").unwrap();
            writer.write_all(b"B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0").unwrap();
        }
        writer.write_all(b"S\0\0\0\x04").unwrap();
    });
    let frames = raw.until(b'Z');
    sender.join().unwrap();
    assert_eq!(frames.iter().filter(|(tag, _)| *tag == b'D').count(), COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn driver_binds_every_scalar_in_binary() {
    let server = server();
    let client = connect(&server).await;
    client
        .batch_execute(
            "CREATE TABLE t (k BIGINT PRIMARY KEY, b BOOLEAN, s SMALLINT, i INTEGER, r REAL, \
             d DOUBLE PRECISION, x TEXT, y BYTEA)",
        )
        .await
        .unwrap();
    let insert =
        client.prepare("INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8)").await.unwrap();
    for key in 0..3i64 {
        let nothing: Option<String> = None;
        let text = if key == 1 { nothing } else { Some(format!("row {key}")) };
        let count = client
            .execute(
                &insert,
                &[&key, &true, &2i16, &3i32, &0.5f32, &0.25f64, &text, &vec![1u8, 255]],
            )
            .await
            .unwrap();
        assert_eq!(count, 1);
    }
    let row = client.query_one("SELECT * FROM t WHERE k = $1", &[&2i64]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
    assert!(row.get::<_, bool>(1));
    assert_eq!((row.get::<_, i16>(2), row.get::<_, i32>(3)), (2, 3));
    assert_eq!((row.get::<_, f32>(4), row.get::<_, f64>(5)), (0.5, 0.25));
    assert_eq!((row.get::<_, String>(6), row.get::<_, Vec<u8>>(7)), ("row 2".into(), vec![1, 255]));
    let bytes = vec![1u8];
    let again = client
        .execute(&insert, &[&2i64, &true, &2i16, &3i32, &0.5f32, &0.25f64, &"x", &bytes])
        .await;
    assert_eq!(code(&again.unwrap_err()), "23505");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_block_waits_for_its_end() {
    let server = server();
    let client = connect(&server).await;
    client.batch_execute("CREATE TABLE t (k BIGINT PRIMARY KEY)").await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    assert!(client.batch_execute("SELECT 1/0").await.is_err());
    let error = client.batch_execute("SELECT 1").await.unwrap_err();
    assert_eq!(code(&error), "25P02");
    client.batch_execute("COMMIT").await.unwrap();
    let row = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_over_a_stream_give_rows_as_asked() {
    let server = server();
    let client = connect(&server).await;
    client.batch_execute("BEGIN").await.unwrap();
    client
        .batch_execute("DECLARE c CURSOR FOR SELECT v FROM TABLE(generate_stream(1000))")
        .await
        .unwrap();
    for expected in [0i64, 3] {
        let rows = client.query("FETCH 3 FROM c", &[]).await.unwrap();
        let values: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(values, [expected, expected + 1, expected + 2]);
    }
    client.batch_execute("CLOSE c").await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_timeout_stop_a_stream_and_nothing_else() {
    let server = server();
    let client = connect(&server).await;
    let stream = "SELECT v FROM TABLE(generate_stream(10))";
    client.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    let error = client.batch_execute(stream).await.unwrap_err();
    assert_eq!(code(&error), "57014");
    client.batch_execute("SET statement_timeout = 0").await.unwrap();
    let token = client.cancel_token();
    let cancel = async {
        // The request may come before the statement: it is repeated until the answer is there.
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            token.cancel_query(NoTls).await.unwrap();
        }
    };
    let error = tokio::select! {
        answer = client.batch_execute(stream) => answer.unwrap_err(),
        () = cancel => unreachable!("it never ends by itself"),
        () = tokio::time::sleep(PATIENCE) => panic!("not cancelled"),
    };
    assert_eq!(code(&error), "57014");
    client.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_leaves_takes_its_stream_along() {
    let server = server();
    let client = connect(&server).await;
    let running = "SELECT count(*) FROM sys.queries WHERE query LIKE '%generate_stream%' \
                   AND status = 'STREAMING'";
    let mut raw = Raw::started(&server);
    raw.query("SELECT v FROM TABLE(generate_stream(1))");
    raw.until(b'T');
    wait_for(&client, running, 1).await;
    drop(raw);
    wait_for(&client, running, 0).await;
}

async fn wait_for(client: &Client, query: &str, expected: i64) {
    let deadline = tokio::time::sleep(PATIENCE);
    tokio::pin!(deadline);
    loop {
        let row = client.query_one(query, &[]).await.unwrap();
        if row.get::<_, i64>(0) == expected {
            return;
        }
        tokio::select! {
            () = &mut deadline => panic!("{query} is not {expected}"),
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
}

#[test]
fn copy_in_reads_lines_wherever_the_pieces_end() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT)");
    raw.until(b'Z');
    for (round, piece) in [1, 7, 4096].into_iter().enumerate() {
        let first = round * 3;
        let data = format!("{first}\ta\\tb\n{}\t\\N\n{}\tlast", first + 1, first + 2);
        let frames = copy(&mut raw, "COPY t FROM STDIN", data.as_bytes(), piece);
        assert_eq!(frames[0], (b'C', b"COPY 3\0".to_vec()), "{}", tags(&frames));
    }
    let csv = b"k,v\r\n100,\"a\nb\"\"c\"\r\n101,\r\n102,\"\"\r\n";
    let frames = copy(&mut raw, "COPY t FROM STDIN WITH (FORMAT csv, HEADER)", csv, 5);
    assert_eq!(frames[0], (b'C', b"COPY 3\0".to_vec()));
    raw.query("COPY (SELECT * FROM t WHERE k >= 100 ORDER BY k) TO STDOUT WITH (FORMAT csv)");
    let out: Vec<u8> = raw
        .until(b'Z')
        .into_iter()
        .filter(|(tag, _)| *tag == b'd')
        .flat_map(|(_, body)| body)
        .collect();
    assert_eq!(out, b"100,\"a\nb\"\"c\"\n101,\n102,\"\"\n");
}

#[test]
fn failed_copy_says_where_and_leaves_nothing() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY, v INTEGER)");
    raw.until(b'Z');
    let frames = copy(&mut raw, "COPY t FROM STDIN", b"1\t1\n2\t2\n3\tabc\n", 4096);
    assert_eq!((frames[0].0, sqlstate(&frames[0].1)), (b'E', "22P02".to_owned()));
    let text = String::from_utf8_lossy(&frames[0].1).into_owned();
    assert!(text.contains("COPY t, line 3, column v: \"abc\""), "{text}");
    for (data, code) in [(&b"1\n"[..], "22P04"), (b"1\t2\t3\n", "22P04"), (b"1\t\xff\n", "22021")] {
        let frames = copy(&mut raw, "COPY t FROM STDIN", data, 4096);
        assert_eq!(sqlstate(&frames[0].1), code);
    }
    raw.query("COPY t FROM STDIN");
    raw.until(b'G');
    raw.frame(b'd', b"7\t7\n");
    raw.frame(b'f', b"changed my mind\0");
    assert_eq!(sqlstate(&raw.until(b'Z')[0].1), "57014");
    raw.query("SELECT k FROM t");
    assert_eq!(tags(&raw.until(b'Z')), "TCZ");
}

#[test]
fn connections_above_the_limit_are_told() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let config = ServerConfig { listen, connection_max: 1, ..ServerConfig::default() };
    let server = Server::start(config).unwrap();
    let _first = Raw::started(&server);
    let mut second = Raw::open(&server);
    second.packet(3 << 16, b"user\0test\0\0");
    assert_eq!(second.fatal().as_deref(), Some("53300"));
}

#[test]
fn stopping_tells_idle_and_busy_clients() {
    let server = server();
    let mut idle = Raw::started(&server);
    let mut busy = Raw::started(&server);
    busy.query("SELECT v FROM TABLE(generate_stream(1000))");
    busy.until(b'D');
    server.stop();
    assert_eq!(idle.fatal().as_deref(), Some("57P01"));
    assert_eq!(busy.fatal().as_deref(), Some("57P01"));
}
