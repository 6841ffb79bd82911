//! Bits that flip and blocks that go astray, anywhere in a data directory.

use std::collections::BTreeMap;

use super::*;

const BLOCK: usize = 4096;

/// Flips bits of the image one at a time, half of them anywhere where something was written, half in
/// any file alike.
fn flip_bits(seed: u64, flips: usize) {
    let (image, whole) = image();
    let mut random = SmallRng::seed_from_u64(seed);
    let used = |path: &PathBuf| {
        let used = bytes(image, path).iter().rposition(|byte| *byte != 0);
        (path.clone(), used.map_or(1, |last| last as u64 + 1))
    };
    let files: Vec<_> = image.files().iter().map(used).collect();
    assert!(files.len() >= 15, "{files:?}");
    let all: u64 = files.iter().map(|(_, used)| used).sum();
    let mut met = BTreeMap::<Met, usize>::new();
    for flip in 0..flips {
        let (path, offset) = if flip % 2 == 0 {
            let mut offset = random.random_range(0..all);
            let mut files = files.iter();
            loop {
                let (path, used) = files.next().unwrap();
                if offset < *used {
                    break (path, offset);
                }
                offset -= used;
            }
        } else {
            let (path, _) = &files[random.random_range(0..files.len())];
            let size = image.open(path).unwrap().size().unwrap();
            (path, random.random_range(0..size))
        };
        let bit = random.random_range(0..8);
        let disk = image.copy(seed);
        disk.damage(path, offset, |byte| *byte ^= 1 << bit).unwrap();
        let name = format!("bit {bit} of byte {offset} of {}", path.display());
        *met.entry(meet(&disk, whole, &[path], &name)).or_default() += 1;
    }
    // The rest are zeros behind the end of a segment, torn ends, and who held the directory last.
    assert!(met[&Met::Refused] + met[&Met::Named] > flips * 3 / 4, "{met:?}");
    assert!(met[&Met::Named] > flips / 100, "{met:?}");
}

#[test]
fn each_of_2500_flipped_bits_is_found_or_harmless_1() {
    flip_bits(1, 2500);
}

#[test]
fn each_of_2500_flipped_bits_is_found_or_harmless_2() {
    flip_bits(2, 2500);
}

#[test]
fn each_of_2500_flipped_bits_is_found_or_harmless_3() {
    flip_bits(3, 2500);
}

#[test]
fn each_of_2500_flipped_bits_is_found_or_harmless_4() {
    flip_bits(4, 2500);
}

/// Where there are whole blocks.
fn blocks(disk: &SimDisk) -> Vec<(PathBuf, usize)> {
    let of_file = |path: PathBuf| {
        let count = bytes(disk, &path).len() / BLOCK;
        (0..count).map(move |block| (path.clone(), block * BLOCK))
    };
    disk.files().into_iter().flat_map(of_file).collect()
}

fn block(disk: &SimDisk, (path, offset): &(PathBuf, usize)) -> Vec<u8> {
    bytes(disk, path)[*offset..][..BLOCK].to_vec()
}

#[test]
fn blocks_in_each_others_place_are_found() {
    let (image, whole) = image();
    let places = blocks(image);
    let contents: Vec<_> = places.iter().map(|place| block(image, place)).collect();
    let pairs = (0..places.len()).flat_map(|one| (0..one).map(move |two| (one, two)));
    let pairs: Vec<_> = pairs.filter(|(one, two)| contents[*one] != contents[*two]).collect();
    let mut refused = 0;
    let mut tried = 0;
    // A prime, so that all blocks meet many others.
    for (one, two) in pairs.iter().step_by(pairs.len() / 500 + 1) {
        let disk = image.copy(0);
        let (first, second) = (&places[*one], &places[*two]);
        overwrite(&disk, &first.0, first.1, &contents[*two]);
        overwrite(&disk, &second.0, second.1, &contents[*one]);
        let name = format!("{first:?} and {second:?}");
        let met = meet(&disk, whole, &[&first.0, &second.0], &name);
        refused += usize::from(met == Met::Refused);
        tried += 1;
    }
    assert!(tried > 250 && refused * 10 > tried * 9, "{refused} of {tried}");
}

#[test]
fn every_zeroed_block_is_found() {
    let (image, whole) = image();
    let mut found = 0;
    let places = blocks(image);
    for place in places.iter().filter(|place| block(image, place).iter().any(|byte| *byte != 0)) {
        let disk = image.copy(0);
        overwrite(&disk, &place.0, place.1, &[0; BLOCK]);
        found +=
            usize::from(meet(&disk, whole, &[&place.0], &format!("{place:?}")) != Met::Harmless);
    }
    assert!(found > 20, "{found}");
}

#[test]
fn every_file_of_another_cluster_is_found() {
    let (image, whole) = image();
    // The same history, under another id.
    let other = founded_by(2);
    let (mut refused, mut named) = (0, 0);
    for path in image.files() {
        let Ok(size) = other.open(&path).and_then(|file| file.size()) else { continue };
        let disk = image.copy(0);
        disk.remove(&path).unwrap();
        let mut file = disk.create_region(&path, size).unwrap();
        file.write_at(0, &bytes(&other, &path)).unwrap();
        // With another's FORMAT all other files are another's.
        let state = Path::new(ROOT).join("control/state");
        let changed: [&Path; 2] = [&path, if path.ends_with("FORMAT") { &state } else { &path }];
        match (meet(&disk, whole, &changed, &format!("{path:?}")), path.ends_with("LOCK")) {
            (Met::Harmless, true) => {}
            (Met::Refused, false) => refused += 1,
            (Met::Named, false) => named += 1,
            met => panic!("{path:?}: {met:?}"),
        }
    }
    assert!(refused > 10 && named > 0, "{refused}, {named}");
}
