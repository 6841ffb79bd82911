//! What rows cost: time of writes, reads and scans, and bytes a row, at 10⁶ rows of 88 bytes.
//! Run with `--release`; it prints and asserts nothing, since the answer is the machine's.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use tidewater_storage::{
    Datum, Grid, GridConfig, Result, Table,
    cluster::control::TableRecord,
    env::Env,
    table::{KeyedWrite, WriteMode},
};

const ROWS: i64 = 1_000_000;
const BATCH_ROWS: i64 = 8192;
const KEYED: i64 = 500_000;
const COLUMNS: usize = 11;

fn main() -> Result<()> {
    let grid = Grid::open(GridConfig::default(), Env::real())?;
    let fields = (0..COLUMNS).map(|column| Field::new(format!("c{column}"), DataType::Int64, true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let table = grid.create_table(TableRecord::new("costs", Arc::clone(&schema), &[0]))?;
    let batches = batches(&schema)?;
    for mode in [WriteMode::Insert, WriteMode::Upsert] {
        timed(&grid, &format!("{mode:?} by the batch"), ROWS, || {
            for batch in &batches {
                let writer = grid.begin();
                table.write_batch(&writer, mode, batch)?;
                writer.commit()?;
            }
            Ok(())
        })?;
        let stats = table.stats();
        println!("{:<24} {:>8.1} bytes a row", "", stats.bytes as f64 / stats.rows as f64);
    }
    timed(&grid, "scan of all columns", ROWS, || scan(&grid, &table, None))?;
    timed(&grid, "scan of one column", ROWS, || scan(&grid, &table, Some(&[1])))?;
    timed(&grid, "get by key", KEYED, || {
        keys().try_for_each(|key| table.get(&[Datum::Int(key)], &[1], None).map(drop))
    })?;
    timed(&grid, "upsert by key", KEYED, || {
        keys().try_for_each(|key| {
            let mut row = vec![Datum::Int(1); COLUMNS];
            row[0] = Datum::Int(key);
            table.write(&KeyedWrite::Put { mode: WriteMode::Upsert, row }).map(drop)
        })
    })
}

/// Keys all over the table, in an order that no cache guesses.
fn keys() -> impl Iterator<Item = i64> {
    (0..KEYED).map(|number| number.wrapping_mul(7_919_317) % ROWS)
}

fn batches(schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let firsts = (0..ROWS).step_by(BATCH_ROWS as usize);
    firsts
        .map(|first| {
            let rows = first..(first + BATCH_ROWS).min(ROWS);
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(rows));
            Ok(RecordBatch::try_new(Arc::clone(schema), vec![column; COLUMNS])?)
        })
        .collect()
}

fn scan(grid: &Grid, table: &Table, projection: Option<&[usize]>) -> Result<()> {
    let lanes = table.scan(&grid.read_view(), projection, 1)?;
    lanes.into_iter().flatten().try_for_each(|batch| batch.map(drop))
}

fn timed(grid: &Grid, name: &str, count: i64, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let clock = &grid.env().clock;
    let start = clock.monotonic_nanos();
    run()?;
    let nanos = (clock.monotonic_nanos() - start) as f64 / count as f64;
    println!("{name:<24} {nanos:>8.0} ns each, {:>8.2} M/s", 1000.0 / nanos);
    Ok(())
}
