//! Get and upsert by key over the wire, beside PostgreSQL with `synchronous_commit = off`.
//! Uniform keys over a table of 10⁶ rows of 100 B; server on core 0, clients on core 1.

use tidewater_bench::{
    Result, median, pgbench,
    postgres::Postgres,
    report::{self, Line},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};

/// Rounds of each side; interleaved.
const ROUNDS: u64 = 3;

fn main() -> Result<()> {
    let rows = setting("ROWS", 1_000_000);
    let seconds = setting("SECONDS", 4);
    let ours = Tidewater::start(Some(0), &["--workers", "1"])?;
    let peer = Postgres::start(Some(0))?;
    let wire = Wire::connect(ours.port)?;
    let peer_wire = Wire::connect(peer.port)?;
    let fill = format!(
        "INSERT INTO t SELECT v, repeat('x', 84) FROM generate_series(0, {}) AS g(v)",
        rows - 1
    );
    wire.run("CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT)")?;
    peer_wire.run("CREATE UNLOGGED TABLE t (k BIGINT PRIMARY KEY, v TEXT)")?;
    wire.run(&fill)?;
    peer_wire.run(&fill)?;
    peer_wire.run("VACUUM ANALYZE t")?;
    for check in ["SELECT count(*) FROM t", "SELECT v FROM t WHERE k = 7"] {
        assert_eq!(wire.value(check)?, peer_wire.value(check)?, "{check}");
    }
    let pick = format!("\\set k random(0, {})\n", rows - 1);
    let get = format!("{pick}SELECT v FROM t WHERE k = :k;\n");
    let value = "y".repeat(84);
    let put = format!(
        "{pick}INSERT INTO t (k, v) VALUES (:k, '{value}') ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v;\n"
    );
    report::head(&format!(
        "point rows: {rows} rows of 100 B, {ROUNDS} rounds of {seconds} s, PostgreSQL 15"
    ));
    for (work, script) in [("get", &get), ("upsert", &put)] {
        for mode in ["prepared", "simple"] {
            for clients in [8, 64] {
                let run = |port| {
                    pgbench::tps(&pgbench::Run {
                        port,
                        script,
                        mode,
                        clients,
                        seconds,
                        core: Some(1),
                    })
                };
                let (mut mine, mut theirs) = (Vec::new(), Vec::new());
                let cpu = ours.cpu_seconds()?;
                for _ in 0..ROUNDS {
                    mine.push(run(ours.port)?);
                    theirs.push(run(peer.port)?);
                }
                report::line(&Line {
                    work: format!("{work}, {mode}, {clients} connections"),
                    ours: median(mine),
                    peer: Some((median(theirs), "PostgreSQL".to_owned())),
                    unit: "per second",
                    is_less_better: false,
                    cpu_seconds: ours.cpu_seconds()? - cpu,
                    rss_bytes: ours.rss_bytes()?,
                });
            }
        }
    }
    Ok(())
}
