//! What simulated owners make of a network that loses, repeats and delays: nothing. A failing seed
//! stands in the test's output (`seed 7, 3 owners`), and the same seed fails again.

use super::*;
use crate::cluster::control::ObjectId;

fn faulty(seed: u64) -> Env {
    Env::simulated(1).0.with_faulty_network(seed)
}

#[test]
fn tables_behave_like_a_map_over_a_network_that_loses_repeats_and_delays() {
    for seed in 0..12 {
        let owners = [2, 3, 5][seed as usize % 3];
        let grid = tables_behave_like_a_map(faulty(seed), seed, owners);
        let remembered = grid.remembered_count();
        assert!(remembered <= usize::from(owners), "{remembered} answers were never forgotten");
    }
}

#[test]
fn one_seed_leaves_the_same_rows_twice() {
    let rows = |seed| {
        let grid = tables_behave_like_a_map(faulty(seed), seed, 3);
        let table = grid.table(ObjectId(1)).unwrap();
        scan(&table, &grid.read_view(), 1)
    };
    assert_eq!(rows(3), rows(3));
    assert_ne!(rows(3), rows(4));
}

#[test]
fn rows_without_a_key_are_inserted_once_each() {
    for seed in 0..8 {
        eprintln!("seed {seed}");
        let grid = grid_in(faulty(seed), 271, 3);
        let table = grid.create_table(TableRecord::new("t", schema(), &[])).unwrap();
        for round in 0..20 {
            put(&table, WriteMode::Insert, 1, "a").unwrap();
            let writer = grid.begin();
            let rows: Vec<_> = (0..100).map(|_| (round, "b")).collect();
            let summary = table.write_batch(&writer, WriteMode::Insert, &batch(&rows)).unwrap();
            assert_eq!(summary.inserted, 100);
            if round % 4 == 0 {
                writer.abort()
            } else {
                writer.commit().unwrap()
            }
            let partition = PartitionId(round as u16 * 13);
            grid.move_partition(partition, round as u16 % 3).unwrap();
        }
        assert_eq!(table.stats().rows, 20 + 15 * 100);
    }
}

#[test]
fn writers_at_once_lose_nothing_over_a_faulty_network() {
    const THREADS: i64 = 3;
    for seed in 0..3 {
        eprintln!("seed {seed}");
        let grid = grid_in(faulty(seed), 5, 3);
        let table = table(&grid);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (grid, table) = (&grid, &table);
                scope.spawn(move || {
                    for key in 0..200 {
                        let key = key * THREADS + thread;
                        assert_eq!(put(table, WriteMode::Insert, key, "a").unwrap(), 1);
                        if key % 20 == 0 {
                            let partition = PartitionId((key % 5) as u16);
                            grid.move_partition(partition, (key % 3) as u16).unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(table.stats().rows as i64, 200 * THREADS);
    }
}

#[test]
fn moves_are_agreed_in_the_control_state() {
    let grid = grid_of(9, 3);
    let before = grid.control().state().assignment.clone();
    assert_eq!(*before.owners, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    grid.move_partition(PartitionId(4), 0).unwrap();
    grid.move_partition(PartitionId(4), 0).unwrap();
    let after = grid.control().state().assignment.clone();
    assert_eq!(after.owners[4], 0);
    assert_eq!(after.version, before.version + 1, "a move to where it is changes nothing");
    assert!(grid.move_partition(PartitionId(9), 0).is_err());
}
