//! What streaming queries become, and that they answer what DataFusion answers over the same rows:
//! the two ways of planning are each other's oracle.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    execution::{SessionState, SessionStateBuilder},
    logical_expr::LogicalPlan,
    prelude::{SessionConfig, SessionContext},
    sql::parser::DFParserBuilder,
};
use futures::{StreamExt, executor::block_on};
use runtime::{
    connector::MappingRequest,
    connectors,
    execution::{Engine, EngineConfig},
};
use storage::{
    Grid, GridConfig, Table,
    cluster::control::{Command, MappingRecord, ObjectId, ObjectName, TableRecord},
    env::Env,
};

use super::{JobTarget, StreamParts, plan_stream};
use crate::{
    Error, Result,
    catalog::{mapping::MappingProvider, provider::GridTable},
    functions::stream::install,
    parse::TidewaterDialect,
    rules::{self},
    stream_plan::StreamPlan,
};

/// A planner's world without its front door.
struct World {
    parts: StreamParts,
    context: SessionContext,
}

impl World {
    fn new() -> Self {
        let grid = Grid::open(GridConfig::default(), Env::real()).expect("grid");
        let config = EngineConfig { worker_count: 2, queue_capacity: 4 };
        let engine = Engine::start(config, Arc::clone(&grid)).expect("engine");
        let parts = StreamParts { grid, engine, connectors: connectors::built_in() };
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

    fn discard(&self, name: &str, schema: SchemaRef) -> JobTarget {
        JobTarget::Mapping(Arc::new(MappingRecord {
            id: ObjectId(0),
            name: ObjectName::public(name),
            external_name: name.to_owned(),
            connector: "Discard".to_owned(),
            options: BTreeMap::new(),
            schema,
            columns: vec![],
            watermark: None,
        }))
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
        let batches = block_on(async {
            let plan = self.analysed(sql).expect(sql);
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
