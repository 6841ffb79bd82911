//! A bare DataFusion session with our rules and functions: what unit tests of this crate's SQL
//! semantics run on. No grid, no server.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use arrow::array::{Array, RecordBatch};
use datafusion::{
    error::{DataFusionError, Result},
    execution::{SessionStateBuilder, context::SessionContext},
    prelude::SessionConfig,
    sql::{
        parser::{DFParser, Statement},
        sqlparser::{ast::visit_relations, dialect::PostgreSqlDialect},
    },
};
use storage::{cluster::control::ControlState, env::Env};

use super::session::{SessionFacts, bind_session};
use crate::{
    planner::{QueryInfo, SessionDirectory, SessionInfo},
    rules,
};

struct NoSessions;

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
}

/// Facts of a session in a simulated world.
pub fn facts() -> SessionFacts {
    SessionFacts {
        env: Env::simulated(7).0,
        state: Arc::new(ControlState::default()),
        directory: Arc::new(NoSessions),
        user: "ann".to_owned(),
        database: "harbour".to_owned(),
        session_id: 41,
        settings: Arc::new(BTreeMap::new()),
        now: None,
    }
}

/// A session with everything of ours.
pub fn context() -> SessionContext {
    let mut config = SessionConfig::new().with_option_extension(facts()).with_target_partitions(1);
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

/// Runs one query.
pub fn run_in(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    let mut statement = DFParser::parse_sql_with_dialect(sql, &PostgreSqlDialect {})?
        .pop_front()
        .ok_or_else(|| DataFusionError::Plan("no statement".to_owned()))?;
    if let Statement::Statement(statement) = &mut statement {
        rules::rewrite_ast(statement.as_mut());
        let _ = visit_relations(statement.as_ref(), |_| ControlFlow::<()>::Continue(()));
    }
    futures::executor::block_on(async {
        let plan = context.state().statement_to_plan(statement).await?;
        let plan = bind_session(plan, &facts())?;
        context.execute_logical_plan(plan).await?.collect().await
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
    let root = match error.find_root() {
        DataFusionError::External(error) => error.downcast_ref::<runtime::Error>().cloned(),
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            arrow::error::ArrowError::ExternalError(error) => {
                error.downcast_ref::<runtime::Error>().cloned()
            }
            _ => None,
        },
        _ => None,
    };
    match root {
        Some(runtime::Error::User { code, message }) => format!("{code} {message}"),
        _ => format!("XX000 {error}"),
    }
}
