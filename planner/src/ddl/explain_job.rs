//! `EXPLAIN ANALYZE JOB`: the dag of a running job, and below each vertex what it does right now.
//! Rows a second and the busy share are those of the last whole second; everything else is of the
//! moment, and all of it counts from the start of the present execution.

use runtime::{encode::text, execution::VertexStats, job::JobOptions};
use storage::cluster::control::JobStatus;

use super::{
    job::{plan_again, with_cause},
    text_rows,
};
use crate::{Error, Plan, Result, context::Context, explain};

/// Answers EXPLAIN ANALYZE JOB.
pub fn explain(context: &Context, name: &str) -> Result<Plan> {
    let grid = &context.parts.grid;
    let state = grid.control().state();
    let Some(job) = state.job(name) else {
        return Err(Error::new("42704", format!("job \"{name}\" does not exist")));
    };
    if job.status != JobStatus::Running {
        let status = job.status.word();
        let message =
            format!("job \"{name}\" is {status}, and only a running one can be explained");
        return Err(with_cause(Error::new("55000", message), job));
    }
    let (vertices, _) = context.parts.jobs.stats(job.id);
    let guarantee = JobOptions::read(&job.options)?.guarantee.word();
    let restarts = job.restarts;
    let mut lines = vec![format!("Job \"{name}\": guarantee {guarantee}, restarts {restarts}")];
    let now = grid.env().clock.now_micros();
    lines.extend(explain::annotated(&plan_again(context, job)?, |vertex, ends| {
        let stats = vertices.iter().find(|stats| stats.vertex == vertex)?;
        Some(note(stats, ends, now))
    }));
    text_rows("QUERY PLAN", lines, "EXPLAIN")
}

/// What a vertex does, in one line.
fn note(stats: &VertexStats, ends: explain::Ends, now: i64) -> String {
    let VertexStats { parallelism, rows_in, rows_out, rows_in_per_s, rows_out_per_s, .. } = stats;
    let mut parts = vec![match parallelism {
        1 => "1 instance".to_owned(),
        count => format!("{count} instances"),
    }];
    if !ends.is_source {
        parts.push(format!("in {rows_in} rows ({rows_in_per_s}/s)"));
    }
    if !ends.is_sink {
        parts.push(format!("out {rows_out} rows ({rows_out_per_s}/s)"));
    }
    if !ends.is_source {
        parts.push(format!("queues {} full", percent(stats.queue_fill)));
    }
    parts.push(format!("busy {}", percent(stats.busy)));
    parts.push(format!("state {} bytes", stats.state_bytes));
    if let Some(watermark) = stats.watermark {
        parts.push(watermark_text(watermark, now));
    }
    parts.join(", ")
}

/// Parts of 1000.
fn percent(thousandths: u32) -> String {
    format!("{} %", (thousandths + 5) / 10)
}

/// A watermark, and how far it is from the clock.
fn watermark_text(watermark: i64, now: i64) -> String {
    let mut shown = Vec::new();
    let is_in_range = text::timestamp(watermark, true, &mut shown).is_ok();
    let shown = String::from_utf8_lossy(&shown);
    // Event time may be a number of the user's that is no time at all.
    if !is_in_range {
        return format!("watermark {watermark}");
    }
    let distance = i128::from(now) - i128::from(watermark);
    let seconds = distance.unsigned_abs() as f64 / 1e6;
    let side = if distance < 0 { "ahead of" } else { "behind" };
    format!("watermark {shown} ({seconds:.1} s {side} the clock)")
}

#[cfg(test)]
mod tests {
    use runtime::time::EventTime;

    use super::*;

    fn stats(watermark: Option<EventTime>) -> VertexStats {
        VertexStats {
            vertex: "v".to_owned(),
            description: String::new(),
            parallelism: 2,
            rows_in: 30,
            rows_out: 20,
            rows_in_per_s: 3,
            rows_out_per_s: 2,
            queue_fill: 126,
            busy: 4,
            longest_call_nanos: 0,
            longest_save_nanos: 0,
            state_bytes: 512,
            watermark,
        }
    }

    #[test]
    fn a_vertex_is_told_in_one_line() {
        let ends = |is_source, is_sink| explain::Ends { is_source, is_sink };
        let now = 1_767_225_602_500_000;
        assert_eq!(
            note(&stats(Some(1_767_225_600_000_000)), ends(false, false), now),
            "2 instances, in 30 rows (3/s), out 20 rows (2/s), queues 13 % full, busy 0 %, \
             state 512 bytes, watermark 2026-01-01T00:00:00Z (2.5 s behind the clock)"
        );
        assert_eq!(
            note(&stats(None), ends(true, false), now),
            "2 instances, out 20 rows (2/s), busy 0 %, state 512 bytes"
        );
        let ahead = note(&stats(Some(now + 60_000_000)), ends(false, true), now);
        assert!(ahead.contains("in 30 rows") && !ahead.contains("out"), "{ahead}");
        assert!(ahead.ends_with("(60.0 s ahead of the clock)"), "{ahead}");
        let number = note(&stats(Some(i64::MAX)), ends(true, false), now);
        assert!(number.ends_with(&format!("watermark {}", i64::MAX)), "{number}");
    }
}
