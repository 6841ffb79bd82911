//! What exactly once costs a sink: upserts published by the batch and committed by a snapshot,
//! beside the same upserts committed by the batch. 10⁶ rows of 88 bytes between two snapshots,
//! to 10⁶ keys once and to 10⁴ keys a hundred times. Run with `--release`; it prints and asserts
//! nothing, since the answer is the machine's.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use tidewater_storage::{
    Datum, Grid, GridConfig, Result, Table,
    cluster::control::{ObjectId, TableRecord},
    data_log::JobRun,
    env::Env,
    table::{ReadMode, WriteMode},
};

const ROWS: i64 = 1_000_000;
const BATCH_ROWS: i64 = 8192;
const GETS: i64 = 200_000;
const COLUMNS: usize = 11;

fn main() -> Result<()> {
    for key_count in [ROWS, 10_000] {
        println!("{ROWS} upserts of {key_count} keys");
        let grid = Grid::open(GridConfig::default(), Env::real())?;
        let fields = (0..COLUMNS).map(|n| Field::new(format!("c{n}"), DataType::Int64, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let table = grid.create_table(TableRecord::new("costs", Arc::clone(&schema), &[0]))?;
        let batches = batches(&schema, key_count)?;
        // The first round inserts, the others replace.
        for round in 0..2 {
            timed(&grid, &format!("committed each, round {round}"), ROWS, || {
                for batch in &batches {
                    let writer = grid.begin();
                    table.write_batch(&writer, WriteMode::Upsert, batch)?;
                    writer.commit()?;
                }
                Ok(())
            })?;
        }
        costs_of_a_job(&grid, &table, &batches, key_count)?;
    }
    Ok(())
}

fn costs_of_a_job(
    grid: &Grid,
    table: &Table,
    batches: &[RecordBatch],
    key_count: i64,
) -> Result<()> {
    let job = grid.job_writers("costs", JobRun { job: ObjectId(1), execution: 1 });
    let publish = |after| {
        batches.iter().try_for_each(|batch| {
            let writer = job.begin(after);
            table.write_batch(&writer, WriteMode::Upsert, batch)?;
            job.publish(writer)
        })
    };
    let get = |mode| {
        let keys = (0..GETS).map(|number| number.wrapping_mul(7_919_317) % key_count);
        keys.into_iter()
            .try_for_each(|key| table.get_newest(&[Datum::Int(key)], &[1], mode).map(drop))
    };
    timed(grid, "get before", GETS, || get(ReadMode::Durable))?;
    timed(grid, "published", ROWS, || publish(0))?;
    bytes(table);
    timed(grid, "get provisional", GETS, || get(ReadMode::Provisional))?;
    timed(grid, "get durable", GETS, || get(ReadMode::Durable))?;
    timed(grid, "count", 1, || {
        table.stats();
        Ok(())
    })?;
    timed(grid, "committed by a snapshot", ROWS, || job.commit(1))?;
    bytes(table);
    timed(grid, "get after", GETS, || get(ReadMode::Durable))?;
    timed(grid, "published again", ROWS, || publish(1))?;
    timed(grid, "aborted", ROWS, || {
        job.abort();
        Ok(())
    })?;
    bytes(table);
    Ok(())
}

fn batches(schema: &SchemaRef, key_count: i64) -> Result<Vec<RecordBatch>> {
    let firsts = (0..ROWS).step_by(BATCH_ROWS as usize);
    firsts
        .map(|first| {
            let rows = first..(first + BATCH_ROWS).min(ROWS);
            let keys = rows.map(|row| row % key_count);
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
            Ok(RecordBatch::try_new(Arc::clone(schema), vec![column; COLUMNS])?)
        })
        .collect()
}

fn bytes(table: &Table) {
    let stats = table.stats();
    println!("{:<28} {:>8} kB, {} rows", "", stats.bytes / 1000, stats.rows);
}

fn timed(grid: &Grid, name: &str, count: i64, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let clock = &grid.env().clock;
    let start = clock.monotonic_nanos();
    run()?;
    let nanos = (clock.monotonic_nanos() - start) as f64 / count as f64;
    println!("{name:<28} {nanos:>8.0} ns each");
    Ok(())
}
