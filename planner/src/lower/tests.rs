//! What streaming queries become, and that they answer what DataFusion answers over the same rows:
//! the two ways of planning are each other's oracle.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    execution::{SessionState, SessionStateBuilder},
    logical_expr::LogicalPlan,
    prelude::{SessionConfig, SessionContext},
    sql::parser::DFParserBuilder,
};
use futures::StreamExt;
use runtime::{
    connector::MappingRequest,
    connectors::{self, file::FileAccess},
    execution::{Engine, EngineConfig},
};
use storage::{
    Datum, Grid, GridConfig, Table,
    cluster::control::{Command, MappingRecord, ObjectId, ObjectName, TableRecord},
    env::Env,
    table::{KeyedWrite, WriteMode},
};

use super::{JobTarget, StreamParts, plan_job, plan_stream};
use crate::{
    Error, Result,
    catalog::{mapping::MappingProvider, provider::GridTable},
    explain,
    functions::stream::install,
    parse::TidewaterDialect,
    rules,
    stream_plan::StreamPlan,
};

/// DataFusion spawns onto the runtime it is polled in.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("runtime").block_on(future)
}

/// A planner's world without its front door.
struct World {
    parts: StreamParts,
    context: SessionContext,
}

impl World {
    fn new() -> Self {
        let grid = Grid::open(GridConfig::default(), Env::real()).expect("grid");
        let config = EngineConfig { worker_count: 2, queue_capacity: 4, ..EngineConfig::default() };
        let engine = Engine::start(config, Arc::clone(&grid)).expect("engine");
        let files = FileAccess::new(grid.env(), None);
        let parts = StreamParts { grid, engine, connectors: connectors::built_in(files) };
        let mut config = SessionConfig::new().with_target_partitions(2);
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        config.options_mut().sql_parser.parse_float_as_decimal = true;
        let builder = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_type_planner(Arc::new(rules::PostgresTypes));
        let builder = builder.with_analyzer_rules(rules::analyzer_rules());
        let mut state = install(builder, &parts).build();
        crate::functions::register(&mut state).expect("functions");
        Self { parts, context: SessionContext::new_with_state(state) }
    }

    /// The nexmark stream with a watermark, and a table of names by key.
    fn nexmark() -> Self {
        let world = Self::new();
        world.generator("events", &[("kind", "nexmark"), ("rate", "max")], Some(4));
        world.generator("numbers", &[("kind", "sequence"), ("rate", "max")], None);
        world.generator("few", &[("kind", "sequence"), ("count", "100"), ("rate", "max")], Some(3));
        world
    }

    fn generator(&self, name: &str, options: &[(&str, &str)], time_column: Option<usize>) {
        let options: BTreeMap<String, String> =
            options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let connector = self.parts.connectors.get("Generator").expect("connector");
        let request = MappingRequest {
            external_name: name.to_owned(),
            options: options.clone(),
            schema: None,
            external_columns: vec![],
        };
        let record = MappingRecord {
            id: ObjectId(0),
            name: ObjectName::public(name),
            external_name: name.to_owned(),
            connector: "Generator".to_owned(),
            options,
            schema: connector.resolve(&request).expect("resolve"),
            columns: vec![],
            watermark: time_column.map(|column| (column, 4_000_000)),
        };
        let provider = MappingProvider::new(Arc::new(record), self.parts.clone());
        self.context.register_table(name, provider).expect("register");
    }

    fn table(&self, name: &str, columns: &[(&str, DataType)], key: &[usize]) -> Arc<Table> {
        let fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(index, (name, data_type))| {
                Field::new(*name, data_type.clone(), !key.contains(&index))
            })
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let record = TableRecord::new(name, schema, key);
        let id = self.parts.grid.control().submit(&Command::CreateTable(record)).expect("create");
        let table = self.parts.grid.table(id).expect("table");
        let provider = Arc::new(GridTable::visible(Arc::clone(&table)));
        self.context.register_table(name, provider).expect("register");
        table
    }

    fn state(&self) -> SessionState {
        self.context.state()
    }

    fn analysed(&self, sql: &str) -> Result<LogicalPlan> {
        let state = self.state();
        let mut parser =
            DFParserBuilder::new(sql).with_dialect(&TidewaterDialect).build().expect("parser");
        let mut statement = parser.parse_statement()?;
        if let datafusion::sql::parser::Statement::Statement(statement) = &mut statement {
            rules::rewrite_ast(statement.as_mut());
        }
        let plan = block_on(state.statement_to_plan(statement))?;
        Ok(state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?)
    }

    fn stream(&self, sql: &str) -> Result<StreamPlan> {
        plan_stream(&self.state(), self.analysed(sql)?, vec![], &self.parts)
    }

    fn explained(&self, sql: &str) -> String {
        self.stream(sql)
            .map_or_else(|error| panic!("{sql}: {error:?}"), |plan| plan.explain().join("\n"))
    }

    fn refused(&self, sql: &str) -> Error {
        match self.stream(sql) {
            Ok(plan) => panic!("{sql} was planned:\n{}", plan.explain().join("\n")),
            Err(error) => error,
        }
    }

    /// Rows of a streaming query that ends.
    fn streamed(&self, sql: &str) -> Vec<String> {
        let mut rows = self.stream(sql).expect(sql).start(1).expect("start");
        let mut lines = Vec::new();
        block_on(async {
            while let Some(batch) = rows.next().await {
                lines.extend(text(&batch.expect("batch")));
            }
        });
        lines
    }

    /// Rows of a bounded query, by DataFusion.
    fn bounded(&self, sql: &str) -> Vec<String> {
        let state = self.state();
        let plan = self.analysed(sql).expect(sql);
        let batches = block_on(async {
            let plan = state.optimize(&plan).expect("optimize");
            let plan = state.create_physical_plan(&plan).await.expect("physical plan");
            datafusion::physical_plan::collect(plan, state.task_ctx()).await.expect("rows")
        });
        batches.iter().flat_map(text).collect()
    }
}

fn text(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).expect("formatter"))
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let values: Vec<String> =
                columns.iter().map(|column| column.value(row).to_string()).collect();
            values.join("|")
        })
        .collect()
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

#[test]
fn stateless_nexmark_queries_plan_without_exchange() {
    let world = World::nexmark();
    let queries = [
        "SELECT (bid).auction, (bid).bidder, (bid).price, (bid).channel, (bid).url, date_time, \
         (bid).extra FROM events WHERE event_type = 2",
        "SELECT (bid).auction, (bid).bidder, 0.908 * (bid).price AS price, date_time FROM events \
         WHERE event_type = 2",
        "SELECT (bid).auction, (bid).price FROM events WHERE event_type = 2 \
         AND mod((bid).auction, 123) = 0",
    ];
    for sql in queries {
        let text = world.explained(sql);
        assert!(text.contains("[to-one]"), "{text}");
        assert!(!text.contains("partitioned"), "{text}");
    }
}

#[test]
fn window_is_partitioned_by_its_keys_and_reads_only_its_columns() {
    let world = World::nexmark();
    let text = world.explained(
        "SELECT window_start, window_end, auction, count(*) AS n FROM TABLE(HOP(TABLE \
         (SELECT (bid).auction AS auction, date_time FROM events WHERE event_type = 2), \
         DESCRIPTOR(date_time), INTERVAL '10' SECOND, INTERVAL '2' SECOND)) \
         GROUP BY window_start, window_end, auction HAVING count(*) > 1",
    );
    assert!(text.contains("[partitioned by"), "{text}");
    assert!(text.contains("hop(window 10 s, slide 2 s)"), "{text}");
    assert!(!text.contains("person"), "{text}");
}

#[test]
fn job_into_a_table_is_partitioned_by_the_tables_key() {
    let world = World::nexmark();
    let table = world.table("t", &[("v", DataType::Int64), ("k", DataType::Int64)], &[1]);
    let plan = world.analysed("SELECT id AS v, k FROM numbers").expect("plan");
    let target = JobTarget::Table { table, mode: WriteMode::Upsert };
    let dag = plan_job(&world.state(), plan, &target, &world.parts).expect("job");
    let text = explain::dag_text(&dag).join("\n");
    assert!(text.starts_with("sink(t) (one per worker): upsert(t)"), "{text}");
    assert!(text.contains("[partitioned by k]"), "{text}");
}

#[test]
fn job_whose_columns_are_not_the_targets_is_refused() {
    let world = World::nexmark();
    let table = world.table("t", &[("v", DataType::Int64)], &[0]);
    let target = JobTarget::Table { table, mode: WriteMode::Insert };
    for (sql, code) in
        [("SELECT id, k FROM numbers", "42601"), ("SELECT id::text FROM numbers", "42804")]
    {
        let plan = world.analysed(sql).expect("plan");
        match plan_job(&world.state(), plan, &target, &world.parts) {
            Ok(dag) => panic!("{sql}: {:?}", explain::dag_text(&dag)),
            Err(error) => assert_eq!(error.code, code, "{sql}: {error}"),
        }
    }
}

#[test]
fn endless_state_is_refused_with_what_to_use_instead() {
    let world = World::nexmark();
    let cases = [
        ("SELECT k, count(*) FROM numbers GROUP BY k", "TUMBLE"),
        ("SELECT DISTINCT k FROM numbers", "TUMBLE"),
        ("SELECT id FROM numbers ORDER BY id", "CREATE JOB"),
        ("SELECT id, row_number() OVER (ORDER BY id) FROM numbers", "CREATE JOB"),
        ("SELECT a.id FROM numbers a JOIN numbers b ON a.id = b.id", "CREATE JOB"),
        (
            "SELECT window_end, count(*) FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), \
             INTERVAL '1' SECOND)) GROUP BY window_end",
            "WATERMARK FOR ts",
        ),
        ("SELECT 1 FROM numbers WHERE id IN (SELECT id FROM numbers)", "FROM"),
    ];
    for (sql, hint) in cases {
        let error = world.refused(sql);
        assert_eq!(error.code, "0A000", "{sql}: {error}");
        assert!(error.hint.as_deref().is_some_and(|text| text.contains(hint)), "{sql}: {error:?}");
    }
}

#[test]
fn malformed_window_arguments_are_named() {
    let world = World::nexmark();
    let named = "TUMBLE(window_size => INTERVAL '1' SECOND, input => TABLE few, time_col => DESCRIPTOR(ts))";
    assert!(world.analysed(&format!("SELECT * FROM TABLE({named})")).is_ok());
    for (call, code) in [
        ("TUMBLE(TABLE few, DESCRIPTOR(ts), INTERVAL '0' SECOND)", "42804"),
        ("TUMBLE(TABLE few, DESCRIPTOR(ts), INTERVAL '1' MONTH)", "42804"),
        ("TUMBLE(TABLE few, DESCRIPTOR(ts))", "42883"),
        ("TUMBLE(TABLE few, DESCRIPTOR(nothing), INTERVAL '1' SECOND)", "42703"),
        ("TUMBLE(TABLE few, DESCRIPTOR(ts), INTERVAL '1' SECOND, slide => 1)", "42883"),
        ("SESSION(TABLE few, DESCRIPTOR(ts), INTERVAL '1' SECOND)", "0A000"),
        ("few TABLESAMPLE BERNOULLI (10)", "0A000"),
    ] {
        let error = world.analysed(&format!("SELECT * FROM {call}")).expect_err(call);
        assert_eq!(error.code, code, "{call}: {error}");
    }
}

/// The same query over the same rows, as a dag and by DataFusion.
#[test]
fn dag_and_datafusion_answer_alike() {
    let world = World::nexmark();
    let window = |function: &str, select: &str, group: &str| {
        format!("SELECT {select} FROM TABLE({function}) GROUP BY {group}")
    };
    let tumble = "TUMBLE(TABLE few, DESCRIPTOR(ts), INTERVAL '0.0002' SECOND)";
    let hop = "HOP(TABLE few, DESCRIPTOR(ts), 500, 200)";
    let queries = [
        "SELECT id, k + v AS s, -k FROM few WHERE id % 3 = 1 OR k > 5".to_owned(),
        "SELECT count(*) FROM few".replace("count(*)", "id"),
        "SELECT id FROM few UNION ALL SELECT k FROM few WHERE id < 10".to_owned(),
        format!("SELECT id, window_start, window_end FROM TABLE({hop})"),
        window(tumble, "window_end, count(*), sum(v), avg(v)", "window_start, window_end"),
        window(tumble, "k % 3 AS g, window_start, min(v), max(id)", "k % 3, window_start"),
        window(
            hop,
            "k, window_end, count(DISTINCT v), sum(v) FILTER (WHERE id > 20)",
            "k, window_end",
        ),
        window(hop, "window_end, count(*) AS n", "window_end HAVING count(*) > 2"),
        window(tumble, "DISTINCT window_start, k", "window_start, k"),
        "SELECT v FROM TABLE(generate_series(3, 9, 2))".to_owned(),
    ];
    for sql in &queries {
        assert_eq!(sorted(world.streamed(sql)), sorted(world.bounded(sql)), "{sql}");
        assert!(!world.streamed(sql).is_empty(), "{sql} answers nothing");
    }
}

#[test]
fn stream_joins_a_table_by_its_key_as_the_bounded_join_does() {
    let world = World::nexmark();
    let table = world.table("t", &[("id", DataType::Int64), ("w", DataType::Int64)], &[0]);
    for id in 0..50 {
        let row = vec![Datum::Int(id), Datum::Int(id * 10)];
        table.write(&KeyedWrite::Put { mode: WriteMode::Insert, row }).expect("write");
    }
    let series = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
    let sql = "SELECT s.v, t.w FROM TABLE(generate_series(48, 51)) s JOIN t ON s.v = t.id";
    assert_eq!(sorted(world.streamed(sql)), series(&["48|480", "49|490"]));
    let sql = "SELECT s.v, t.w FROM TABLE(generate_series(48, 51)) s \
               LEFT JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON s.v = t.id AND t.w > 480";
    assert_eq!(sorted(world.streamed(sql)), series(&["48|NULL", "49|490", "50|NULL", "51|NULL"]));
    let sql = "SELECT t.w, s.v FROM t JOIN TABLE(generate_series(1, 2)) s ON s.v = t.id";
    assert_eq!(sorted(world.streamed(sql)), series(&["10|1", "20|2"]));
    let error = world.refused("SELECT s.id FROM numbers s JOIN t ON s.id = t.w");
    assert!(error.hint.is_some_and(|hint| hint.contains("id")), "the key is named");
}

#[test]
fn limit_ends_a_stream_also_inside_a_bounded_query() {
    let world = World::nexmark();
    assert_eq!(
        world.streamed("SELECT v FROM TABLE(generate_stream(100000)) LIMIT 3"),
        ["0", "1", "2"]
    );
    assert_eq!(
        world.bounded("SELECT count(*) FROM (SELECT id FROM numbers LIMIT 50) AS q"),
        ["50"]
    );
}
