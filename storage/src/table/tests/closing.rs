//! Claims about a table that takes no writes while its rows go into another one.

use super::*;
use crate::{
    cluster::control::{ObjectName, state::Relation},
    table::closing::ClosedTable,
};

/// A table without a key, and the record of the same with one.
fn keyless(grid: &Grid) -> (Arc<Table>, TableRecord) {
    let schema = schema();
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let nullable = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let table = grid.create_table(TableRecord::new("t", nullable, &[])).unwrap();
    (table, TableRecord::new("t", schema, &[0]))
}

fn insert(grid: &Grid, table: &Table, rows: &[(i64, &str)]) {
    let writer = grid.begin();
    table.write_batch(&writer, WriteMode::Insert, &batch(rows)).unwrap();
    writer.commit().unwrap();
}

fn named(grid: &Grid) -> Arc<Table> {
    let state = grid.control().state();
    match state.relations.get(&ObjectName::public("t")) {
        Some(Relation::Table(record)) => grid.table(record.id).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn new_table_takes_the_name_with_all_rows() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let (old, record) = keyless(&grid);
        let rows: Vec<_> = (0..5_000).map(|key| (key, "x")).collect();
        insert(&grid, &old, &rows);
        let new = grid.replace_table(&old, record, &[0, 1]).unwrap();
        assert_eq!((new.stats().rows, get(&new, 4_321, None).as_deref()), (5_000, Some("x")));
        assert!(Arc::ptr_eq(&named(&grid), &new));
        assert!(matches!(put(&new, WriteMode::Insert, 7, "y"), Err(Error::DuplicateKey { .. })));
        let late = old.write(&KeyedWrite::Put { mode: WriteMode::Insert, row: row(1, "late") });
        assert!(matches!(late, Err(Error::Conflict)), "who is late asks for the name again");
        assert_eq!(old.stats().rows, 0, "the old rows are freed");
    }
}

#[test]
fn rows_that_do_not_fit_leave_everything_as_it_was() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let (old, record) = keyless(&grid);
        insert(&grid, &old, &[(1, "a"), (2, "b"), (1, "c")]);
        let refused = grid.replace_table(&old, record.clone(), &[0, 1]);
        assert!(matches!(refused, Err(Error::DuplicateKey { .. })), "{refused:?}");
        assert!(Arc::ptr_eq(&named(&grid), &old));
        insert(&grid, &old, &[(3, "d")]);
        assert_eq!(old.stats().rows, 4);
        let null = vec![Datum::Null, Datum::Null];
        old.write(&KeyedWrite::Put { mode: WriteMode::Insert, row: null }).unwrap();
        let refused = grid.replace_table(&old, record, &[0, 1]);
        assert!(matches!(refused, Err(Error::NullValue { .. })), "{refused:?}");
    }
}

#[test]
fn closed_table_is_read_and_not_written() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        put(&table, WriteMode::Insert, 1, "a").unwrap();
        let router = grid.tables_router();
        let closed = ClosedTable::close(router, table.record().id).unwrap();
        let refused = without_waiting(|| put(&table, WriteMode::Upsert, 1, "b"));
        assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
        let refused = without_waiting(|| table.truncate());
        assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
        let again = ClosedTable::close(router, table.record().id);
        assert!(matches!(again, Err(Error::Conflict)), "one at a time");
        assert_eq!(get(&table, 1, None).as_deref(), Some("a"));
        drop(closed);
        put(&table, WriteMode::Upsert, 1, "b").unwrap();
        assert_eq!(get(&table, 1, None).as_deref(), Some("b"));
    }
}

#[test]
fn table_is_not_closed_in_the_middle_of_a_block() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let (old, record) = keyless(&grid);
        let writer = grid.begin();
        old.write_batch(&writer, WriteMode::Insert, &batch(&[(1, "a")])).unwrap();
        let refused = without_waiting(|| grid.replace_table(&old, record.clone(), &[0, 1]));
        assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
        old.write_batch(&writer, WriteMode::Insert, &batch(&[(2, "b")])).unwrap();
        writer.commit().unwrap();
        assert_eq!(grid.replace_table(&old, record, &[0, 1]).unwrap().stats().rows, 2);
    }
}
