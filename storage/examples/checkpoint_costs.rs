//! What checkpoints cost: rows a second written and loaded, and bytes on disk beside those in memory,
//! for narrow and for 100-byte rows. Takes a folder to write to, the largest number of rows, and the
//! number of threads that load.
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

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().unwrap_or_else(|| "checkpoint-costs".to_owned());
    let rows_max: i64 = args.next().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let threads: usize = args.next().and_then(|threads| threads.parse().ok()).unwrap_or(2);
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    make_folder(&*disk, Path::new(&folder))?;
    println!("{:<7} {:>9} {:>24} {:>24} {:>12}", "rows", "", "written", "loaded", "disk/memory");
    for width in [0, 80] {
        let mut rows = 100_000;
        while rows <= rows_max {
            measure(&disk, Path::new(&folder), (rows, width), threads)?;
            rows *= 10;
        }
    }
    Ok(())
}

/// Writes a table's checkpoint and loads it into another grid.
fn measure(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    (rows, width): (i64, usize),
    threads: usize,
) -> Result<()> {
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
    let timed = |run: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        let start = clock.monotonic_nanos();
        run()?;
        Ok((clock.monotonic_nanos() - start) as f64 / 1e9)
    };
    let view = grid.read_view().in_mode(ReadMode::Durable);
    let mut bytes = 0;
    let write = timed(&mut || {
        bytes = store.write(&table, &view, &Position::default())?.bytes;
        Ok(())
    })?;
    let other = Grid::open(GridConfig::default(), Env::real())?;
    let loaded = create(&other, width)?;
    let tables = [Arc::clone(&loaded)];
    let load = timed(&mut || store.load(&tables, threads).remove(0).map(drop))?;
    assert_eq!(loaded.stats().rows, rows as u64, "all rows are there");
    let rate = |seconds: f64| {
        let (rows, gigabytes) = (rows as f64 / seconds / 1e6, bytes as f64 / seconds / 1e9);
        format!("{seconds:>7.3} s {rows:>6.1} M/s {gigabytes:>4.2} GB/s")
    };
    let kind = if width == 0 { "narrow" } else { "wide" };
    let share = bytes as f64 / memory as f64;
    let after = loaded.stats().bytes as f64 / memory as f64;
    println!("{kind:<7} {rows:>9} {} {} {share:>6.2} {after:>6.2}", rate(write), rate(load));
    store.remove(table.record().id)
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
