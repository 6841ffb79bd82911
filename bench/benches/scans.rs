//! Scans of 10⁷ rows in memory, over the wire to the last byte, beside DuckDB and DataFusion's own
//! tables in memory, each in its own process; the better of the two is the peer. Each query's answer
//! is compared before its time counts.

use tidewater_bench::{
    Result, median,
    python::{Engine, Peer},
    report::{self, Line},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};

/// Rounds of each query; interleaved, the first of each side does not count.
const ROUNDS: usize = 6;

/// Name and SQL; the SQL is the same on both sides.
const QUERIES: [(&str, &str); 7] = [
    ("count", "SELECT count(*) FROM f"),
    ("sum and avg", "SELECT sum(price), avg(x) FROM f"),
    ("1 % filter", "SELECT count(*), sum(price) FROM f WHERE price < 100"),
    ("group by 10^3", "SELECT g3, count(*), sum(price) FROM f GROUP BY g3 ORDER BY g3"),
    (
        "group by 10^6",
        "SELECT count(*), max(n), min(s) FROM (SELECT g6, count(*) AS n, sum(price) AS s FROM f GROUP BY g6) AS q",
    ),
    ("top 10", "SELECT id, price FROM f ORDER BY price DESC, id LIMIT 10"),
    (
        "join with 10^6",
        "SELECT class, count(*), sum(price) FROM f JOIN d ON f.g6 = d.id GROUP BY class ORDER BY class",
    ),
];

fn main() -> Result<()> {
    let rows = setting("ROWS", 10_000_000);
    let ours = Tidewater::start(None, &[])?;
    let wire = Wire::connect(ours.port)?;
    let duckdb = start_peer(Engine::DuckDb, "range(0", "//", [rows, 1_000_000])?;
    let datafusion = start_peer(Engine::DataFusion, "generate_series(0", "/", [rows - 1, 999_999])?;
    let mut peers = [("DuckDB", duckdb), ("DataFusion", datafusion)];
    wire.run("CREATE TABLE f (id BIGINT PRIMARY KEY, g3 BIGINT, g6 BIGINT, price BIGINT, x DOUBLE PRECISION)")?;
    wire.run("CREATE TABLE d (id BIGINT PRIMARY KEY, class BIGINT)")?;
    let last = rows - 1;
    let g6 = scrambled("/");
    wire.run(&format!(
        "INSERT INTO f SELECT v, v % 1000, {g6}, (v * 31) % 10000, (v % 1000) / 4.0::DOUBLE PRECISION \
         FROM generate_series(0, {last}) AS g(v)"
    ))?;
    wire.run("INSERT INTO d SELECT v, v % 10 FROM generate_series(0, 999999) AS g(v)")?;
    report::head(&format!(
        "scans: {rows} rows in memory, 2 threads, DuckDB {}, DataFusion {}",
        peers[0].1.version, peers[1].1.version
    ));
    for (name, sql) in QUERIES {
        let (mut mine, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
        let cpu = ours.cpu_seconds()?;
        for round in 0..ROUNDS {
            let (answer, elapsed) = wire.rows(sql)?;
            if round > 0 {
                mine.push(elapsed.as_secs_f64() * 1000.0);
            }
            for ((_, peer), times) in peers.iter_mut().zip(&mut theirs) {
                let (peer_ms, peer_answer) = peer.query(sql)?;
                match round {
                    0 => compare(name, &answer, &peer_answer),
                    _ => times.push(peer_ms),
                }
            }
        }
        let [duckdb, datafusion] = theirs.map(median);
        let (better, whose) = if duckdb <= datafusion { (duckdb, 0) } else { (datafusion, 1) };
        report::line(&Line {
            work: name.to_owned(),
            ours: median(mine),
            peer: Some((better, peers[whose].0.to_owned())),
            unit: "ms",
            is_less_better: true,
            cpu_seconds: (ours.cpu_seconds()? - cpu) / ROUNDS as f64,
            rss_bytes: ours.rss_bytes()?,
        });
        report::remark(&format!("DuckDB {duckdb:.1} ms, DataFusion {datafusion:.1} ms"));
    }
    Ok(())
}

/// About 10⁶ groups in no order that an engine could profit from: the cube modulo a prime ≡ 2 (mod 3)
/// permutes its residues, and each round of them starts somewhere else. `divide` divides integers.
fn scrambled(divide: &str) -> String {
    let residue = "(v % 999983)";
    format!("({residue} * {residue} % 999983 * {residue} + (v {divide} 999983) * 362437) % 999983")
}

/// An engine with the same two tables; `numbers` begins its call of a table of numbers, `ends` are its
/// ends for both.
fn start_peer(engine: Engine, numbers: &str, divide: &str, ends: [u64; 2]) -> Result<Peer> {
    let mut peer = Peer::start(engine)?;
    let g6 = scrambled(divide);
    peer.query(&format!(
        "CREATE TABLE f AS SELECT v AS id, v % 1000 AS g3, {g6} AS g6, \
         (v * 31) % 10000 AS price, (v % 1000) / CAST(4.0 AS DOUBLE) AS x FROM {numbers}, {}) r(v)",
        ends[0]
    ))?;
    peer.query(&format!(
        "CREATE TABLE d AS SELECT v AS id, v % 10 AS class FROM {numbers}, {}) r(v)",
        ends[1]
    ))?;
    Ok(peer)
}

/// Both answers as numbers, value by value; the peer prints its first 20 rows as JSON.
fn compare(name: &str, ours: &[Vec<String>], peer: &str) {
    let numbers = |text: &str| -> Vec<f64> {
        let words = text.split(['[', ']', ',', '"', ' ']).filter(|word| !word.is_empty());
        words.map(|word| word.parse().unwrap_or(f64::NAN)).collect()
    };
    let mine: Vec<f64> = ours.iter().take(20).flatten().flat_map(|value| numbers(value)).collect();
    let theirs = numbers(peer);
    let is_equal = mine.len() == theirs.len()
        && mine.iter().zip(&theirs).all(|(a, b)| (a - b).abs() <= 1e-9 * b.abs().max(1.0));
    assert!(is_equal, "{name}: {mine:?} is not {theirs:?}");
}
