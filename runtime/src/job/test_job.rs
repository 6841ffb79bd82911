//! `TestJob`: the job that tests of the protocol run. Two instances count, and each id goes into a
//! table, into a topic, whose commits are checked against the job's record, and into files.
//!
//! ```text
//!   source ×2 ──► table (by key) ×2
//!          ├────► topic ×2
//!          └────► files ×2
//! ```
//! The table has a key and the job inserts: a row that came twice would fail the job, one that is
//! lost leaves a gap.

use std::path::Path;

use arrow::{array::AsArray, datatypes::Int64Type};
use storage::{
    Table,
    cluster::control::{ColumnRecord, MappingRecord, ObjectId, ObjectName, TableRecord},
    env::{Disk, Env, Rng, SimDisk},
    table::{ReadMode, WriteMode},
};

use super::*;
use crate::{
    connector::Connector,
    connectors::{
        file::{File, FileAccess},
        kafka::sink::tests::{simulated_log::SimulatedTopic, supplier},
    },
    dag::{Parallelism, Routing},
    processor::ProcessorSupplier,
    processors::{TableSinkSpec, table_sink},
    testing::{bigint_schema, counting_source},
};

/// Its name.
pub(super) const NAME: &str = "j";
/// Where its files are.
pub(super) const FOLDER: &str = "/root/out";
/// Instances that count: i of n emits i, i + n, ….
const SOURCES: usize = 2;

pub(super) struct TestJob {
    pub(super) grid: Arc<Grid>,
    pub(super) table: Arc<Table>,
    pub(super) topic: Arc<SimulatedTopic>,
    /// Where the files are.
    pub(super) disk: Arc<SimDisk>,
    connector: File,
    /// How many ids there are.
    ids: i64,
    rng: Rng,
}

impl TestJob {
    /// Of so many ids; `seed` draws what the topic does.
    pub(super) fn new(grid: &Arc<Grid>, ids: i64, seed: u64) -> Self {
        let record = TableRecord::new("t", bigint_schema(&["id"]), &[0]);
        let table = grid.create_table(record).unwrap();
        let control = Arc::clone(grid);
        let is_good = move |mark: i64| {
            let state = control.control().state();
            let of_job = state.job(NAME).into_iter().flat_map(|job| &job.snapshots.good);
            let exported = state.exports.values().map(|export| &export.snapshot);
            of_job.chain(exported).any(|record| record.id == mark as u64)
        };
        let topic = SimulatedTopic::asking(seed, Box::new(is_good));
        let disk = SimDisk::new(seed, [FOLDER]);
        let env = Env { disk: Arc::clone(&disk) as _, ..grid.env().clone() };
        let connector = File::new(FileAccess::new(&env, Some("/root".into())));
        let (grid, rng) = (Arc::clone(grid), Rng::seeded(seed));
        Self { grid, table, topic, disk, connector, ids, rng }
    }

    /// Of the test's own choices.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    pub(super) fn dag(&self) -> Dag {
        self.dag_with(WriteMode::Insert)
    }

    /// Its dag, writing into the table so.
    pub(super) fn dag_with(&self, mode: WriteMode) -> Dag {
        let mut dag = Dag::default();
        let counting = counting_source(self.ids, 3);
        let source = dag.vertex("source", Parallelism::Exactly(SOURCES), counting);
        let spec = TableSinkSpec {
            table: Arc::clone(&self.table),
            input: bigint_schema(&["id"]),
            mode,
            is_append_only: true,
        };
        let table = dag.vertex("table", Parallelism::Exactly(2), table_sink(spec));
        let topic = Arc::new(supplier(&self.topic));
        let topic = dag.vertex("topic", Parallelism::Exactly(2), topic);
        let files = dag.vertex("files", Parallelism::Exactly(2), self.file_sink());
        dag.edge(source, table, 0, Routing::Partitioned(vec![0]));
        dag.edge(source, topic, 0, Routing::Unicast);
        dag.edge(source, files, 0, Routing::Isolated);
        dag
    }

    /// Files of about a hundred ids.
    pub(super) fn file_sink(&self) -> Arc<dyn ProcessorSupplier> {
        let schema = bigint_schema(&["id"]);
        let options =
            [("path", "out"), ("format", "csv"), ("glob", "p-*.csv"), ("max_file_size", "1024")];
        let mapping = MappingRecord {
            id: ObjectId(1),
            name: ObjectName::public("m"),
            external_name: "m".to_owned(),
            connector: "File".to_owned(),
            options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            schema: Arc::clone(&schema),
            columns: vec![ColumnRecord {
                name: "id".to_owned(),
                sql_type: "bigint".to_owned(),
                is_not_null: false,
                default_sql: None,
                external_name: None,
            }],
            watermark: None,
        };
        self.connector.sink(&mapping, &schema).unwrap().unwrap()
    }

    pub(super) fn request(&self) -> JobRequest {
        let options = [("processingGuarantee", "exactlyOnce"), ("snapshotIntervalMillis", "10")];
        JobRequest {
            name: NAME.to_owned(),
            sql: String::new(),
            options: options.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            settings: BTreeMap::new(),
        }
    }

    pub(super) fn record(&self) -> Arc<JobRecord> {
        Arc::clone(self.grid.control().state().job(NAME).expect("it is recorded"))
    }

    /// What readers of that mode find in the table, sorted.
    pub(super) fn in_table(&self, mode: ReadMode) -> Vec<i64> {
        let view = self.grid.read_view().in_mode(mode);
        let mut ids: Vec<i64> = Vec::new();
        for batch in self.table.scan(&view, None, 1).unwrap().into_iter().flatten() {
            ids.extend(batch.unwrap().column(0).as_primitive::<Int64Type>().values());
        }
        ids.sort_unstable();
        ids
    }

    /// What readers of committed rows find in the topic, sorted.
    pub(super) fn in_topic(&self) -> Vec<i64> {
        let mut ids: Vec<i64> =
            self.topic.committed().iter().map(|id| id.parse().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    /// Names in the folder of the files, those of hidden ones included.
    pub(super) fn file_names(&self) -> Vec<String> {
        let entries = self.disk.list(Path::new(FOLDER)).unwrap();
        entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
    }

    /// What is in the files that are published, sorted.
    pub(super) fn in_files(&self) -> Vec<i64> {
        let mut ids = Vec::new();
        for name in self.file_names().iter().filter(|name| !name.starts_with('.')) {
            let file = self.disk.open(&Path::new(FOLDER).join(name)).unwrap();
            let mut text = vec![0; file.size().unwrap() as usize];
            assert_eq!(file.read_at(0, &mut text).unwrap(), text.len());
            let text = String::from_utf8(text).unwrap();
            assert!(text.ends_with('\n'), "{name} is torn: {text}");
            ids.extend(text.lines().map(|line| line.parse::<i64>().unwrap()));
        }
        ids.sort_unstable();
        ids
    }

    /// The job has completed: all ids are where they belong, for good.
    #[track_caller]
    pub(super) fn assert_each_id_once(&self, what: &str) {
        let expected: Vec<i64> = (0..self.ids).collect();
        let durable = self.in_table(ReadMode::Durable);
        for (place, ids) in
            [("table", durable), ("topic", self.in_topic()), ("files", self.in_files())]
        {
            let missing: Vec<_> = expected.iter().filter(|id| !ids.contains(id)).take(5).collect();
            assert!(ids == expected, "{what}: {place}: {} rows, without {missing:?}", ids.len());
        }
    }

    /// What is permanent is a cut: of each source all ids up to one, and each once.
    #[track_caller]
    pub(super) fn assert_cut(&self, ids: &[i64], what: &str) {
        for source in 0..SOURCES {
            let is_its = |id: &i64| *id as usize % SOURCES == source;
            let found: Vec<i64> = ids.iter().copied().filter(is_its).collect();
            let expected = (source as i64..).step_by(SOURCES).take(found.len());
            assert!(expected.eq(found), "{what}: no cut of source {source}");
        }
    }
}
