//! What checkpoints cost: rows a second written and loaded, how both grow with the rows, and bytes on
//! disk and in memory after loading beside those in memory before, for narrow and for 100-byte rows.
//! Takes a folder to write to, the largest number of rows, and the number of threads that load; each
//! time is the median of three.
//! Run with `--release`; it prints and asserts nothing, since the answer is the machine's.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use tidewater_storage::{
    Grid, GridConfig, Result, Table,
    checkpoint::{CheckpointStore, Position},
    cluster::control::TableRecord,
    env::{Disk, Env, SystemDisk, disk::make_folder},
    table::{ReadMode, WriteMode},
};

const BATCH_ROWS: i64 = 8192;
const TIMES: usize = 3;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().unwrap_or_else(|| "checkpoint-costs".to_owned());
    let rows_max: i64 = args.next().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let threads: usize = args.next().and_then(|threads| threads.parse().ok()).unwrap_or(2);
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    make_folder(&*disk, Path::new(&folder))?;
    println!(
        "{:<16} {:>30} {:>30} {:>14}",
        "rows", "written, exponent", "loaded, exponent", "disk, memory"
    );
    for width in [0, 80] {
        let (mut rows, mut before) = (100_000, None);
        while rows <= rows_max {
            let costs = measure(&disk, Path::new(&folder), (rows, width), threads)?;
            print(rows, width, &costs, before.as_ref());
            before = Some(costs);
            rows *= 10;
        }
    }
    Ok(())
}

/// What one table costs.
struct Costs {
    /// Seconds.
    write: f64,
    load: f64,
    /// Bytes.
    disk: u64,
    memory: u64,
    memory_loaded: u64,
}

fn print(rows: i64, width: usize, costs: &Costs, before: Option<&Costs>) {
    let kind = if width == 0 { "narrow" } else { "wide" };
    let cost = |seconds: f64, before: Option<f64>| {
        let rate = rows as f64 / seconds / 1e6;
        let gigabytes = costs.disk as f64 / seconds / 1e9;
        // Of ten times the rows.
        let growth =
            before.map_or(String::new(), |before| format!("{:.2}", (seconds / before).log10()));
        format!("{seconds:>7.3} s {rate:>5.1} M/s {gigabytes:>4.2} GB/s {growth:>5}")
    };
    let write = cost(costs.write, before.map(|before| before.write));
    let load = cost(costs.load, before.map(|before| before.load));
    let share = |bytes: u64| bytes as f64 / costs.memory as f64;
    let (disk, memory) = (share(costs.disk), share(costs.memory_loaded));
    println!("{kind:<7} {rows:>8} {write} {load} {disk:>6.2} {memory:>6.2}");
}

/// Writes a table's checkpoint and loads it into another grid.
fn measure(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    (rows, width): (i64, usize),
    threads: usize,
) -> Result<Costs> {
    let store = CheckpointStore::new(disk, folder, 1);
    let grid = Grid::open(GridConfig::default(), Env::real())?;
    let table = create(&grid, width)?;
    let schema = Arc::clone(table.schema());
    for first in (0..rows).step_by(BATCH_ROWS as usize) {
        let writer = grid.begin();
        let batch = batch(&schema, first..(first + BATCH_ROWS).min(rows))?;
        table.write_batch(&writer, WriteMode::Insert, &batch)?;
        writer.commit()?;
    }
    table.tidy()?;
    let memory = table.stats().bytes;
    let clock = &grid.env().clock;
    let view = grid.read_view().in_mode(ReadMode::Durable);
    let (mut writes, mut loads, mut written, mut memory_loaded) = (vec![], vec![], 0, 0);
    for _ in 0..TIMES {
        let start = clock.monotonic_nanos();
        written = store.write(&table, &view, &Position::default(), || Ok(()))?.bytes;
        writes.push(clock.monotonic_nanos() - start);
        let other = Grid::open(GridConfig::default(), Env::real())?;
        let tables = [create(&other, width)?];
        let start = clock.monotonic_nanos();
        store.load(&tables, threads).remove(0)?;
        loads.push(clock.monotonic_nanos() - start);
        let stats = tables[0].stats();
        assert_eq!(stats.rows, rows as u64, "all rows are there");
        memory_loaded = stats.bytes;
    }
    store.remove(table.record().id)?;
    let (write, load) = (median(writes), median(loads));
    Ok(Costs { write, load, disk: written, memory, memory_loaded })
}

/// In seconds.
fn median(mut nanos: Vec<u64>) -> f64 {
    nanos.sort_unstable();
    nanos[nanos.len() / 2] as f64 / 1e9
}

/// A table of a key, a number and, if it is to be wide, so many bytes of text.
fn create(grid: &Grid, width: usize) -> Result<Arc<Table>> {
    let mut fields =
        vec![Field::new("k", DataType::Int64, false), Field::new("v", DataType::Int64, true)];
    if width > 0 {
        fields.push(Field::new("t", DataType::Utf8, true));
    }
    grid.create_table(TableRecord::new("rows", Arc::new(Schema::new(fields)), &[0]))
}

fn batch(schema: &SchemaRef, rows: std::ops::Range<i64>) -> Result<RecordBatch> {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone()));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row * 7)));
    let texts: ArrayRef =
        Arc::new(StringArray::from_iter_values(rows.map(|row| format!("{row:080}"))));
    let columns = [keys, values, texts].into_iter().take(schema.fields().len());
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect())?)
}
