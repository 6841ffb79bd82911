//! `TestJob`: the job that tests of the protocol run. Two instances count, and each id goes into a
//! table, into a topic, whose commits are checked against the job's record, into files, and into a
//! window, whose state is saved behind the barriers, and whose results go into a second table.
//!
//! ```text
//!   source ×2 ──► table (by key) ×2
//!          ├────► topic ×2
//!          ├────► files ×2
//!          └────► timed ×2 ──► window (by k) ×2 ──► counts ×2
//! ```
//! The tables have keys and the job inserts: a row that came twice would fail the job, one that is
//! lost leaves a gap. An id that a window lost, or took twice, is seen in its counts.

use std::path::Path;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{
        DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
    },
};
use bytes::Bytes;
use datafusion_physical_expr::expressions::Column;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
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
    delta::DeltaBatch,
    item::Item,
    processor::{Inbox, Outbox, Processor, ProcessorSupplier},
    processors::{
        AggregateFunction, AggregateSpec, SlidingWindowSpec, TableSinkSpec, sliding_window,
        table_sink,
    },
    testing::{FnSupplier, bigint_schema, counting_source},
};

/// Its name.
pub(super) const NAME: &str = "j";
/// Where its files are.
pub(super) const FOLDER: &str = "/root/out";
/// Instances that count: i of n emits i, i + n, ….
const SOURCES: usize = 2;
/// Ids of a window, and how many keys they have.
const WINDOW: i64 = 40;
const KEYS: i64 = 7;

pub(super) struct TestJob {
    pub(super) grid: Arc<Grid>,
    pub(super) table: Arc<Table>,
    counts: Arc<Table>,
    /// Distance of two windows.
    slide: i64,
    pub(super) topic: Arc<SimulatedTopic>,
    /// Where the files are.
    pub(super) disk: Arc<SimDisk>,
    connector: File,
    /// Of the files.
    pub(super) format: &'static str,
    /// How many ids there are.
    ids: i64,
    rng: Rng,
}

/// `ts, k, third`.
fn timed_schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let fields = [("ts", time), ("k", DataType::Int64), ("third", DataType::Int64)];
    Arc::new(Schema::new(fields.map(|(name, of)| Field::new(name, of, true)).to_vec()))
}

/// `k, window_start, window_end, ids, thirds`.
fn counts_schema() -> SchemaRef {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, None);
    let fields = [
        ("k", DataType::Int64),
        ("window_start", time()),
        ("window_end", time()),
        ("ids", DataType::Int64),
        ("thirds", DataType::Int64),
    ];
    Arc::new(Schema::new(fields.map(|(name, of)| Field::new(name, of, true)).to_vec()))
}

/// Gives ids a time, which is the id itself, and a key.
fn timed() -> Arc<dyn ProcessorSupplier> {
    struct Timed;
    impl Processor for Timed {
        fn process(&mut self, _: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
            while let Some(batch) = inbox.peek() {
                let ids = batch.rows.column(0).as_primitive::<Int64Type>();
                let times: TimestampMicrosecondArray = ids.reinterpret_cast();
                let keys: Int64Array = ids.unary(|id| id % KEYS);
                let thirds: Int64Array = ids.unary(|id| id / 3);
                let columns: Vec<ArrayRef> =
                    vec![Arc::new(times), Arc::new(keys), Arc::new(thirds)];
                let rows = RecordBatch::try_new(timed_schema(), columns)?;
                if outbox.offer(Item::Batch(DeltaBatch::insertions(rows))).is_some() {
                    return Ok(());
                }
                inbox.take();
            }
            Ok(())
        }
    }
    FnSupplier::shared("timed", timed_schema(), |_| Box::new(Timed))
}

impl TestJob {
    /// Of so many ids; `seed` draws what the topic does, and what files there are.
    pub(super) fn new(grid: &Arc<Grid>, ids: i64, seed: u64) -> Self {
        let record = TableRecord::new("t", bigint_schema(&["id"]), &[0]);
        let table = grid.create_table(record).unwrap();
        let record = TableRecord::new("counts", counts_schema(), &[0, 2]);
        let counts = grid.create_table(record).unwrap();
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
        let slide = [WINDOW, WINDOW / 2][seed as usize % 2];
        // Each format with each kind of window.
        let format = if (seed / 2).is_multiple_of(2) { "csv" } else { "parquet" };
        Self { grid, table, counts, slide, topic, disk, connector, format, ids, rng }
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
        let timed = dag.vertex("timed", Parallelism::Exactly(SOURCES), timed());
        let window = dag.vertex("window", Parallelism::Exactly(2), self.window());
        let spec = TableSinkSpec {
            table: Arc::clone(&self.counts),
            input: counts_schema(),
            mode,
            is_append_only: true,
        };
        let counts = dag.vertex("counts", Parallelism::Exactly(2), table_sink(spec));
        dag.edge(source, timed, 0, Routing::Isolated);
        dag.edge(timed, window, 0, Routing::Partitioned(vec![1]));
        dag.edge(window, counts, 0, Routing::Isolated);
        dag
    }

    /// How many ids, and how many thirds of ids, there are of each key in each window.
    fn window(&self) -> Arc<dyn ProcessorSupplier> {
        let input = timed_schema();
        let third = Arc::new(Column::new("third", 2));
        let count = |function, argument, is_distinct| AggregateSpec {
            function,
            argument,
            filter: None,
            is_distinct,
            result_type: DataType::Int64,
            name: "count".to_owned(),
        };
        sliding_window(SlidingWindowSpec {
            input,
            time_column: 0,
            size: WINDOW,
            slide: self.slide,
            offset: 0,
            keys: vec![1],
            key_names: vec!["k".to_owned()],
            aggregates: vec![
                count(AggregateFunction::CountStar, None, false),
                count(AggregateFunction::Count, Some(third), true),
            ],
            is_append_only: false,
        })
    }

    /// A dag into the topic alone.
    pub(super) fn dag_of_topic(&self) -> Dag {
        let mut dag = Dag::default();
        let counting = counting_source(self.ids, 3);
        let source = dag.vertex("source", Parallelism::Exactly(SOURCES), counting);
        let topic = Arc::new(supplier(&self.topic));
        let topic = dag.vertex("topic", Parallelism::Exactly(2), topic);
        dag.edge(source, topic, 0, Routing::Unicast);
        dag
    }

    /// Files of some hundred ids.
    pub(super) fn file_sink(&self) -> Arc<dyn ProcessorSupplier> {
        let schema = bigint_schema(&["id"]);
        let glob = format!("p-*.{}", self.format);
        let options =
            [("path", "out"), ("format", self.format), ("glob", &glob), ("max_file_size", "1024")];
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

    /// What readers of that mode find of the windows: `[end, key, ids, thirds]`, sorted.
    pub(super) fn in_counts(&self, mode: ReadMode) -> Vec<[i64; 4]> {
        let view = self.grid.read_view().in_mode(mode);
        let mut counts = Vec::new();
        for batch in self.counts.scan(&view, None, 1).unwrap().into_iter().flatten() {
            let batch = batch.unwrap();
            let column = |at: usize| batch.column(at).as_primitive::<Int64Type>().values();
            let ends = batch.column(2).as_primitive::<TimestampMicrosecondType>().values();
            let row = |row: usize| [ends[row], column(0)[row], column(3)[row], column(4)[row]];
            counts.extend((0..batch.num_rows()).map(row));
        }
        counts.sort_unstable();
        counts
    }

    /// What the windows of all ids come to.
    pub(super) fn all_counts(&self) -> Vec<[i64; 4]> {
        let mut counts = Vec::new();
        let mut start = self.slide - WINDOW;
        while start < self.ids {
            for key in 0..KEYS {
                let ids = start.max(0)..(start + WINDOW).min(self.ids);
                let ids: Vec<i64> = ids.filter(|id| id % KEYS == key).collect();
                let thirds: std::collections::BTreeSet<i64> = ids.iter().map(|id| id / 3).collect();
                if !ids.is_empty() {
                    let [ids, thirds] = [ids.len(), thirds.len()].map(|count| count as i64);
                    counts.push([start + WINDOW, key, ids, thirds]);
                }
            }
            start += self.slide;
        }
        counts
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
            let mut bytes = vec![0; file.size().unwrap() as usize];
            assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
            if self.format == "parquet" {
                let rows = ParquetRecordBatchReader::try_new(Bytes::from(bytes), 1024).expect(name);
                for rows in rows {
                    ids.extend(rows.unwrap().column(0).as_primitive::<Int64Type>().values());
                }
                continue;
            }
            let text = String::from_utf8(bytes).unwrap();
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
        assert_eq!(self.in_counts(ReadMode::Durable), self.all_counts(), "{what}: windows");
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
