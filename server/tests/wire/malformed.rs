//! Messages that are wrong inside: each is an error with PostgreSQL's SQLSTATE, after which the
//! session goes on as PostgreSQL's does. Only a frame whose border is lost ends the connection.

use crate::raw::{Raw, copy, server, sqlstate, tags};

/// Types and codes of the answer, `E(08P01)Z`.
fn shown(frames: &[(u8, Vec<u8>)]) -> String {
    let show = |(tag, body): &(u8, Vec<u8>)| match tag {
        b'E' => format!("E({})", sqlstate(body)),
        tag => (*tag as char).to_string(),
    };
    frames.iter().map(show).collect()
}

fn assert_goes_on(raw: &mut Raw, what: &str) {
    raw.query("SELECT 1");
    assert_eq!(tags(&raw.until(b'Z')), "TDCZ", "after {what}");
}

#[test]
fn body_that_makes_no_sense_is_an_error_and_the_session_goes_on() {
    let server = server();
    let mut raw = Raw::started(&server);
    for tag in *b"PBDECH" {
        for body in [&b""[..], b"x", b"\0", b"abc\0def\0\xff\xff\xff\xff\xff\xff", b"S\0more rest"]
        {
            // A whole Flush.
            if tag == b'H' && body.is_empty() {
                continue;
            }
            let what = format!("{} {body:?}", tag as char);
            raw.frame(tag, body);
            raw.execute("SELECT 1", 0);
            raw.frame(b'S', b"");
            assert_eq!(shown(&raw.until(b'Z')), "E(08P01)Z", "{what}");
            assert_goes_on(&mut raw, &what);
        }
    }
    for (tag, body, code) in [
        (b'Q', &b""[..], "08P01"),
        (b'Q', b"SELECT 1", "08P01"),
        (b'Q', b"SELECT 1\0SELECT 2\0", "08P01"),
        (b'S', b"x", "08P01"),
        (b'F', b"\0\0\0\x01\0\0\0\0\0\0", "0A000"),
    ] {
        // Answered by themselves, without Sync.
        raw.frame(tag, body);
        let what = format!("{} {body:?}", tag as char);
        assert_eq!(shown(&raw.until(b'Z')), format!("E({code})Z"), "{what}");
        assert_goes_on(&mut raw, &what);
    }
    let mut other = Raw::started(&server);
    other.frame(b'p', b"a password nobody asked for\0");
    assert_eq!(other.fatal().as_deref(), Some("08P01"));
    raw.frame(b'X', b"and goodbye");
    assert!(raw.next().is_none(), "Terminate ends, whatever it says");
}

#[test]
fn error_in_a_message_fails_the_block_it_stands_in() {
    let server = server();
    let mut raw = Raw::started(&server);
    for (tag, body) in [(b'Q', &b"no end"[..]), (b'F', b""), (b'E', b"no end")] {
        raw.query("BEGIN");
        raw.until(b'Z');
        raw.frame(tag, body);
        if tag == b'E' {
            raw.frame(b'S', b"");
        }
        assert_eq!(raw.until(b'Z').last().unwrap().1, b"E", "{}", tag as char);
        raw.query("ROLLBACK");
        assert_eq!(raw.until(b'Z').last().unwrap().1, b"I");
    }
}

#[test]
fn lengths_that_cannot_be_end_the_connection() {
    let server = server();
    for tag in *b"QPBDECFfdcHSX" {
        for length in [0u32, 3, u32::MAX, 0x3fff_ffff] {
            let mut raw = Raw::started(&server);
            raw.bytes(&[&[tag][..], &length.to_be_bytes()].concat());
            assert_eq!(raw.fatal().as_deref(), Some("08P01"), "{} {length}", tag as char);
        }
    }
}

#[test]
fn copy_messages_outside_of_copy_are_ignored_whatever_they_say() {
    let server = server();
    let mut raw = Raw::started(&server);
    for (tag, body) in
        [(b'd', &b"1\n"[..]), (b'd', b""), (b'c', b"x"), (b'f', b"no zero"), (b'f', b"\xff\0")]
    {
        raw.frame(tag, body);
    }
    assert_goes_on(&mut raw, "copy messages");
}

#[test]
fn copy_is_given_up_by_the_client_or_by_a_message_that_does_not_belong() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY)");
    raw.until(b'Z');
    for (reason, code) in [(&b"I changed my mind\0"[..], "57014"), (b"no zero", "08P01")] {
        raw.query("COPY t FROM STDIN");
        raw.until(b'G');
        raw.frame(b'd', b"1\n");
        raw.frame(b'f', reason);
        assert_eq!(shown(&raw.until(b'Z')), format!("E({code})Z"));
    }
    // Flush and Sync mean nothing while data comes.
    raw.query("COPY t FROM STDIN");
    raw.until(b'G');
    raw.frame(b'H', b"");
    raw.frame(b'S', b"");
    raw.frame(b'd', b"2\n");
    raw.frame(b'c', b"");
    assert_eq!(tags(&raw.until(b'Z')), "CZ");
    for tag in *b"QPXF?" {
        let mut raw = Raw::started(&server);
        raw.query("COPY t FROM STDIN");
        raw.until(b'G');
        raw.frame(tag, b"SELECT 1\0");
        assert_eq!(raw.fatal().as_deref(), Some("08P01"), "{}", tag as char);
    }
    raw.query("SELECT k FROM t");
    assert_eq!(tags(&raw.until(b'Z')), "TDCZ", "only what was finished is there");
}

#[test]
fn ends_of_lines_are_the_same_in_a_whole_copy() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT)");
    raw.until(b'Z');
    for (options, data) in [
        ("", &b"1\ta\rb\n"[..]),
        ("", b"1\ta\n2\tb\r\n"),
        ("", b"1\ta\r\n2\tb\n"),
        (" CSV", b"1,a\rb\n"),
        (" CSV", b"1,a\n2,b\r\n"),
        (" CSV", b"1,a\r\n2,b\n3,c\r\n"),
        (" CSV", b"1,\"a\n"),
        (" CSV", b"1,a\n2,\"b\n3,c\n"),
    ] {
        let frames = copy(&mut raw, &format!("COPY t FROM STDIN{options}"), data, 3);
        assert_eq!(shown(&frames), "E(22P04)Z", "{options} {data:?}");
    }
    for (options, data, length) in [
        ("", &b"1\ta\\rb\n"[..], 3),
        ("", b"1\ta\\\rb\n", 3),
        ("", b"1\tab\r\n", 2),
        (" CSV", b"1,\"a\rb\"\r\n", 3),
        (" CSV", b"1,\"a\r\nb\"\n", 4),
    ] {
        let frames = copy(&mut raw, &format!("COPY t FROM STDIN{options}"), data, 3);
        assert_eq!(tags(&frames), "CZ", "{options} {data:?}");
        raw.query("DELETE FROM t RETURNING length(v)");
        let row = raw.until(b'Z').remove(1).1;
        assert_eq!(row.last(), Some(&(b'0' + length)), "{options} {data:?}");
    }
}

#[test]
fn portal_that_is_done_does_its_work_no_second_time() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)");
    raw.until(b'Z');
    for sql in ["BEGIN", "INSERT INTO t VALUES (1, 1)", "UPDATE t SET v = v + 1"] {
        raw.execute(sql, 0);
        raw.frame(b'E', b"\0\0\0\0\0");
        raw.frame(b'S', b"");
        assert_eq!(shown(&raw.until(b'Z')), "12CE(55000)Z", "{sql}");
        raw.query("ROLLBACK");
        raw.until(b'Z');
    }
    raw.query("INSERT INTO t VALUES (7, 7)");
    raw.until(b'Z');
    for sql in ["SELECT v FROM t WHERE k = 7", "SELECT sum(v) FROM t"] {
        raw.execute(sql, 0);
        raw.frame(b'E', b"\0\0\0\0\0");
        raw.frame(b'S', b"");
        let frames = raw.until(b'Z');
        assert_eq!(tags(&frames), "12DCCZ", "{sql}");
        assert_eq!(frames[4].1, b"SELECT 0\0", "{sql}");
    }
}

#[test]
fn unnamed_statement_lives_until_the_next_simple_query() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.frame(b'P', b"\0SELECT 1\0\0\0");
    raw.frame(b'S', b"");
    raw.until(b'Z');
    assert_goes_on(&mut raw, "Parse");
    raw.frame(b'B', b"\0\0\0\0\0\0\0\0");
    raw.frame(b'S', b"");
    assert_eq!(shown(&raw.until(b'Z')), "E(26000)Z");
}

/// Parse and Bind of `SELECT $1::type` with one value in binary.
fn bound(raw: &mut Raw, sql_type: &str, value: &[u8]) -> String {
    raw.frame(b'P', format!("\0SELECT $1::{sql_type}\0\0\0").as_bytes());
    let length = (value.len() as u32).to_be_bytes();
    raw.frame(b'B', &[&b"\0\0\0\x01\0\x01\0\x01"[..], &length, value, b"\0\0"].concat());
    raw.frame(b'S', b"");
    shown(&raw.until(b'Z'))
}

#[test]
fn cast_parameter_has_its_type_and_binary_values_must_be_of_it() {
    let server = server();
    let mut raw = Raw::started(&server);
    for (sql_type, oid) in [("int", 23u32), ("bigint", 20), ("numeric(10,2)", 1700), ("text", 25)] {
        raw.frame(b'P', format!("\0SELECT $1::{sql_type}\0\0\0").as_bytes());
        raw.frame(b'D', b"S\0");
        raw.frame(b'S', b"");
        let description = raw.until(b'Z').remove(1).1;
        assert_eq!(description, [&[0, 1][..], &oid.to_be_bytes()].concat(), "{sql_type}");
    }
    for (sql_type, value, code) in [
        ("int", &b"123"[..], "22P03"),
        ("bigint", b"\0\0\0\x01", "22P03"),
        ("bool", b"\x01\x01", "22P03"),
        ("uuid", b"1234", "22P03"),
        ("timestamp", b"123", "22P03"),
        ("timestamp", b"\x7f\xff\xff\xff\xff\xff\xff\xf0", "22008"),
        ("date", b"\x7f\xff\xff\xf0", "22008"),
        ("time", b"\0\x04\0\0\0\0\0\0", "22008"),
        ("numeric", b"\0\x01", "22P03"),
        ("numeric", b"\0\x01\0\0\0\0\0\0\x27\x10", "22P03"),
        ("numeric", b"\0\x01\0\0\x12\x34\0\0\0\x01", "22P03"),
        ("jsonb", b"\x01{", "22P02"),
        ("int[]", b"\0\0\0\x63\0\0\0\0\0\0\0\x17", "0A000"),
        ("int[]", b"\0\0\0\x01\0\0\0\0\0\0\0\x17\x77\x35\x94\0\0\0\0\x01", "22P03"),
        ("int[]", b"\0\0\0\x01\0\0\0\0\0\0\0\x17\0\0\0\x05\0\0\0\x01", "22P03"),
        ("int[]", b"\0\0\0\x01\0\0\0\0\0\0\0\x19\0\0\0\x01\0\0\0\x01\0\0\0\x01a", "42804"),
        ("text", b"a\0b", "22021"),
    ] {
        assert_eq!(
            bound(&mut raw, sql_type, value),
            format!("1E({code})Z"),
            "{sql_type} {value:?}"
        );
    }
    assert_eq!(bound(&mut raw, "int", &7u32.to_be_bytes()), "12Z");
    assert_goes_on(&mut raw, "binary values");
}

/// Table oid and column number of each column of a RowDescription.
fn origins(body: &[u8]) -> Vec<(u32, i16)> {
    let mut rest = &body[2..];
    let mut origins = Vec::new();
    while !rest.is_empty() {
        let name = rest.iter().position(|byte| *byte == 0).unwrap() + 1;
        let oid = u32::from_be_bytes(rest[name..name + 4].try_into().unwrap());
        origins.push((oid, i16::from_be_bytes(rest[name + 4..name + 6].try_into().unwrap())));
        rest = &rest[name + 18..];
    }
    origins
}

#[test]
fn plain_columns_say_which_table_and_column_they_are() {
    let server = server();
    let mut raw = Raw::started(&server);
    for sql in [
        "CREATE TABLE t (a BIGINT, b TEXT, k BIGINT PRIMARY KEY)",
        "CREATE TABLE u (k BIGINT PRIMARY KEY, c TEXT)",
        "CREATE TABLE bag (x TEXT)",
        "CREATE VIEW w AS SELECT b AS seen, k FROM t",
        "CREATE MAPPING s (id BIGINT, v BIGINT) TYPE Generator OPTIONS ('kind' = 'sequence')",
    ] {
        raw.query(sql);
        assert_eq!(tags(&raw.until(b'Z')), "CZ", "{sql}");
    }
    let mut oid = |name: &str| -> u32 {
        raw.query(&format!("SELECT '{name}'::regclass::oid"));
        let row = raw.until(b'Z').remove(1).1;
        String::from_utf8(row[6..].to_vec()).unwrap().parse().unwrap()
    };
    let [t, u, bag, w, s, jobs] = ["t", "u", "bag", "w", "s", "sys.jobs"].map(&mut oid);
    let none = (0, 0);
    for (sql, expected) in [
        ("SELECT b, a AS x, a + 1, 7, k FROM t", vec![(t, 2), (t, 1), none, none, (t, 3)]),
        ("SELECT * FROM t WHERE k = 1", vec![(t, 1), (t, 2), (t, 3)]),
        ("SELECT b AS x FROM t WHERE k = 1", vec![(t, 2)]),
        ("SELECT c, b FROM t JOIN u ON t.k = u.k", vec![(u, 2), (t, 2)]),
        ("SELECT x FROM (SELECT b AS x FROM t ORDER BY a LIMIT 3) AS s", vec![(t, 2)]),
        ("WITH q AS (SELECT c FROM u) SELECT c, c FROM q", vec![(u, 2), (u, 2)]),
        ("SELECT b, count(*) FROM t GROUP BY b", vec![(t, 2), none]),
        ("SELECT DISTINCT b FROM t", vec![(t, 2)]),
        ("SELECT a FROM t UNION ALL SELECT k FROM u", vec![none]),
        ("SELECT b::varchar, lower(b), (SELECT 1) FROM t", vec![none, none, none]),
        ("SELECT x FROM bag", vec![(bag, 1)]),
        ("SELECT k, seen FROM w", vec![(w, 2), (w, 1)]),
        ("SELECT v FROM s LIMIT 0", vec![(s, 2)]),
        ("SELECT status FROM sys.jobs", vec![(jobs, 3)]),
        ("INSERT INTO u VALUES (1, 'c') RETURNING c, k, k + 1", vec![(u, 2), (u, 1), none]),
        ("DELETE FROM u RETURNING *", vec![(u, 1), (u, 2)]),
    ] {
        raw.query(sql);
        let frames = raw.until(b'Z');
        let description = frames.iter().find(|(tag, _)| *tag == b'T');
        let (_, description) = description.unwrap_or_else(|| panic!("{sql}: {}", shown(&frames)));
        assert_eq!(origins(description), expected, "{sql}");
    }
}
