//! A bare DataFusion session with our rules and functions: what unit tests of this crate's SQL
//! semantics run on. No grid, no server.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{Array, RecordBatch};
use datafusion::{
    error::{DataFusionError, Result},
    execution::{SessionStateBuilder, context::SessionContext},
    prelude::{DataFrame, SessionConfig},
    sql::{
        parser::{DFParser, Statement},
        sqlparser::dialect::PostgreSqlDialect,
    },
};
use storage::{Grid, GridConfig, env::Env};

use super::session::{SessionFacts, bind_session};
use crate::{
    planner::{QueryInfo, SessionDirectory, SessionInfo},
    rules,
};

/// A server without connections.
pub struct NoSessions;

impl SessionDirectory for NoSessions {
    fn sessions(&self) -> Vec<SessionInfo> {
        Vec::new()
    }
    fn queries(&self) -> Vec<QueryInfo> {
        Vec::new()
    }
    fn cancel(&self, _: i32) -> bool {
        false
    }
    fn sleep(&self, _: std::time::Duration) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Facts of a session in a simulated world.
pub fn facts() -> SessionFacts {
    let env = Env::simulated(7).0;
    let grid = Grid::open(GridConfig::default(), env.clone()).unwrap();
    SessionFacts {
        env,
        state: grid.control().state(),
        grid,
        directory: Arc::new(NoSessions),
        user: "ann".to_owned(),
        database: "harbour".to_owned(),
        session_id: 41,
        settings: Arc::new(BTreeMap::new()),
        now: None,
        statement_began_at: None,
        interrupt: crate::Interrupt::default(),
    }
}

/// A session with everything of ours.
pub fn context() -> SessionContext {
    context_of(facts())
}

fn context_of(facts: SessionFacts) -> SessionContext {
    let mut config = SessionConfig::new().with_option_extension(facts).with_target_partitions(1);
    let options = config.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_analyzer_rules(rules::analyzer_rules())
        .with_type_planner(Arc::new(rules::PostgresTypes))
        .build();
    super::register(&mut state).unwrap();
    SessionContext::new_with_state(state)
}

/// Plans one query to the last step before it runs.
pub fn plan_in(context: &SessionContext, sql: &str) -> Result<()> {
    let frame = frame_of(context, sql)?;
    futures::executor::block_on(frame.create_physical_plan()).map(|_| ())
}

/// Runs one query.
pub fn run_in(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    futures::executor::block_on(frame_of(context, sql)?.collect())
}

fn frame_of(context: &SessionContext, sql: &str) -> Result<DataFrame> {
    let mut statement = DFParser::parse_sql_with_dialect(sql, &PostgreSqlDialect {})?
        .pop_front()
        .ok_or_else(|| DataFusionError::Plan("no statement".to_owned()))?;
    if let Statement::Statement(statement) = &mut statement {
        rules::rewrite_ast(statement.as_mut());
    }
    let state = context.state();
    let with_missing = match &statement {
        Statement::Statement(statement) => super::missing::with_missing(&state, statement.as_ref()),
        _ => None,
    };
    let state = with_missing.unwrap_or(state);
    futures::executor::block_on(async {
        let plan = state.statement_to_plan(statement).await?;
        let plan = bind_session(plan, &facts())?;
        context.execute_logical_plan(plan).await
    })
}

/// The rows of a query, columns joined by `|`, NULL as `NULL`.
pub fn rows_in(context: &SessionContext, sql: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in run_in(context, sql).unwrap() {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| {
                let text = arrow::util::display::array_value_to_string(column, row).unwrap();
                if column.is_null(row) { "NULL".to_owned() } else { text }
            });
            rows.push(values.collect::<Vec<_>>().join("|"));
        }
    }
    rows
}

/// The rows of a query without tables.
pub fn rows_of(sql: &str) -> Vec<String> {
    rows_in(&context(), sql)
}

/// The only row of a query without tables.
pub fn value_of(sql: &str) -> String {
    let rows = rows_of(sql);
    assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
    rows.into_iter().next().unwrap_or_default()
}

/// `SQLSTATE message` of the error a query ends in.
pub fn error_of(sql: &str) -> String {
    error_in(&context(), sql)
}

/// The same, in a session with tables.
pub fn error_in(context: &SessionContext, sql: &str) -> String {
    let error = run_in(context, sql).expect_err(sql);
    let text = format!("XX000 {error}");
    let root: Option<&(dyn std::error::Error + 'static)> = match error.find_root() {
        DataFusionError::External(error) => Some(error.as_ref()),
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            arrow::error::ArrowError::ExternalError(error) => Some(error.as_ref()),
            _ => None,
        },
        _ => None,
    };
    let Some(root) = root else { return text };
    if let Some(error) = root.downcast_ref::<crate::Error>() {
        return format!("{} {}", error.code, error.message);
    }
    match root.downcast_ref::<runtime::Error>() {
        Some(runtime::Error::User { code, message }) => format!("{code} {message}"),
        _ => text,
    }
}

/// A session over a grid with one table, one mapping and one view, and the system's schemas.
pub fn system_context() -> SessionContext {
    use runtime::{
        execution::{Engine, EngineConfig},
        job::Jobs,
    };
    use storage::cluster::control::Command;

    let grid = Grid::open(GridConfig::default(), Env::simulated(7).0).unwrap();
    grid.create_table(table_record()).unwrap();
    let (mapping, view) = (mapping_record(), view_record());
    let control = grid.control();
    control.submit(&Command::CreateMapping { record: mapping, replace: false }).unwrap();
    control.submit(&Command::CreateView { record: view, replace: false }).unwrap();
    let config = EngineConfig { worker_count: 1, queue_capacity: 16, ..EngineConfig::default() };
    let engine = Engine::start(config, Arc::clone(&grid)).unwrap();
    let jobs = Jobs::open(Arc::clone(&grid), engine);
    let state = grid.control().state();
    let facts = SessionFacts { state, grid: Arc::clone(&grid), ..facts() };
    let parts = crate::catalog::sys::SystemParts { grid, jobs, directory: Arc::new(NoSessions) };
    let context = context_of(facts);
    let catalog = context.catalog("datafusion").unwrap();
    let schemas = [
        ("sys", crate::catalog::sys::schema(parts.clone())),
        ("pg_catalog", crate::catalog::pg::pg_catalog(parts.clone())),
        ("information_schema", crate::catalog::pg::information_schema(parts)),
    ];
    for (name, schema) in schemas {
        catalog.register_schema(name, schema).unwrap();
    }
    context
}

fn columns(declared: &[(&str, &str, bool)]) -> Vec<storage::cluster::control::ColumnRecord> {
    let column = |(name, sql_type, is_not_null): &(&str, &str, bool)| {
        storage::cluster::control::ColumnRecord {
            name: (*name).to_owned(),
            sql_type: (*sql_type).to_owned(),
            is_not_null: *is_not_null,
            default_sql: (*name == "ts").then(|| "now()".to_owned()),
            external_name: None,
        }
    };
    declared.iter().map(column).collect()
}

fn schema_of(columns: &[storage::cluster::control::ColumnRecord]) -> arrow::datatypes::SchemaRef {
    let field = |column: &storage::cluster::control::ColumnRecord| {
        let sql_type = crate::parse::data_type(&column.sql_type).unwrap();
        sql_type.field(&column.name, !column.is_not_null)
    };
    Arc::new(arrow::datatypes::Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn table_record() -> storage::cluster::control::TableRecord {
    let columns = columns(&[
        ("k", "bigint", false),
        ("v", "text", true),
        ("n", "numeric(10,2)", false),
        ("ts", "timestamp with time zone", false),
    ]);
    let schema = schema_of(&columns);
    let record = storage::cluster::control::TableRecord::new("t", schema, &[0]);
    storage::cluster::control::TableRecord { columns, ..record }
}

fn mapping_record() -> storage::cluster::control::MappingRecord {
    let columns = columns(&[("a", "integer", false)]);
    storage::cluster::control::MappingRecord {
        id: storage::cluster::control::ObjectId(0),
        name: storage::cluster::control::ObjectName::public("m"),
        external_name: "m".to_owned(),
        connector: "Kafka".to_owned(),
        options: BTreeMap::from([("valueFormat".to_owned(), "json-flat".to_owned())]),
        schema: schema_of(&columns),
        columns,
        watermark: None,
    }
}

fn view_record() -> storage::cluster::control::ViewRecord {
    let columns = columns(&[("k", "bigint", false)]);
    storage::cluster::control::ViewRecord {
        id: storage::cluster::control::ObjectId(0),
        name: storage::cluster::control::ObjectName::public("vw"),
        sql: "SELECT k FROM t".to_owned(),
        schema: schema_of(&columns),
        columns,
    }
}
