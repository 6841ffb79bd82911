//! What an error says for programs: where in the query string it stands, and what it is about.

use crate::raw::{Raw, server};

/// A field of the query's ErrorResponse.
fn field(raw: &mut Raw, sql: &str, tag: u8) -> Option<String> {
    raw.query(sql);
    let frames = raw.until(b'Z');
    let (_, body) = frames.iter().find(|(tag, _)| *tag == b'E')?;
    let mut fields = body.split(|byte| *byte == 0).filter(|field| !field.is_empty());
    let found = fields.find(|field| field[0] == tag)?;
    Some(String::from_utf8(found[1..].to_vec()).unwrap())
}

#[test]
fn unknown_names_are_pointed_at() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)");
    raw.until(b'Z');
    // The mark stands where the error should point to; positions are PostgreSQL's.
    for marked in [
        "SELECT ^nope FROM t",
        "SELECT k, ^nope + 1 FROM t",
        "SELECT k AS nope FROM t WHERE ^nope = 1",
        "SELECT ^t.nope FROM t",
        "SELECT ^u.k FROM t",
        "SELECT 'ü', ^\"Nope\" FROM t",
        "SELECT 1; SELECT\n  ^nope FROM t",
        "SELECT * FROM ^nowhere",
        "SELECT ^no_such(k) FROM t",
        "SELECT k::^nothing FROM t",
        "UPDATE t SET v = ^nope",
        "DELETE FROM t WHERE ^nope = 1",
        "INSERT INTO ^nowhere VALUES (1)",
        "INSERT INTO t (k, ^nope) VALUES (1, 2)",
        "CREATE VIEW w AS SELECT ^nope FROM t",
        "CREATE JOB j AS SINK INTO ^nowhere SELECT v, v FROM TABLE(generate_stream(1))",
        "SELEC^ 1",
    ] {
        let sql = marked.replace('^', "");
        let expected = match marked {
            "SELEC^ 1" => 1,
            marked => marked.chars().take_while(|mark| *mark != '^').count() + 1,
        };
        let position = field(&mut raw, &sql, b'P');
        assert_eq!(position.as_deref(), Some(expected.to_string().as_str()), "{marked}");
    }
}

#[test]
fn broken_constraints_are_named() {
    let server = server();
    let mut raw = Raw::started(&server);
    raw.query("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT NOT NULL)");
    raw.until(b'Z');
    raw.query("INSERT INTO t VALUES (1, 1)");
    raw.until(b'Z');
    let twice = "INSERT INTO t VALUES (1, 2)";
    assert_eq!(field(&mut raw, twice, b't').as_deref(), Some("t"));
    assert_eq!(field(&mut raw, twice, b'n').as_deref(), Some("t_pkey"));
    assert_eq!(field(&mut raw, twice, b's').as_deref(), Some("public"));
    let null = "INSERT INTO t VALUES (2, NULL)";
    assert_eq!(field(&mut raw, null, b'c').as_deref(), Some("v"));
    assert_eq!(field(&mut raw, null, b'n'), None);
}
