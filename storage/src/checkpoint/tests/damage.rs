//! Whatever is changed, cut, moved or put there from elsewhere is found, and named.

use super::*;
use crate::env::disk::read_whole;

/// A disk with a checkpoint of several files.
fn disk() -> (Arc<SimDisk>, CheckpointStore) {
    let (disk, store) = sim_disk(1);
    let written = Site::with_rows(400, 60, 1).write(&store).unwrap();
    assert!(written.files >= 3, "{written:?}");
    (disk, store)
}

/// The text of what is wrong.
fn damage(store: &CheckpointStore) -> String {
    match Site::new().load(store) {
        Err(Error::Damaged(text)) => text,
        other => panic!("it was loaded: {other:?}"),
    }
}

fn bytes(disk: &SimDisk, path: &Path) -> Vec<u8> {
    read_whole(disk, path, u64::MAX).unwrap().unwrap()
}

fn overwrite(disk: &SimDisk, path: &Path, offset: usize, bytes: &[u8]) {
    disk.open_region(path).unwrap().write_at(offset as u64, bytes).unwrap();
}

#[test]
fn every_flipped_bit_is_found() {
    let (disk, store) = disk();
    let mut paths = files(&disk);
    paths.push(folder(&disk).join(manifest::NAME));
    let mut random = SmallRng::seed_from_u64(3);
    let flip = |path: &Path, offset: u64, bit: u8| {
        let flip = || disk.damage(path, offset, |byte| *byte ^= 1 << bit).unwrap();
        flip();
        let text = damage(&store);
        flip();
        assert!(text.contains(path.to_str().unwrap()), "{text} for {path:?} at {offset}");
    };
    for path in &paths {
        let size = disk.open(path).unwrap().size().unwrap();
        // All of both headers, and anywhere.
        (0..size.min(112)).for_each(|offset| flip(path, offset, offset as u8 % 8));
        for _ in 0..600 {
            flip(path, random.random_range(0..size), random.random_range(0..8));
        }
    }
    assert!(paths.len() >= 4);
    assert_eq!(Site::new().load(&store).unwrap().unwrap().rows, 400);
}

#[test]
fn damaged_rows_are_named_with_file_byte_and_partition() {
    let (disk, store) = disk();
    let path = &files(&disk)[0];
    let named = |offset: u64| {
        let flip = || disk.damage(path, offset, |byte| *byte ^= 1).unwrap();
        flip();
        let text = damage(&store);
        flip();
        text.strip_prefix(path.to_str().unwrap()).unwrap().to_owned()
    };
    assert_eq!(named(20), " at byte 0: its header is damaged");
    assert_eq!(named(64 + 16), " at byte 64: rows of partitions 0 to 2 are damaged");
    assert_eq!(named(64 + 48 + 1000), " at byte 64: rows of partition 0 are damaged");
    disk.remove(path).unwrap();
    assert_eq!(damage(&store), format!("{}: it is missing", path.display()));
}

#[test]
fn every_cut_is_found() {
    for is_manifest in [false, true] {
        let (disk, store) = disk();
        let path = match is_manifest {
            true => folder(&disk).join(manifest::NAME),
            false => files(&disk).remove(1),
        };
        let size = disk.open(&path).unwrap().size().unwrap();
        assert!(is_manifest || size > 4096);
        for size in (size.saturating_sub(4096)..size).rev() {
            disk.truncate(&path, size).unwrap();
            let text = damage(&store);
            assert!(text.contains(path.to_str().unwrap()), "{text}");
        }
    }
}

#[test]
fn blocks_in_each_others_place_are_found() {
    const BLOCK: usize = 4096;
    let (disk, store) = disk();
    let places: Vec<_> = files(&disk)
        .into_iter()
        .flat_map(|path| {
            let blocks = bytes(&disk, &path).len() / BLOCK;
            (0..blocks).map(move |block| (path.clone(), block * BLOCK))
        })
        .collect();
    assert!(places.len() >= 6);
    let block = |(path, offset): &(PathBuf, usize)| bytes(&disk, path)[*offset..][..BLOCK].to_vec();
    for (number, one) in places.iter().enumerate() {
        for two in &places[number + 1..] {
            let (first, second) = (block(one), block(two));
            overwrite(&disk, &one.0, one.1, &second);
            overwrite(&disk, &two.0, two.1, &first);
            damage(&store);
            overwrite(&disk, &one.0, one.1, &first);
            overwrite(&disk, &two.0, two.1, &second);
        }
    }
    assert!(Site::new().load(&store).is_ok());
}

#[test]
fn files_in_the_place_of_others_are_found() {
    let (disk, store) = disk();
    let paths = files(&disk);
    let spare = folder(&disk).join("spare");
    let swap = |one: &Path, two: &Path| {
        disk.rename(one, &spare).unwrap();
        disk.rename(two, one).unwrap();
        disk.rename(&spare, two).unwrap();
    };
    swap(&paths[0], &paths[1]);
    assert!(damage(&store).ends_with("it belongs to another cluster, table or checkpoint"));
    swap(&paths[0], &paths[1]);
    // The same rows, written by another cluster, for another table and at another place in the log.
    let site = Site::with_rows(400, 60, 1);
    let schema = Arc::clone(site.table.schema());
    let table = site.grid.create_table(TableRecord::new("other", schema, &[0])).unwrap();
    let other = Site { grid: Arc::clone(&site.grid), table };
    other.fill(400, 60, 1);
    let foreign = |site: &Site, cluster, lsn| {
        let disk = SimDisk::new(1, [FOLDER]);
        let store = store_on(&disk, cluster);
        store.write(&site.table, &site.view(), &position(lsn), || Ok(())).unwrap();
        disk
    };
    let manifest = folder(&disk).join(manifest::NAME);
    for (site, cluster, lsn) in [(&site, 1, 7), (&other, CLUSTER, 7), (&site, CLUSTER, 8)] {
        let foreign = foreign(site, cluster, lsn);
        for (own, path) in paths.iter().zip(files(&foreign)) {
            let (before, bytes) = (bytes(&disk, own), bytes(&foreign, &path));
            assert_eq!(bytes.len(), before.len());
            overwrite(&disk, own, 0, &bytes);
            assert!(damage(&store).ends_with("it belongs to another cluster, table or checkpoint"));
            overwrite(&disk, own, 0, &before);
        }
        let path = folder(&foreign).join(manifest::NAME);
        let (before, bytes) = (bytes(&disk, &manifest), bytes(&foreign, &path));
        assert_eq!(bytes.len(), before.len());
        overwrite(&disk, &manifest, 0, &bytes);
        let text = damage(&store);
        assert!(text.contains("it belongs to another cluster"), "{text}");
        overwrite(&disk, &manifest, 0, &before);
    }
    assert!(Site::new().load(&store).is_ok());
    let another = store_on(&disk, 1);
    assert!(damage(&another).ends_with("it belongs to another cluster or place"));
}

#[test]
fn rows_without_their_manifest_are_not_taken_for_none() {
    let (disk, store) = disk();
    disk.remove(&folder(&disk).join(manifest::NAME)).unwrap();
    assert!(damage(&store).ends_with("manifest: it is missing"));
}

#[test]
fn rows_of_other_columns_or_partitions_are_refused() {
    let (_, store) = disk();
    let fields = |value: DataType| {
        vec![Field::new("k", DataType::Int64, false), Field::new("v", value, true)]
    };
    let load =
        |fields, key: &[usize]| match Site::of(fields, key, GridConfig::default()).load(&store) {
            Err(Error::Damaged(text)) => text,
            other => panic!("it was loaded: {other:?}"),
        };
    let text = load(fields(DataType::Binary), &[0]);
    assert!(text.ends_with("its rows are of other columns than the table's"), "{text}");
    assert_eq!(load(fields(DataType::Utf8), &[0, 1]), text);
    // A null where none may be any more.
    let site = Site::new();
    let null = KeyedWrite::Put { mode: WriteMode::Insert, row: vec![Datum::Int(1), Datum::Null] };
    site.table.write(&null).unwrap();
    site.write(&store).unwrap();
    let mut fields = fields(DataType::Utf8);
    fields[1] = fields[1].clone().with_nullable(false);
    assert!(load(fields, &[0]).contains("cannot be read"));
    let config = GridConfig { partition_count: 9, ..GridConfig::default() };
    let grid = Grid::open(config, Env::simulated(1).0).unwrap();
    let record = TableRecord::new("t", Arc::clone(site.table.schema()), &[0]);
    let table = grid.create_table(record).unwrap();
    let Err(Error::Damaged(text)) = store.load(&[table], 1).remove(0) else { panic!("loaded") };
    assert!(text.ends_with("its rows are in 8 partitions, and the server has 9"), "{text}");
}

#[test]
fn a_table_that_has_rows_is_not_loaded_over() {
    let (_, store) = disk();
    let site = Site::with_rows(400, 1, 1);
    assert!(matches!(site.load(&store), Err(Error::WrongState(_))));
}
