//! Input that nobody sane sends: every piece of it is an error with its SQLSTATE, soon, and the
//! session that sent it goes on.

use std::time::Duration;

use tidewater::{Server, ServerConfig};

use crate::raw::{Raw, copy, server, sqlstate, tags};

/// How soon an error must come. The machine that runs the tests is shared and the build is not
/// optimised: a user's waits a fraction of it.
const SOON: Duration = Duration::from_secs(5);

fn error_of(frames: &[(u8, Vec<u8>)]) -> String {
    let error = frames.iter().find(|(tag, _)| *tag == b'E');
    error.map_or_else(|| tags(frames), |(_, body)| sqlstate(body))
}

/// SQLSTATE of a query's error, which must come soon.
fn code_of(raw: &mut Raw, sql: &str) -> String {
    let clock = storage::env::Env::real().clock;
    let start = clock.monotonic_nanos();
    raw.query(sql);
    let code = error_of(&raw.until(b'Z'));
    let took = Duration::from_nanos(clock.monotonic_nanos() - start);
    assert!(took < SOON, "{} took {took:?}", &sql[..sql.len().min(80)]);
    code
}

fn assert_goes_on(raw: &mut Raw) {
    raw.query("SELECT 1");
    assert_eq!(tags(&raw.until(b'Z')), "TDCZ");
}

#[test]
fn deep_and_long_statements_are_refused_wherever_they_stand() {
    let server = server();
    let mut raw = Raw::started(&server);
    let parentheses = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    let terms = vec!["1"; 100_000].join(" + ");
    let calls = format!("{}1{}", "abs(".repeat(10_000), ")".repeat(10_000));
    let arrays = format!("{}1{}", "ARRAY[".repeat(10_000), "]".repeat(10_000));
    let cases = format!("{}1{}", "CASE WHEN true THEN ".repeat(10_000), " END".repeat(10_000));
    let casts = format!("1{}", "::int".repeat(10_000));
    let minus = format!("{}1", "- ".repeat(10_000));
    for deep in [&parentheses, &terms, &calls, &arrays, &cases, &casts, &minus] {
        for frame in ["SELECT @", "EXPLAIN SELECT @", "PREPARE p AS SELECT @"] {
            assert_eq!(code_of(&mut raw, &frame.replace('@', deep)), "54001");
        }
        for frame in [
            "CREATE VIEW v AS SELECT @ AS a",
            "COPY (SELECT @) TO STDOUT",
            "DECLARE c CURSOR WITH HOLD FOR SELECT @",
            "CREATE TABLE t (k INT DEFAULT @)",
        ] {
            assert_eq!(code_of(&mut raw, &frame.replace('@', deep)), "54001", "{frame}");
        }
        raw.execute(&format!("SELECT {deep}"), 0);
        raw.frame(b'S', b"");
        assert_eq!(error_of(&raw.until(b'Z')), "54001");
    }
    assert_eq!(code_of(&mut raw, &"(".repeat(100_000)), "54001");
    let union = vec!["SELECT 1"; 10_000].join(" UNION ALL ");
    assert_eq!(code_of(&mut raw, &union), "54001");
    let nested = format!("{}t{}", "SELECT * FROM (".repeat(1_000), ") x".repeat(1_000));
    assert_eq!(code_of(&mut raw, &nested), "54001");
    assert_goes_on(&mut raw);
}

#[test]
fn limits_of_postgres_are_limits_here() {
    let server = server();
    let mut raw = Raw::started(&server);
    let items: Vec<String> = (0..10_000).map(|item| format!("{item} AS c{item}")).collect();
    assert_eq!(code_of(&mut raw, &format!("SELECT {}", items.join(","))), "54011");
    let columns: Vec<String> = (0..10_000).map(|column| format!("c{column} INT")).collect();
    assert_eq!(code_of(&mut raw, &format!("CREATE TABLE t ({})", columns.join(","))), "54011");
    assert_eq!(code_of(&mut raw, "SELECT $100000"), "54023");
    assert_eq!(code_of(&mut raw, "SELECT repeat('x', 2000000000)"), "54000");
    assert_eq!(code_of(&mut raw, "SELECT lpad('x', 2000000000)"), "54000");
    assert_eq!(code_of(&mut raw, "SELECT rpad('x', 2000000000, 'ab')"), "54000");
    assert_eq!(code_of(&mut raw, &format!("SELECT {}", "x".repeat(1 << 20))), "42703");
    assert_eq!(code_of(&mut raw, &format!("SELECT '{}'", "x".repeat(9 << 20))), "54000");
    assert_eq!(code_of(&mut raw, "SELECT 'a' ~ '('"), "2201B");
    assert_goes_on(&mut raw);
}

#[test]
fn text_that_is_no_utf8_is_22021_wherever_it_stands() {
    let server = server();
    let mut raw = Raw::open(&server);
    raw.packet(3 << 16, b"user\0\xff\xfe\0\0");
    assert_eq!(raw.fatal().as_deref(), Some("22021"), "start-up");
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT)");
    raw.until(b'Z');
    // A query, a statement's name, its text, a portal's name.
    raw.frame(b'Q', b"SELECT '\xc3\x28'\0");
    assert_eq!(error_of(&raw.until(b'Z')), "22021");
    for (tag, body) in [
        (b'P', &b"\xff\0SELECT 1\0\0\0"[..]),
        (b'P', b"\0SELECT '\xed\xa0\x80'\0\0\0"),
        (b'B', b"\xff\0\0\0\0\0\0\0\0"),
        (b'D', b"S\xff\0"),
        (b'E', b"\xff\0\0\0\0\0"),
        (b'C', b"P\xff\0"),
    ] {
        raw.frame(tag, body);
        raw.frame(b'S', b"");
        assert_eq!(error_of(&raw.until(b'Z')), "22021", "{}", tag as char);
    }
    // A parameter in both formats.
    for format in [0u8, 1] {
        raw.frame(b'P', b"\0SELECT $1::text\0\0\0");
        let body = [&b"\0\0\0\x01\0"[..], &[format], b"\0\x01\0\0\0\x02a\xff\0\0"].concat();
        raw.frame(b'B', &body);
        raw.frame(b'S', b"");
        assert_eq!(error_of(&raw.until(b'Z')), "22021", "format {format}");
    }
    // COPY, in both formats, and an escape that makes no text.
    for (options, data) in
        [("", &b"1\ta\xff\n"[..]), ("", b"1\t\\xff\n"), (" WITH (FORMAT csv)", b"1,\"a\xff\"\n")]
    {
        let frames = copy(&mut raw, &format!("COPY t FROM STDIN{options}"), data, 4096);
        assert_eq!(error_of(&frames), "22021");
    }
    // A zero byte is no text either.
    let frames = copy(&mut raw, "COPY t FROM STDIN", b"1\ta\0b\n", 4096);
    assert_eq!(error_of(&frames), "22021");
    raw.query("SELECT k FROM t");
    assert_eq!(tags(&raw.until(b'Z')), "TCZ");
}

#[test]
fn more_parameters_than_a_message_can_count_are_refused() {
    let server = server();
    let mut raw = Raw::started(&server);
    // 65 535 is what two bytes count: the statement may name no more.
    raw.execute("SELECT $65536::int", 0);
    raw.frame(b'S', b"");
    assert_eq!(error_of(&raw.until(b'Z')), "54023");
    let list: Vec<String> = (1..=3000).map(|number| format!("${number}::int")).collect();
    let sql = format!("SELECT 1 WHERE 1 IN ({})", list.join(","));
    raw.frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
    let mut bind = b"\0\0\0\0".to_vec();
    bind.extend_from_slice(&3000u16.to_be_bytes());
    for _ in 0..3000 {
        bind.extend_from_slice(&[0, 0, 0, 1, b'1']);
    }
    bind.extend_from_slice(&[0, 0]);
    raw.frame(b'B', &bind);
    raw.frame(b'E', b"\0\0\0\0\0");
    raw.frame(b'S', b"");
    assert_eq!(tags(&raw.until(b'Z')), "12DCZ");
}

#[test]
fn bad_row_in_the_middle_of_a_copy_writes_nothing_and_is_pointed_at() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY, v INTEGER)");
    raw.until(b'Z');
    // Past the first batches, so that rows were written already.
    let lines = |bad: &str| -> Vec<u8> {
        let line = |number: usize| match number {
            20_001 => format!("{bad}\n"),
            number => format!("{number}\t{number}\n"),
        };
        (1..=25_000).map(line).collect::<String>().into_bytes()
    };
    for (bad, code, place) in [
        ("20001\tx", "22P02", "COPY t, line 20001, column v: \"x\""),
        ("20001\t99999999999", "22003", "COPY t, line 20001, column v: \"99999999999\""),
        ("20001", "22P04", "COPY t, line 20001"),
        ("20001\t1\t2", "22P04", "COPY t, line 20001"),
        ("\\N\t1", "23502", "COPY t, line "),
        ("7\t1", "23505", "COPY t, line "),
    ] {
        let frames = copy(&mut raw, "COPY t FROM STDIN", &lines(bad), 65_536);
        let (_, error) = frames.iter().find(|(tag, _)| *tag == b'E').unwrap();
        assert_eq!(sqlstate(error), code, "{bad}");
        assert!(String::from_utf8_lossy(error).contains(place), "{bad}");
        raw.query("SELECT k FROM t LIMIT 1");
        assert_eq!(tags(&raw.until(b'Z')), "TCZ", "nothing of {bad} stays");
    }
    assert_eq!(copy(&mut raw, "COPY t FROM STDIN", b"1\t1\n", 9)[0].0, b'C');
}

#[test]
fn messages_out_of_order_are_answered_and_change_nothing() {
    let server = server();
    let mut raw = Raw::started(&server);
    // Bind to a statement that is not there, Describe, Execute and Close of nothing.
    raw.frame(b'B', b"\0none\0\0\0\0\0\0\0");
    raw.frame(b'S', b"");
    assert_eq!(error_of(&raw.until(b'Z')), "26000");
    raw.frame(b'D', b"Pnone\0");
    raw.frame(b'S', b"");
    assert_eq!(error_of(&raw.until(b'Z')), "34000");
    raw.frame(b'C', b"Snone\0");
    raw.frame(b'S', b"");
    assert_eq!(tags(&raw.until(b'Z')), "3Z");
    // COPY messages without a COPY are left over from one that failed.
    raw.frame(b'd', b"1\t1\n");
    raw.frame(b'c', b"");
    raw.frame(b'f', b"never mind\0");
    assert_goes_on(&mut raw);
    // Wrong counts and formats of a Bind.
    for body in [
        &b"\0\0\0\0\0\x01\0\0\0\x011\0\0"[..],
        b"\0\0\0\0\0\0\0\x02\0\0\0\0",
        b"\0\0\0\x02\0\0\0\0\0\0\0\0",
    ] {
        raw.frame(b'P', b"\0SELECT 1\0\0\0");
        raw.frame(b'B', body);
        raw.frame(b'S', b"");
        assert_eq!(error_of(&raw.until(b'Z')), "08P01");
    }
    assert_goes_on(&mut raw);
}

#[test]
fn query_that_needs_more_memory_than_there_is_fails_alone() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let config = ServerConfig { listen, query_memory_max: 1 << 20, ..ServerConfig::default() };
    let server = Server::start(config).unwrap();
    let mut raw = Raw::started(&server);
    let series = |name: &str| format!("generate_series(1, 100000) AS {name}(i)");
    let (a, b) = (series("a"), series("b"));
    for sql in [
        format!("SELECT i FROM {a} ORDER BY i % 1000 DESC, i"),
        format!("SELECT count(*) FROM (SELECT i % 99999, count(*) FROM {a} GROUP BY 1) AS g"),
        format!("SELECT count(*) FROM {a} JOIN {b} ON a.i = b.i"),
        format!("SELECT count(DISTINCT i) FROM {a}"),
        format!("SELECT DISTINCT i FROM {a}"),
        format!("SELECT sum(i) OVER (ORDER BY i % 7) FROM {a}"),
    ] {
        assert_eq!(code_of(&mut raw, &sql), "53200", "{sql}");
    }
    raw.query("SELECT i FROM generate_series(1, 3) AS s(i) ORDER BY i DESC");
    assert_eq!(tags(&raw.until(b'Z')), "TDDDCZ");
}

#[test]
fn tables_above_their_memory_take_no_more_rows_and_keep_those_they_have() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let config = ServerConfig { listen, table_memory_max: 4 << 20, ..ServerConfig::default() };
    let server = Server::start(config).unwrap();
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT)");
    raw.until(b'Z');
    raw.query("INSERT INTO t VALUES (1, 'first')");
    assert_eq!(tags(&raw.until(b'Z')), "CZ");
    let many = "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(2, 60000) AS s(i)";
    assert_eq!(code_of(&mut raw, many), "53200");
    let lines: String = (2..60_000).map(|key| format!("{key}\t{}\n", "x".repeat(100))).collect();
    let frames = copy(&mut raw, "COPY t FROM STDIN", lines.as_bytes(), 65_536);
    assert_eq!(error_of(&frames), "53200");
    raw.query("SELECT k FROM t");
    assert_eq!(tags(&raw.until(b'Z')), "TDCZ", "nothing of them stays");
    raw.query("INSERT INTO t VALUES (2, 'second')");
    assert_eq!(tags(&raw.until(b'Z')), "CZ", "and their memory is free again");
}
