//! COPY FROM STDIN of rows of 96 B with a key, beside PostgreSQL UNLOGGED; and bytes a row after it.

use std::time::Duration;

use tidewater_bench::{
    Result, median,
    postgres::Postgres,
    report::{self, Line},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};

/// Rounds of each side; interleaved, each into an empty table.
const ROUNDS: usize = 3;
/// Until chunks are compacted and freed memory has gone back to the system.
const SETTLING: Duration = Duration::from_secs(16);
const DDL: &str = "TABLE t (k BIGINT PRIMARY KEY, a BIGINT, b BIGINT, c DOUBLE PRECISION, v TEXT)";

fn main() -> Result<()> {
    let rows = setting("ROWS", 5_000_000);
    let text = bytes::Bytes::from(lines(rows));
    let ours = Tidewater::start(None, &[])?;
    let peer = Postgres::start(None)?;
    let (wire, peer_wire) = (Wire::connect(ours.port)?, Wire::connect(peer.port)?);
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    let (mut cpu, mut bytes_a_row) = (0.0, 0.0);
    for round in 0..ROUNDS {
        wire.run(&format!("DROP TABLE IF EXISTS t; CREATE {DDL}"))?;
        let (cpu_before, rss_before) = (ours.cpu_seconds()?, ours.rss_bytes()?);
        let elapsed = wire.copy_in("COPY t FROM STDIN", &text)?;
        mine.push(rows as f64 / elapsed.as_secs_f64());
        if round == 0 {
            cpu = ours.cpu_seconds()? - cpu_before;
            wire.pause(SETTLING);
            bytes_a_row = (ours.rss_bytes()? as f64 - rss_before as f64) / rows as f64;
        }
        peer_wire.run(&format!("DROP TABLE IF EXISTS t; CREATE UNLOGGED {DDL}"))?;
        let elapsed = peer_wire.copy_in("COPY t FROM STDIN", &text)?;
        theirs.push(rows as f64 / elapsed.as_secs_f64());
    }
    let check = "SELECT count(*), sum(k), sum(a), min(v), max(v) FROM t";
    assert_eq!(wire.rows(check)?.0, peer_wire.rows(check)?.0, "{check}");
    report::head(&format!(
        "COPY FROM STDIN: {rows} rows of 96 B, key BIGINT, PostgreSQL 15 UNLOGGED"
    ));
    report::line(&Line {
        work: "COPY FROM STDIN, text".to_owned(),
        ours: median(mine),
        peer: Some((median(theirs), "PostgreSQL".to_owned())),
        unit: "rows a second",
        is_less_better: false,
        cpu_seconds: cpu,
        rss_bytes: ours.rss_bytes()?,
    });
    report::line(&Line {
        work: "bytes a row, key index included".to_owned(),
        ours: bytes_a_row,
        peer: Some((126.0, "DuckDB with key, not run".to_owned())),
        unit: "bytes",
        is_less_better: true,
        cpu_seconds: 0.0,
        rss_bytes: ours.rss_bytes()?,
    });
    Ok(())
}

/// PostgreSQL's text format: four numbers and 56 bytes of text, 88 B of Arrow data a row.
fn lines(rows: u64) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(rows as usize * 96);
    for k in 0..rows {
        let a = k.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let _ = writeln!(text, "{k}\t{a}\t{}\t{}.5\tvalue-{a:050}", k % 1000, k % 97);
    }
    text
}
