//! Checkpoints are loaded as they were written, whatever columns, writers and readers there are.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::{
    array::{Array, ArrayRef, Int64Array, ListArray, MapBuilder, StringBuilder, StructArray},
    datatypes::{DataType, Field, Fields, Int32Type, IntervalUnit, Schema, TimeUnit},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    Datum, Error, Grid, GridConfig, Row, Table,
    cluster::control::TableRecord,
    datum::{array_of, batch_of, datum_at},
    env::{Env, SimDisk},
    log::Lsn,
    table::{KeyedWrite, ReadMode, ReadView, WriteMode},
};

mod crashes;
mod damage;

const FOLDER: &str = "/tables";
const CLUSTER: u64 = 0xC0FFEE;

/// A grid with one table, whose id is the same in every grid.
struct Site {
    grid: Arc<Grid>,
    table: Arc<Table>,
}

impl Site {
    /// A table of a key and a text.
    fn new() -> Self {
        let fields =
            vec![Field::new("k", DataType::Int64, false), Field::new("v", DataType::Utf8, true)];
        Self::of(fields, &[0], GridConfig::default())
    }

    fn of(fields: Vec<Field>, key: &[usize], config: GridConfig) -> Self {
        let config = GridConfig { partition_count: 8, ..config };
        let grid = Grid::open(config, Env::simulated(1).0).unwrap();
        let record = TableRecord::new("t", Arc::new(Schema::new(fields)), key);
        let table = grid.create_table(record).unwrap();
        Self { grid, table }
    }

    /// One with keys `0..count` and a text of so many bytes that is `seed`'s.
    fn with_rows(count: i64, bytes: usize, seed: u64) -> Self {
        let site = Self::new();
        site.fill(count, bytes, seed);
        site
    }

    fn fill(&self, count: i64, bytes: usize, seed: u64) {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut text = || (0..bytes).map(|_| random.random_range('a'..='z')).collect();
        let row = |key| vec![Datum::Int(key), Datum::Text(text())];
        let rows: Vec<Row> = (0..count).map(row).collect();
        let batch = batch_of(&rows, self.table.schema()).unwrap();
        let writer = self.grid.begin();
        self.table.write_batch(&writer, WriteMode::Upsert, &batch).unwrap();
        writer.commit().unwrap();
    }

    fn view(&self) -> ReadView {
        self.grid.read_view().in_mode(ReadMode::Durable)
    }

    fn rows(&self) -> BTreeMap<String, Row> {
        self.rows_of(&self.view())
    }

    /// What a view sees, by the key as text.
    fn rows_of(&self, view: &ReadView) -> BTreeMap<String, Row> {
        let mut rows = BTreeMap::new();
        let key = &self.table.record().key;
        for batch in self.table.scan(view, None, 1).unwrap().into_iter().flatten() {
            let batch = batch.unwrap();
            for at in 0..batch.num_rows() {
                let columns = batch.columns().iter();
                let row: Row = columns.map(|column| datum_at(column, at).unwrap()).collect();
                let key: Vec<_> = key.iter().map(|key| row[*key].clone()).collect();
                let twice = rows.insert(format!("{key:?}"), row);
                assert_eq!(twice, None, "key {key:?} came twice");
            }
        }
        rows
    }

    fn write(&self, store: &CheckpointStore) -> Result<Written> {
        store.write(&self.table, &self.view(), &position(7), || Ok(()))
    }

    /// Loads into this table, with two threads.
    fn load(&self, store: &CheckpointStore) -> Result<Option<Loaded>> {
        store.load(&[Arc::clone(&self.table)], 2).remove(0)
    }
}

fn position(lsn: u64) -> Position {
    Position { lsn: Lsn(lsn), undecided: vec![(Lsn(3), 3), (Lsn(4), 5)] }
}

fn sim_disk(seed: u64) -> (Arc<SimDisk>, CheckpointStore) {
    let disk = SimDisk::new(seed, [FOLDER]);
    let store = store_on(&disk, CLUSTER);
    (disk, store)
}

fn store_on(disk: &Arc<SimDisk>, cluster: u64) -> CheckpointStore {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    CheckpointStore::new(&disk, Path::new(FOLDER), cluster)
}

/// Files of rows of the only table, by name.
fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let folder = folder(disk);
    let entries = disk.list(&folder).unwrap();
    let names = entries.iter().map(|entry| entry.name.to_str().unwrap());
    let mut names: Vec<_> = names.filter(|name| frame::number_of(name).is_some()).collect();
    names.sort_unstable();
    names.into_iter().map(|name| folder.join(name)).collect()
}

fn folder(disk: &SimDisk) -> PathBuf {
    let entries = disk.list(Path::new(FOLDER)).unwrap();
    assert_eq!(entries.len(), 1, "{entries:?}");
    Path::new(FOLDER).join(&entries[0].name)
}

#[test]
fn rows_of_all_types_come_back_as_they_were() {
    for simulated_owners in [1, 3] {
        let config = GridConfig { simulated_owners, ..GridConfig::default() };
        let site = Site::of(all_types(), &[0], config.clone());
        let columns: Vec<ArrayRef> = site.table.schema().fields().iter().map(values_of).collect();
        let schema = Arc::clone(site.table.schema());
        let batch = arrow::array::RecordBatch::try_new(schema, columns).unwrap();
        let writer = site.grid.begin();
        site.table.write_batch(&writer, WriteMode::Insert, &batch).unwrap();
        writer.commit().unwrap();
        let (_, store) = sim_disk(1);
        assert_eq!(site.write(&store).unwrap().rows, 40);
        let other = Site::of(all_types(), &[0], config);
        let loaded = other.load(&store).unwrap().unwrap();
        assert_eq!((loaded.position, loaded.rows), (position(7), 40));
        assert_eq!(other.rows(), site.rows());
        assert_eq!(other.rows().len(), 40);
    }
}

/// One column of every type that a table may have, the first one being the key.
fn all_types() -> Vec<Field> {
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let parts = Fields::from(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let types = [
        DataType::Utf8,
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(20, 3),
        DataType::Date32,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Binary,
        DataType::FixedSizeBinary(16),
        DataType::List(item),
        DataType::Struct(parts),
        map_of_texts().data_type().clone(),
    ];
    let fields = types.into_iter().enumerate();
    fields
        .map(|(number, data_type)| Field::new(format!("c{number}"), data_type, number > 0))
        .collect()
}

/// Forty values of a column, every third of them null but in the key.
fn values_of(field: &Arc<Field>) -> ArrayRef {
    let is_key = !field.is_nullable();
    let value = |row: i64| match field.data_type() {
        _ if row % 3 == 1 && !is_key => Datum::Null,
        DataType::Boolean => Datum::Bool(row % 2 == 0),
        DataType::Float32 | DataType::Float64 => Datum::Float(row as f64 / 4.0),
        DataType::Decimal128(..) => Datum::Decimal(i128::from(row) << 60),
        DataType::Interval(_) => Datum::Interval(row as i32, -row as i32, row),
        DataType::Utf8 => Datum::Text(format!("höhe {row}")),
        DataType::Binary => Datum::Bytes(vec![row as u8; row as usize]),
        DataType::FixedSizeBinary(_) => Datum::Bytes(vec![row as u8; 16]),
        _ => Datum::Int(row),
    };
    match field.data_type() {
        DataType::List(_) => {
            let list = |row: i32| (row % 3 != 1).then(|| vec![Some(row), None]);
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>((0..40).map(list)))
        }
        DataType::Struct(fields) => {
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..40));
            let texts = array_of(
                &(0..40).map(|row| Datum::Text(row.to_string())).collect::<Vec<_>>(),
                &DataType::Utf8,
            );
            let nulls = (0..40).map(|row| row % 3 != 1).collect::<Vec<_>>().into();
            Arc::new(StructArray::new(fields.clone(), vec![numbers, texts.unwrap()], Some(nulls)))
        }
        DataType::Map(..) => map_of_texts(),
        data_type => array_of(&(0..40).map(value).collect::<Vec<_>>(), data_type).unwrap(),
    }
}

fn map_of_texts() -> ArrayRef {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..40 {
        for entry in 0..row % 4 {
            maps.keys().append_value(format!("k{entry}"));
            maps.values().append_option((entry > 0).then(|| row.to_string()));
        }
        maps.append(row % 3 != 1).unwrap();
    }
    Arc::new(maps.finish())
}

#[test]
fn a_checkpoint_has_what_its_view_sees_while_writers_go_on() {
    for seed in 0..12 {
        let site = Site::with_rows(0, 0, 0);
        let (_, store) = sim_disk(seed);
        let mut random = SmallRng::seed_from_u64(seed);
        let mut model = BTreeMap::new();
        for _ in 0..40 {
            change(&site, &mut random, &mut model);
        }
        // What is not committed is not in it.
        let pending = site.grid.begin();
        let batch = batch_of(&[vec![Datum::Int(5000), Datum::Null]], site.table.schema()).unwrap();
        site.table.write_batch(&pending, WriteMode::Upsert, &batch).unwrap();
        let (view, expected) = (site.view(), model.clone());
        let is_done = AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut model = model;
                while !is_done.load(Ordering::SeqCst) {
                    change(&site, &mut random, &mut model);
                }
            });
            let written: Vec<_> = (0..3)
                .map(|_| store.write(&site.table, &view, &position(9), || Ok(())).unwrap())
                .collect();
            is_done.store(true, Ordering::SeqCst);
            writer.join().unwrap();
            written
        });
        pending.commit().unwrap();
        assert!(written.iter().all(|written| written.rows == expected.len() as u64));
        let other = Site::new();
        other.load(&store).unwrap().unwrap();
        let loaded = other.rows().into_values().map(|row| (format!("{:?}", row[0]), row));
        let expected = expected.into_values().map(|row| (format!("{:?}", row[0]), row));
        assert_eq!(loaded.collect::<BTreeMap<_, _>>(), expected.collect(), "seed {seed}");
    }
}

/// Some rows come, change or go, at once or under a writer, which may be aborted.
fn change(site: &Site, random: &mut SmallRng, model: &mut BTreeMap<i64, Row>) {
    let mut row = || {
        let key = random.random_range(0..1500);
        vec![Datum::Int(key), Datum::Text(random.random::<u64>().to_string())]
    };
    let key_of = |row: &Row| match row[0] {
        Datum::Int(key) => key,
        _ => panic!("{row:?}"),
    };
    let (first, rows) = (row(), (0..30).map(|_| row()).collect::<Vec<_>>());
    match random.random_range(0..5) {
        0 => {
            let key = vec![first[0].clone()];
            site.table.write(&KeyedWrite::Delete { key }).unwrap();
            model.remove(&key_of(&first));
        }
        1 => {
            let put = KeyedWrite::Put { mode: WriteMode::Upsert, row: first.clone() };
            site.table.write(&put).unwrap();
            model.insert(key_of(&first), first);
        }
        kind => {
            let writer = site.grid.begin();
            let batch = batch_of(&rows, site.table.schema()).unwrap();
            site.table.write_batch(&writer, WriteMode::Upsert, &batch).unwrap();
            if kind == 2 {
                writer.abort();
                return;
            }
            writer.commit().unwrap();
            model.extend(rows.into_iter().map(|row| (key_of(&row), row)));
        }
    }
}

#[test]
fn a_loaded_table_is_one_like_any_other() {
    let site = Site::with_rows(3000, 20, 1);
    let (_, store) = sim_disk(1);
    site.write(&store).unwrap();
    let other = Site::new();
    other.load(&store).unwrap();
    let before = other.view();
    assert_eq!(other.table.stats().rows, 3000);
    for key in 0..3000 {
        let put = |mode| KeyedWrite::Put { mode, row: vec![Datum::Int(key), Datum::Null] };
        let duplicate = other.table.write(&put(WriteMode::Insert));
        assert!(matches!(duplicate, Err(Error::DuplicateKey { .. })), "{duplicate:?}");
        if key % 2 == 0 {
            let delete = KeyedWrite::Delete { key: vec![Datum::Int(key)] };
            assert_eq!(other.table.write(&delete).unwrap(), 1);
        } else {
            assert_eq!(other.table.write(&put(WriteMode::Upsert)).unwrap(), 1);
        }
    }
    assert_eq!(other.rows_of(&before), site.rows());
    drop(before);
    other.table.tidy().unwrap();
    assert_eq!(other.table.stats().rows, 1500);
    // And its checkpoint is one like any other.
    other.write(&store).unwrap();
    let third = Site::new();
    third.load(&store).unwrap();
    assert_eq!(third.rows(), other.rows());
}

#[test]
fn large_rows_and_large_partitions_are_split_as_chunks_are() {
    let (_, store) = sim_disk(1);
    for (count, bytes) in [(20, 600_000), (140_000, 0)] {
        let site = Site::with_rows(count, bytes, 1);
        site.table.tidy().unwrap();
        let written = site.write(&store).unwrap();
        assert_eq!((written.rows, written.files > 1), (count as u64, true));
        let other = Site::new();
        other.load(&store).unwrap();
        assert_eq!(other.rows(), site.rows());
    }
}

#[test]
fn values_of_the_hidden_key_are_not_given_away_again() {
    let of = || Site::of(vec![Field::new("v", DataType::Int64, true)], &[], GridConfig::default());
    let (site, other, (_, store)) = (of(), of(), sim_disk(1));
    let put = |site: &Site, value| {
        let write = KeyedWrite::Put { mode: WriteMode::Insert, row: vec![Datum::Int(value)] };
        site.table.write(&write)
    };
    assert_eq!((0..50).map(|value| put(&site, value).unwrap()).sum::<u64>(), 50);
    // The last one given away is in no row any more.
    assert_eq!(site.table.write(&KeyedWrite::Delete { key: vec![Datum::Int(50)] }).unwrap(), 1);
    site.write(&store).unwrap();
    other.load(&store).unwrap();
    assert_eq!(other.rows(), site.rows());
    put(&other, 50).unwrap();
    let rows = other.rows();
    assert_eq!(rows.len(), 50);
    assert_eq!(rows["[Int(51)]"], [Datum::Int(50), Datum::Int(51)]);
}

#[test]
fn memory_of_loaded_rows_counts() {
    let site = Site::with_rows(5000, 50, 1);
    let (_, store) = sim_disk(1);
    site.write(&store).unwrap();
    let roomy = Site::new();
    roomy.load(&store).unwrap();
    let bytes = roomy.table.stats().bytes;
    assert!((5000 * 60..5000 * 120).contains(&bytes), "{bytes}");
    let fields: Vec<_> =
        site.table.schema().fields().iter().map(|field| (**field).clone()).collect();
    let config = GridConfig { table_memory_max: bytes as usize, ..GridConfig::default() };
    let tight = Site::of(fields, &[0], config);
    // Rows that are there are loaded; no more may come.
    tight.load(&store).unwrap();
    let put = KeyedWrite::Put { mode: WriteMode::Upsert, row: vec![Datum::Int(1), Datum::Null] };
    assert!(matches!(tight.table.write(&put), Err(Error::Limit(_))));
    tight.table.truncate().unwrap();
    assert_eq!(tight.table.write(&put).unwrap(), 1);
}

#[test]
fn tables_without_rows_or_without_a_checkpoint_are_told_apart() {
    let (site, (disk, store)) = (Site::new(), sim_disk(1));
    assert_eq!(site.load(&store).unwrap(), None);
    assert_eq!(store.tables().unwrap(), []);
    assert_eq!(site.write(&store).unwrap(), Written::default());
    assert_eq!(site.load(&store).unwrap().unwrap().position, position(7));
    let id = site.table.record().id;
    assert_eq!(store.tables().unwrap(), [id]);
    // A folder that is not ours is left alone.
    disk.create_folder(&Path::new(FOLDER).join("lost+found")).unwrap();
    assert_eq!(store.tables().unwrap(), [id]);
    site.fill(100, 10, 1);
    site.write(&store).unwrap();
    store.remove(id).unwrap();
    store.remove(id).unwrap();
    disk.crash();
    assert_eq!(store.tables().unwrap(), []);
    assert_eq!(Site::new().load(&store).unwrap(), None);
}

#[test]
fn several_tables_are_loaded_at_once_and_each_says_what_is_wrong_with_it() {
    let (disk, store) = sim_disk(1);
    let sites: Vec<_> = (0..2).map(|_| Site::new()).collect();
    let tables: Vec<Vec<_>> = sites
        .iter()
        .map(|site| {
            let create = |number| {
                let schema = Arc::clone(site.table.schema());
                let record = TableRecord::new(format!("more {number}"), schema, &[0]);
                site.grid.create_table(record).unwrap()
            };
            std::iter::once(Arc::clone(&site.table)).chain((0..3).map(create)).collect()
        })
        .collect();
    for (number, table) in (0..).zip(&tables[0]) {
        let rows: Vec<Row> =
            (0..500).map(|key| vec![Datum::Int(key), Datum::Text(format!("{number}"))]).collect();
        let writer = sites[0].grid.begin();
        let batch = batch_of(&rows, table.schema()).unwrap();
        table.write_batch(&writer, WriteMode::Insert, &batch).unwrap();
        writer.commit().unwrap();
        store.write(table, &sites[0].view(), &position(number), || Ok(())).unwrap();
    }
    let damaged = store.folder_of(tables[0][2].record().id).join(frame::file_name(1));
    disk.damage(&damaged, 200, |byte| *byte ^= 1).unwrap();
    for threads in [1, 3] {
        let site = Site::new();
        let tables: Vec<_> = match threads {
            1 => tables[1].clone(),
            _ => vec![Arc::clone(&site.table)],
        };
        for (number, loaded) in (0..).zip(store.load(&tables, threads)) {
            match (number, loaded) {
                (2, Err(Error::Damaged(text))) => {
                    assert!(text.contains("1.rows at byte"), "{text}")
                }
                (number, loaded) => {
                    assert_eq!(loaded.unwrap().unwrap().position, position(number));
                    assert_eq!(tables[number as usize].stats().rows, 500);
                }
            }
        }
    }
}
