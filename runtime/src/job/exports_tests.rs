//! Exported snapshots hold what their job had committed: whatever is asked of a job, and however often
//! it is handed on from one to the next by an exported snapshot, every id is in the table exactly once.
//!
//! The table has a key and the jobs insert: a row that came twice would fail the job.
//! `TIDEWATER_SEEDS` plays more than the few seeds of a test run.

use std::collections::BTreeSet;

use arrow::{array::AsArray, datatypes::Int64Type};
use storage::{
    Table,
    table::{ReadMode, WriteMode},
};

use super::{
    exactly_once_tests::{Bench, IDS, seeds},
    test_job::NAME,
    *,
};
use crate::{
    dag::{Parallelism, Routing},
    processor::{Processor, ProcessorSupplier},
    processors::{TableSinkSpec, table_sink},
    testing::{bigint_schema, collector, counting_source},
};

fn named(name: &str) -> ExportName {
    ExportName { name: name.to_owned(), replace: true }
}

impl Bench {
    /// A job that starts from an exported snapshot.
    fn create_from(&self, name: &str, dag: Dag, snapshot: &str) -> Result<ObjectId> {
        let request = self.request_from(snapshot, Guarantee::ExactlyOnce);
        self.jobs.create(JobRequest { name: name.to_owned(), ..request }, dag)
    }

    fn request_from(&self, snapshot: &str, guarantee: Guarantee) -> JobRequest {
        let mut request = self.request_with(guarantee);
        request.options.insert("initialSnapshotName".to_owned(), snapshot.to_owned());
        request
    }

    fn request_with(&self, guarantee: Guarantee) -> JobRequest {
        let mut request = self.job.request();
        request.options.insert(JobOptions::GUARANTEE.to_owned(), guarantee.word().to_owned());
        request
    }

    /// Waits until so many rows are in the table, or the job is over.
    fn wait_for_rows(&self, count: usize) {
        for _ in 0..30_000 {
            let is_over = self.job.record().status.is_terminal();
            if is_over || self.job.in_table(ReadMode::Durable).len() >= count {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("no rows: {:?}", self.job.record());
    }

    /// Waits until the running job has a snapshot that is newer.
    fn wait_for_snapshot(&self) {
        let newest = || self.job.record().snapshots.newest().map(|newest| newest.id);
        let before = newest();
        for _ in 0..30_000 {
            if newest() > before || self.job.record().status != JobStatus::Running {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("no snapshot: {:?}", self.job.record());
    }

    fn chunk_bytes(&self) -> i64 {
        self.job.grid.metrics().register("tidewater_snapshot_bytes", &[]).get()
    }
}

/// Two instances that count, so many that write into a table alone.
fn counting_into(table: &Arc<Table>, sinks: usize) -> Dag {
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(2), counting_source(IDS, 3));
    let spec = TableSinkSpec {
        table: Arc::clone(table),
        input: bigint_schema(&["id"]),
        mode: WriteMode::Insert,
        is_append_only: true,
    };
    let sink = dag.vertex("table", Parallelism::Exactly(sinks), table_sink(spec));
    dag.edge(source, sink, 0, Routing::Partitioned(vec![0]));
    dag
}

/// One thing that is asked of the job; whether it was done.
fn ask_something(bench: &Bench) -> bool {
    let done = match bench.job.below(8) {
        0 => bench.jobs.suspend(NAME),
        1 => bench.jobs.resume(NAME),
        2 => bench.jobs.restart(NAME),
        3 => bench.jobs.export(NAME, named("aside")),
        4 => bench.jobs.suspend(NAME).and_then(|()| bench.jobs.export(NAME, named("aside"))),
        5 | 6 => bench.jobs.drop_exported(NAME, named("e")).map(|()| {
            bench.create_from(NAME, bench.job.dag(), "e").unwrap();
        }),
        _ => {
            bench.jobs.lose(NAME);
            Ok(())
        }
    };
    done.is_ok()
}

#[test]
fn whatever_is_asked_of_jobs_that_start_from_each_other_every_id_is_there_once() {
    let mut asked = 0;
    for seed in 0..4 * seeds() {
        let what = format!("seed {seed}");
        let bench = Bench::new(seed);
        bench.create();
        if bench.job.below(3) == 0 {
            let places = ["snapshot.export", "snapshot.exported", "snapshot.committed"];
            let place = places[bench.job.below(3) as usize];
            bench.job.grid.env().failpoints.arm(place, bench.job.below(2));
        }
        for _ in 0..12 {
            asked += u64::from(ask_something(&bench));
            for _ in 0..bench.job.below(20) {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            if bench.job.record().status == JobStatus::Failed {
                panic!("{what}: {:?}", bench.job.record());
            }
        }
        bench.complete(&what);
        bench.job.assert_each_id_once(&what);
        // Everything that was exported can be dropped, and then nothing is left.
        bench.jobs.drop_job(NAME).unwrap();
        let names: Vec<_> = bench.job.grid.control().state().exports.keys().cloned().collect();
        names.iter().for_each(|name| bench.jobs.drop_export(name).unwrap());
        assert_eq!(bench.chunk_bytes(), 0, "{what}");
    }
    assert!(asked >= 8 * seeds(), "only {asked} things were done");
}

#[test]
fn an_export_of_a_running_job_covers_what_was_committed_and_nothing_else() {
    for seed in 0..2 * seeds() {
        let bench = Bench::new(seed);
        let dag = counting_into(&bench.job.table, 2);
        bench.jobs.create(bench.job.request(), dag).unwrap();
        (0..=bench.job.below(3)).for_each(|_| bench.wait_for_snapshot());
        let ids = |mode| bench.job.in_table(mode).into_iter().collect::<BTreeSet<i64>>();
        let before = ids(ReadMode::Durable);
        bench.jobs.export(NAME, named("e")).unwrap();
        let after = ids(ReadMode::Durable);
        bench.jobs.drop_job(NAME).unwrap();
        bench.job.table.truncate().unwrap();
        // Another number of instances restores the same.
        let again = counting_into(&bench.job.table, 3);
        bench.create_from(NAME, again.clone(), "e").unwrap();
        bench.jobs.set_planner(Arc::new(move |_| Ok(again.clone())));
        bench.complete(&format!("seed {seed}"));
        let rest = ids(ReadMode::Durable);
        let covered: BTreeSet<i64> = (0..IDS).filter(|id| !rest.contains(id)).collect();
        assert!(before.is_subset(&covered), "seed {seed}: a committed row came again");
        assert!(covered.is_subset(&after), "seed {seed}: a row is in neither");
    }
}

#[test]
fn an_export_of_a_job_without_a_guarantee_is_a_cut_and_leaves_nothing_else() {
    for seed in 0..2 * seeds() {
        let what = format!("seed {seed}");
        let bench = Bench::new(seed);
        let dag = counting_into(&bench.job.table, 2);
        bench.jobs.create(bench.request_with(Guarantee::None), dag).unwrap();
        bench.wait_for_rows(bench.job.below(500) as usize);
        let ids = || bench.job.in_table(ReadMode::Durable).into_iter().collect::<BTreeSet<i64>>();
        let before = ids();
        bench.jobs.export(NAME, named("e")).unwrap();
        let after = ids();
        assert!(bench.job.record().snapshots.good.is_empty(), "{what}: it needs none");
        bench.jobs.export(NAME, named("e")).unwrap();
        bench.jobs.drop_export("e").unwrap();
        assert_eq!(bench.chunk_bytes(), 0, "{what}");
        bench.jobs.export(NAME, named("f")).unwrap();
        let later = ids();
        bench.jobs.drop_job(NAME).unwrap();
        bench.job.table.truncate().unwrap();
        let again = counting_into(&bench.job.table, 3);
        bench.jobs.create(bench.request_from("f", Guarantee::None), again).unwrap();
        bench.complete(&what);
        let rest = ids();
        let covered: BTreeSet<i64> = (0..IDS).filter(|id| !rest.contains(id)).collect();
        assert!(before.is_subset(&covered) && after.is_subset(&covered), "{what}: rows came again");
        assert!(covered.is_subset(&later), "{what}: a row is in neither");
        let error = bench.jobs.drop_export("f").unwrap_err().to_string();
        assert_eq!(error, "snapshot \"f\" is needed by job \"j\" until that is dropped");
    }
}

#[test]
fn jobs_with_and_without_a_guarantee_hand_on_what_they_have_read() {
    for seed in 0..2 * seeds() {
        let what = format!("seed {seed}");
        let bench = Bench::new(seed);
        let dag = || counting_into(&bench.job.table, 1 + bench.job.below(3) as usize);
        let mut guarantee = Guarantee::None;
        bench.jobs.create(bench.request_with(guarantee), dag()).unwrap();
        for handed_on in 1..=4 {
            bench.wait_for_rows(handed_on * 200);
            let name = format!("e{handed_on}");
            match bench.jobs.drop_exported(NAME, named(&name)) {
                Ok(()) => {}
                // It was faster.
                Err(_) if bench.job.record().status == JobStatus::Completed => break,
                Err(error) => panic!("{what}: {error}"),
            }
            let all = [Guarantee::None, Guarantee::ExactlyOnce];
            guarantee = all[bench.job.below(2) as usize];
            bench.jobs.create(bench.request_from(&name, guarantee), dag()).unwrap();
        }
        bench.complete(&what);
        assert_eq!(bench.job.in_table(ReadMode::Durable), (0..IDS).collect::<Vec<_>>(), "{what}");
        bench.jobs.drop_job(NAME).unwrap();
        let names: Vec<_> = bench.job.grid.control().state().exports.keys().cloned().collect();
        names.iter().for_each(|name| bench.jobs.drop_export(name).unwrap());
        assert_eq!(bench.chunk_bytes(), 0, "{what}");
    }
}

#[test]
fn without_a_guarantee_each_start_is_the_first() {
    let bench = Bench::new(0);
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(i64::MAX, 3));
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    dag.edge(source, sink, 0, Routing::Unicast);
    let again = dag.clone();
    bench.jobs.set_planner(Arc::new(move |_| Ok(again.clone())));
    let values = || -> Vec<i64> {
        let all = collected.batches();
        let columns = all.iter().map(|batch| batch.rows.column(0).as_primitive::<Int64Type>());
        columns.flat_map(|column| column.values().to_vec()).collect()
    };
    // Where it begins anew each time that its numbers fall.
    let falls = || -> Vec<i64> {
        values().windows(2).filter(|pair| pair[1] <= pair[0]).map(|pair| pair[1]).collect()
    };
    let wait_for = |holds: &dyn Fn() -> bool| {
        let holds = (0..30_000).any(|_| {
            std::thread::park_timeout(Duration::from_millis(1));
            holds()
        });
        assert!(holds, "{:?}", bench.job.record());
    };
    let begins_after = |act: &dyn Fn()| {
        let before = falls().len();
        act();
        wait_for(&|| falls().len() > before);
        falls()[before]
    };
    let create = |request| assert!(bench.jobs.create(request, dag.clone()).is_ok());
    let stop_and_start = || {
        bench.jobs.suspend(NAME).unwrap();
        let error = bench.jobs.export(NAME, named("e")).unwrap_err().to_string();
        assert!(error.starts_with("job \"j\" has no snapshot: its processingGuarantee"), "{error}");
        bench.jobs.resume(NAME).unwrap();
    };
    create(bench.request_with(Guarantee::None));
    wait_for(&|| collected.len() > 10);
    assert_eq!(begins_after(&stop_and_start), 0);
    bench.jobs.drop_exported(NAME, named("start")).unwrap();
    let (start, count) = (values().last().unwrap() + 1, collected.len());
    create(bench.request_from("start", Guarantee::None));
    wait_for(&|| collected.len() > count);
    assert_eq!(values()[count], start, "it goes on from what was exported");
    assert_eq!(begins_after(&stop_and_start), start);
    assert_eq!(begins_after(&|| bench.jobs.restart(NAME).unwrap()), start);
    assert_eq!(begins_after(&|| assert!(bench.jobs.lose(NAME))), start);
}

#[test]
fn an_exported_snapshot_that_is_damaged_is_refused_by_name() {
    let bench = Bench::new(0);
    bench.create();
    bench.wait_for_snapshot();
    bench.jobs.suspend(NAME).unwrap();
    let record = bench.job.record();
    let newest = record.snapshots.newest().unwrap();
    bench.jobs.export(NAME, named("e")).unwrap();
    assert!(bench.job.grid.snapshots().damage(record.id, newest.id, 0, false));

    // Not exported again, not dropped for it, and no job starts from what was exported.
    let error = bench.jobs.export(NAME, named("f")).unwrap_err().to_string();
    let of_job = format!("snapshot {} of job \"j\": chunk ", newest.id);
    assert!(error.starts_with(&of_job) && error.ends_with("is damaged"), "{error}");
    assert!(bench.jobs.drop_exported(NAME, named("f")).is_err());
    assert_eq!(bench.job.record().status, JobStatus::Suspended);
    // The job that has the transactions must be gone, and is not dropped in vain.
    let create = || bench.create_from("k", bench.job.dag(), "e").unwrap_err();
    let error = create().to_string();
    let text =
        "state of operator \"topic\" in snapshot \"e\" belongs to job \"j\" as long as that exists";
    assert_eq!(error, text);
    bench.jobs.drop_job(NAME).unwrap();
    let error = create();
    assert!(error.to_string().starts_with("snapshot \"e\": chunk "), "{error}");
    assert_eq!(error.sqlstate(), "XX001");
    let state = bench.job.grid.control().state();
    assert!(state.job("k").is_none() && !state.exports.contains_key("f"));
}

#[test]
fn a_job_that_could_not_start_from_a_snapshot_does_not_need_it_any_more() {
    let bench = Bench::new(0);
    bench.create();
    bench.wait_for_snapshot();
    bench.jobs.drop_exported(NAME, named("e")).unwrap();
    bench.job.grid.env().failpoints.arm("start.run", 0);
    let created = bench.create_from(NAME, bench.job.dag(), "e");
    assert!(created.is_err(), "a start that is lost leaves no job: {created:?}");
    bench.jobs.drop_export("e").unwrap();
    let error = bench.create_from(NAME, bench.job.dag(), "e").unwrap_err().to_string();
    assert_eq!(error, "snapshot \"e\" does not exist");
    assert_eq!(bench.chunk_bytes(), 0);
}

#[test]
fn a_state_that_does_not_say_what_it_means_starts_no_job() {
    /// Like another, but silent.
    struct Silent(Arc<dyn ProcessorSupplier>);
    impl ProcessorSupplier for Silent {
        fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
            self.0.create(count)
        }
        fn describe(&self) -> String {
            self.0.describe()
        }
        fn schema(&self) -> arrow::datatypes::SchemaRef {
            self.0.schema()
        }
    }
    let bench = Bench::new(0);
    let mut dag = counting_into(&bench.job.table, 2);
    dag.vertices[0].supplier = Arc::new(Silent(counting_source(IDS, 3)));
    bench.jobs.create(bench.job.request(), dag.clone()).unwrap();
    bench.jobs.drop_exported(NAME, named("e")).unwrap();
    let error = bench.create_from(NAME, dag, "e").unwrap_err();
    let text = "starting a job from the state of operator \"source\" is not supported";
    assert_eq!((error.sqlstate(), &*error.to_string()), ("0A000", text));
    assert!(bench.job.grid.control().state().jobs.is_empty());
}
