//! From exec to the first answer, from a streaming SELECT to its first row, from CREATE JOB to the
//! first row in its table. Hazelcast is not run: its figures are quoted.

use std::time::Duration;

use tidewater_bench::{
    Result, median, now,
    report::{self, Line},
    tidewater::Tidewater,
    wire::Wire,
};

const ROUNDS: usize = 5;

fn main() -> Result<()> {
    report::head("start: milliseconds, median of 5");
    let (mut first_answer, mut first_row, mut first_table_row) =
        (Vec::new(), Vec::new(), Vec::new());
    let (mut cpu, mut rss) = (0.0, 0);
    for _ in 0..ROUNDS {
        let begin = now();
        let ours = Tidewater::start(None, &[])?;
        let wire = Wire::connect(ours.port)?;
        wire.value("SELECT 1")?;
        first_answer.push(begin.elapsed().as_secs_f64() * 1000.0);
        wire.run(
            "CREATE MAPPING ticks TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10000')",
        )?;
        wire.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)")?;
        let (_, elapsed) = wire.rows("SELECT id FROM ticks LIMIT 1")?;
        first_row.push(elapsed.as_secs_f64() * 1000.0);
        let begin = now();
        wire.run("CREATE JOB fill AS SINK INTO t SELECT id, v FROM ticks WHERE id >= 0")?;
        wire.until_true("SELECT count(*) = 1 FROM t WHERE id = 1", Duration::from_secs(10))?;
        first_table_row.push(begin.elapsed().as_secs_f64() * 1000.0);
        wire.run("DROP JOB fill")?;
        (cpu, rss) = (ours.cpu_seconds()?, ours.rss_bytes()?);
    }
    let line = |work: &str, values: Vec<f64>, peer: f64| {
        report::line(&Line {
            work: work.to_owned(),
            ours: median(values),
            peer: Some((peer, "Hazelcast, not run".to_owned())),
            unit: "ms",
            is_less_better: true,
            cpu_seconds: cpu,
            rss_bytes: rss,
        });
    };
    line("exec to the first answer", first_answer, 4400.0);
    line("streaming SELECT to its first row", first_row, 107.0);
    line("CREATE JOB to the first row by key", first_table_row, 11.0);
    Ok(())
}
