//! Statements that are wide, long, or short and stand for much: answered as small ones are, or
//! refused with the limit named; and whatever a statement is doing, its client can cancel it.

use std::time::Duration;

use crate::raw::{Raw, server, sqlstate, tags};

/// How soon an answer must come from a build that is not optimised, on a machine that is shared.
const SOON: Duration = Duration::from_secs(5);

fn answer(raw: &mut Raw, sql: &str) -> Vec<(u8, Vec<u8>)> {
    raw.query(sql);
    raw.until(b'Z')
}

/// SQLSTATE of the answer, or its tags if it is no error.
fn code_of(raw: &mut Raw, sql: &str) -> String {
    let frames = answer(raw, sql);
    let error = frames.iter().find(|(tag, _)| *tag == b'E');
    error.map_or_else(|| tags(&frames), |(_, body)| sqlstate(body))
}

/// How long an answer takes, and the answer's SQLSTATE or tags.
fn timed(raw: &mut Raw, sql: &str) -> (Duration, String) {
    let clock = storage::env::Env::real().clock;
    let start = clock.monotonic_nanos();
    let code = code_of(raw, sql);
    (Duration::from_nanos(clock.monotonic_nanos() - start), code)
}

/// `rows` over and over, `count` of them.
fn values(rows: &[&str], count: usize) -> String {
    let rows: Vec<&str> = rows.iter().copied().cycle().take(count).collect();
    format!("VALUES {}", rows.join(","))
}

#[test]
fn long_lists_of_literals_answer_as_short_ones_do() {
    let server = server();
    let mut raw = Raw::started(&server);
    for rows in [
        &["(1, 'a')", "(-2, 'b')", "(3, NULL)"][..],
        &["(1, 1.5)", "(3000000000, -2.25)", "(NULL, 7)"],
        &["(true, NULL)", "(false, NULL)", "(NULL, NULL)"],
        &["(99999999999999999999, 'x')", "(-2147483648, 'y')"],
        &["('2024-01-01', '1')", "('x''y', '')"],
        &["(1e3, 1)", "(2, 2)"],
        &["(date '2024-01-01', 1)", "(date '2023-01-01', 2)"],
        &["(1, 'a')", "('2', 'b')"],
        &["(1, 'a')", "('x', 'b')"],
        &["(1, true)", "(2, 'b')"],
        &["(1, 2)", "(3)"],
    ] {
        let ask =
            |count| format!("SELECT DISTINCT * FROM ({}) v ORDER BY 1, 2", values(rows, count));
        // An inconsistent list is told by the number of its row.
        let short = answer(&mut raw, &ask(rows.len()));
        let long = answer(&mut raw, &ask(500));
        assert_eq!(short, long, "{rows:?}");
    }
}

#[test]
fn long_lists_of_literals_are_assigned_as_short_ones_are() {
    let server = server();
    let mut raw = Raw::started(&server);
    for (column, value) in [
        ("INT", "'12'"),
        ("INT", "'x'"),
        ("INT", "3000000000"),
        ("INT", "1.5"),
        ("INT", "true"),
        ("NUMERIC(4,2)", "99.995"),
        ("VARCHAR(3)", "'abcd'"),
        ("VARCHAR(3)", "12"),
        ("TIMESTAMP", "'2024-02-30'"),
        ("TIMESTAMP", "'2024-02-29'"),
        ("BOOLEAN", "1"),
        ("BOOLEAN", "'yes'"),
        ("DOUBLE PRECISION", "-1.5"),
        ("INT", "DEFAULT"),
    ] {
        let insert = |raw: &mut Raw, count| {
            code_of(raw, "DROP TABLE IF EXISTS t");
            code_of(raw, &format!("CREATE TABLE t (v {column})"));
            let row = format!("({value})");
            let code = code_of(raw, &format!("INSERT INTO t {}", values(&[&row], count)));
            let mut rows = answer(raw, "SELECT DISTINCT v FROM t");
            rows.retain(|(tag, _)| *tag == b'D');
            (code, rows)
        };
        let short = insert(&mut raw, 3);
        assert_eq!(short, insert(&mut raw, 300), "{value} as {column}");
    }
}

#[test]
fn hundred_thousand_rows_are_inserted_by_one_statement() {
    let server = server();
    let mut raw = Raw::started(&server);
    assert_eq!(code_of(&mut raw, "CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT)"), "CZ");
    let rows: Vec<String> = (0..100_000).map(|row| format!("({row}, 'v{row}')")).collect();
    assert_eq!(code_of(&mut raw, &format!("INSERT INTO t VALUES {}", rows.join(","))), "CZ");
    let frames = answer(&mut raw, "SELECT count(*), sum(k) FROM t WHERE v LIKE 'v%'");
    let row = String::from_utf8_lossy(&frames[1].1).into_owned();
    assert!(row.contains("100000") && row.contains("4999950000"), "{row}");
}

#[test]
fn statements_that_stand_for_much_are_refused_before_they_are_planned() {
    let server = server();
    let mut raw = Raw::started(&server);
    assert_eq!(code_of(&mut raw, "CREATE TABLE t (k BIGINT PRIMARY KEY)"), "CZ");
    let with: Vec<String> =
        (1..60).map(|n| format!("c{n} AS (SELECT a.k FROM c{} a, c{} b)", n - 1, n - 1)).collect();
    let with = format!("WITH c0 AS (SELECT k FROM t), {} SELECT * FROM c59", with.join(", "));
    let chain: Vec<String> =
        (1..10_000).map(|n| format!("c{n} AS (SELECT k FROM c{})", n - 1)).collect();
    let chain = format!("WITH c0 AS (SELECT k FROM t), {} SELECT * FROM c9999", chain.join(", "));
    let joins = format!("SELECT * FROM t{}", " NATURAL JOIN t".repeat(200));
    let from = format!("SELECT 1 FROM {}", vec!["t"; 1_000].join(", "));
    let statements = "SELECT 1;".repeat(100_000);
    for sql in [&with, &chain, &joins, &from, &statements] {
        let (took, code) = timed(&mut raw, sql);
        assert_eq!(code, "54001", "{}", &sql[..60]);
        assert!(took < SOON, "{} took {took:?}", &sql[..60]);
    }
    // Views, each on the one before twice: the text of none is long.
    assert_eq!(code_of(&mut raw, "CREATE VIEW v0 AS SELECT k FROM t"), "CZ");
    let create = |n: usize| {
        format!("CREATE VIEW v{n} AS SELECT a.k FROM v{} a JOIN v{} b ON a.k = b.k", n - 1, n - 1)
    };
    let refused = (1..20).find(|n| code_of(&mut raw, &create(*n)) != "CZ");
    let refused = refused.expect("no view of this chain may stand for a million scans");
    assert_eq!(code_of(&mut raw, &create(refused)), "54001");
    assert_eq!(code_of(&mut raw, "SELECT 1"), "TDCZ");
}

#[test]
fn statement_is_cancelled_while_it_is_planned() {
    let server = server();
    let mut raw = Raw::started(&server);
    assert_eq!(code_of(&mut raw, "CREATE TABLE t (k BIGINT PRIMARY KEY)"), "CZ");
    assert_eq!(code_of(&mut raw, "SET statement_timeout = '200ms'"), "CZ");
    let sums: Vec<String> = (0..1_600).map(|n| format!("sum(k + {n})")).collect();
    let (took, code) = timed(&mut raw, &format!("SELECT {} FROM t", sums.join(",")));
    assert_eq!(code, "57014");
    assert!(took < Duration::from_secs(2), "cancelled after {took:?}");
    assert_eq!(code_of(&mut raw, "RESET statement_timeout"), "CZ");
    // The session goes on with its settings and its transactions.
    assert_eq!(code_of(&mut raw, "SHOW statement_timeout"), "TDCZ");
    assert_eq!(code_of(&mut raw, "BEGIN"), "CZ");
    assert_eq!(code_of(&mut raw, "INSERT INTO t VALUES (1)"), "CZ");
    assert_eq!(code_of(&mut raw, "COMMIT"), "CZ");
    assert_eq!(code_of(&mut raw, "SELECT k FROM t"), "TDCZ");
}

#[test]
fn literal_of_the_wrong_type_is_wrong_also_where_there_is_no_row() {
    let server = server();
    let mut raw = Raw::started(&server);
    assert_eq!(code_of(&mut raw, "CREATE TABLE t (k BIGINT PRIMARY KEY, d DATE)"), "CZ");
    assert_eq!(code_of(&mut raw, "SELECT * FROM t WHERE k = 'x'"), "22P02");
    assert_eq!(code_of(&mut raw, "SELECT * FROM t WHERE k IN ('1', 'x')"), "22P02");
    assert_eq!(code_of(&mut raw, "SELECT * FROM t WHERE d > 'x'"), "22007");
    assert_eq!(code_of(&mut raw, "DELETE FROM t WHERE k = 'x'"), "22P02");
    assert_eq!(code_of(&mut raw, "SELECT * FROM t WHERE k = '1' AND d > '2024-01-01'"), "TCZ");
}
