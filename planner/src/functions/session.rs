//! Functions whose answer depends on the session or the moment: `now()`, `current_user`,
//! `current_setting('x')`. DataFusion would fold them while planning, and a plan outlives that; so
//! they are volatile, and [`bind_session`] puts their values into a plan at each execution. In a
//! continuous query they stay and are asked once per batch.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc};

use arrow::{
    array::{Array, AsArray, ListArray, StringArray},
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{DataType, Field, TimeUnit},
};
use datafusion::{
    common::{
        config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions},
        tree_node::{Transformed, TreeNode},
    },
    error::{DataFusionError, Result},
    logical_expr::{
        ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF,
        expr_rewriter::NamePreserver,
    },
    scalar::ScalarValue,
};
use storage::{Grid, cluster::control::ControlState, env::Env};

use super::{
    error::user_error,
    function::{Body, Function, TypeRule, answer, array_argument, constant_text},
};
use crate::{Interrupt, Session, planner::SessionDirectory, text::TimeZone};

/// What PostgreSQL would be at this version of ours; drivers parse the first words.
pub const SERVER_VERSION: &str = "15.0";

/// What functions may know of the session that calls them; travels in DataFusion's configuration.
#[derive(Clone)]
pub struct SessionFacts {
    /// Clock and randomness.
    pub env: Env,
    /// The catalog when the statement began.
    pub state: Arc<ControlState>,
    /// Where the sizes of tables are known.
    pub grid: Arc<Grid>,
    /// All connections.
    pub directory: Arc<dyn SessionDirectory>,
    /// User name.
    pub user: String,
    /// Database name.
    pub database: String,
    /// Session id.
    pub session_id: i32,
    /// Settings by lower-case name.
    pub settings: Arc<BTreeMap<String, String>>,
    /// The moment `now()` stands for, µs since the epoch; `None` asks the clock.
    pub now: Option<i64>,
    /// The moment `statement_timestamp()` stands for; `None` asks the clock.
    pub statement_began_at: Option<i64>,
    /// What stops planning.
    pub interrupt: Interrupt,
}

impl SessionFacts {
    /// The facts of a session.
    pub fn new(session: &Session, grid: &Arc<Grid>, directory: Arc<dyn SessionDirectory>) -> Self {
        Self {
            env: grid.env().clone(),
            state: grid.control().state(),
            grid: Arc::clone(grid),
            directory,
            user: session.user.clone(),
            database: session.database.clone(),
            session_id: session.id,
            settings: Arc::new(session.settings.clone()),
            now: session.block_began_at,
            statement_began_at: None,
            interrupt: session.interrupt.clone(),
        }
    }

    /// The moment `now()` stands for, µs since the epoch.
    pub fn now(&self) -> i64 {
        self.now.unwrap_or_else(|| self.env.clock.now_micros())
    }

    /// The schemas that unqualified names are looked up in.
    pub fn search_path(&self) -> Vec<String> {
        let path = self.settings.get("search_path").map_or("public", String::as_str);
        path.split(',')
            .map(|name| name.trim().trim_matches('"').to_owned())
            .filter(|name| !name.is_empty() && name != "$user")
            .collect()
    }
}

impl fmt::Debug for SessionFacts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("SessionFacts");
        debug.field("session_id", &self.session_id).field("user", &self.user).finish()
    }
}

impl ConfigExtension for SessionFacts {
    const PREFIX: &'static str = "tidewater";
}

impl ExtensionOptions for SessionFacts {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        Err(DataFusionError::Configuration(format!("\"{key}\" is not an option")))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// The facts a function was called with.
pub fn facts(args: &ScalarFunctionArgs) -> Result<&SessionFacts> {
    let found = args.config_options.extensions.get::<SessionFacts>();
    found.ok_or_else(|| user_error("XX000", "a function was called outside of a session"))
}

/// The session's time zone; UTC outside of any.
pub fn time_zone(args: &ScalarFunctionArgs) -> TimeZone {
    let facts = args.config_options.extensions.get::<SessionFacts>();
    let name = facts.and_then(|facts| facts.settings.get("timezone"));
    name.and_then(|name| TimeZone::of_setting(name).ok()).unwrap_or(TimeZone::Utc)
}

/// Puts the values of session functions into a plan that is about to run: one moment for all.
pub fn bind_session(plan: LogicalPlan, facts: &SessionFacts) -> Result<LogicalPlan> {
    let clock = facts.env.clock.now_micros();
    let statement_began_at = Some(facts.statement_began_at.unwrap_or(clock));
    let now = Some(facts.now.unwrap_or(clock));
    let facts = SessionFacts { now, statement_began_at, ..facts.clone() };
    let mut config = ConfigOptions::default();
    config.extensions.insert(facts);
    let config = Arc::new(config);
    let bound = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let bound = expr.transform_up(|expr| bind_call(expr, &config))?;
            Ok(bound.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(bound.data)
}

/// Puts the session's search path into an expression that must be known while planning.
pub fn bind_search_path(expr: Expr, options: &ConfigOptions) -> Result<Expr> {
    let config = Arc::new(options.clone());
    let bound = expr.transform_up(|expr| match &expr {
        Expr::ScalarFunction(call)
            if matches!(call.func.name(), "current_schema" | "current_schemas") =>
        {
            bind_call(expr, &config)
        }
        _ => Ok(Transformed::no(expr)),
    })?;
    Ok(bound.data)
}

fn bind_call(expr: Expr, config: &Arc<ConfigOptions>) -> Result<Transformed<Expr>> {
    let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
    if !BOUND.contains(&call.func.name()) {
        return Ok(Transformed::no(expr));
    }
    let mut args = Vec::with_capacity(call.args.len());
    for arg in &call.args {
        let Expr::Literal(value, _) = arg else { return Ok(Transformed::no(expr)) };
        args.push(ColumnarValue::Scalar(value.clone()));
    }
    let types: Vec<DataType> = args.iter().map(ColumnarValue::data_type).collect();
    let field = |data_type: &DataType| Arc::new(Field::new("", data_type.clone(), true));
    let value = call.func.invoke_with_args(ScalarFunctionArgs {
        args,
        arg_fields: types.iter().map(field).collect(),
        number_rows: 1,
        return_field: field(&call.func.return_type(&types)?),
        config_options: Arc::clone(config),
    })?;
    Ok(Transformed::yes(Expr::Literal(ScalarValue::try_from_array(&value.to_array(1)?, 0)?, None)))
}

/// The functions that [`bind_session`] answers. What acts on something (`pg_cancel_backend`) is
/// not here: it must run once, when the statement does.
const BOUND: [&str; 14] = [
    "now",
    "statement_timestamp",
    "localtimestamp",
    "current_date",
    "current_time",
    "current_user",
    "current_database",
    "current_schema",
    "current_schemas",
    "current_setting",
    "pg_backend_pid",
    "pg_postmaster_start_time",
    "version",
    "txid_current",
];

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let volatile = |name, rule: TypeRule, body: Body| Function::new(name, rule, body).volatile();
    let instant: TypeRule = |_| Ok(timestamptz());
    let text: TypeRule = |_| Ok(DataType::Utf8);
    vec![
        volatile("now", instant, |args| Ok(instant_value(facts(args)?.now())))
            .aliased(&["current_timestamp", "transaction_timestamp"])
            .build(),
        volatile("statement_timestamp", instant, |args| {
            let facts = facts(args)?;
            let clock = || facts.env.clock.now_micros();
            Ok(instant_value(facts.statement_began_at.unwrap_or_else(clock)))
        })
        .build(),
        volatile("clock_timestamp", instant, |args| {
            Ok(instant_value(facts(args)?.env.clock.now_micros()))
        })
        .build(),
        volatile(
            "localtimestamp",
            |_| Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
            |args| Ok(scalar(ScalarValue::TimestampMicrosecond(Some(local(args)?), None))),
        )
        .build(),
        volatile(
            "current_date",
            |_| Ok(DataType::Date32),
            |args| Ok(scalar(ScalarValue::Date32(Some(local(args)?.div_euclid(DAY) as i32)))),
        )
        .aliased(&["today"])
        .build(),
        volatile(
            "current_time",
            |_| Ok(DataType::Time64(TimeUnit::Microsecond)),
            |args| Ok(scalar(ScalarValue::Time64Microsecond(Some(local(args)?.rem_euclid(DAY))))),
        )
        .aliased(&["localtime"])
        .build(),
        volatile("current_user", text, |args| Ok(text_value(&facts(args)?.user)))
            .aliased(&["session_user", "user", "current_role"])
            .build(),
        volatile("current_database", text, |args| Ok(text_value(&facts(args)?.database)))
            .aliased(&["current_catalog"])
            .build(),
        volatile("current_schema", text, |args| {
            let schema = facts(args)?.search_path().into_iter().next();
            Ok(scalar(ScalarValue::Utf8(schema)))
        })
        .build(),
        volatile("current_schemas", |_| Ok(text_list()), current_schemas).build(),
        volatile("current_setting", text, current_setting).build(),
        volatile("set_config", text, set_config).build(),
        volatile(
            "pg_backend_pid",
            |_| Ok(DataType::Int32),
            |args| Ok(scalar(ScalarValue::Int32(Some(facts(args)?.session_id)))),
        )
        .build(),
        volatile("pg_cancel_backend", |_| Ok(DataType::Boolean), pg_cancel_backend).build(),
        volatile("pg_postmaster_start_time", instant, |args| {
            // The oldest thing that is remembered of the process is its first connection.
            let sessions = facts(args)?.directory.sessions();
            let started = sessions.iter().map(|session| session.connected_at).min();
            Ok(instant_value(started.unwrap_or_else(i64::default)))
        })
        .build(),
        volatile("version", text, |_| Ok(text_value(&version()))).build(),
        volatile(
            "txid_current",
            |_| Ok(DataType::Int64),
            |args| Ok(scalar(ScalarValue::Int64(Some(facts(args)?.state.version as i64)))),
        )
        .aliased(&["pg_current_xact_id"])
        .build(),
    ]
}

const DAY: i64 = 86_400_000_000;

/// `PostgreSQL 15.0 (Tidewater 0.1.0)`.
pub fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (Tidewater {})", env!("CARGO_PKG_VERSION"))
}

fn timestamptz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The list type of a text array.
pub fn text_list() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
}

fn scalar(value: ScalarValue) -> ColumnarValue {
    ColumnarValue::Scalar(value)
}

/// A text that is the same for all rows.
pub fn text_value(text: &str) -> ColumnarValue {
    scalar(ScalarValue::Utf8(Some(text.to_owned())))
}

fn instant_value(micros: i64) -> ColumnarValue {
    scalar(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

/// What the clock on the session's wall shows, µs.
fn local(args: &ScalarFunctionArgs) -> Result<i64> {
    let now = facts(args)?.now();
    Ok(now + i64::from(time_zone(args).offset_seconds(now)) * 1_000_000)
}

fn current_schemas(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let with_implicit =
        matches!(args.args.first(), Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))));
    let mut schemas = facts(args)?.search_path();
    if with_implicit && !schemas.iter().any(|schema| schema == "pg_catalog") {
        schemas.insert(0, "pg_catalog".to_owned());
    }
    let values = StringArray::from(schemas);
    let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    let list = ListArray::new(field, offsets, Arc::new(values), None);
    Ok(scalar(ScalarValue::List(Arc::new(list))))
}

fn current_setting(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let facts = facts(args)?;
    let may_miss =
        matches!(args.args.get(1), Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))));
    let value_of = |name: &str| {
        let key = name.to_lowercase();
        let value = facts.settings.get(&key).map(String::as_str).or_else(|| fixed_setting(&key));
        match value {
            None if !may_miss => {
                let message = format!("unrecognized configuration parameter \"{name}\"");
                Err(user_error("42704", message))
            }
            value => Ok(value),
        }
    };
    let names = cast(&array_argument(args, 0)?, &DataType::Utf8)?;
    let names = names.as_string::<i32>().iter();
    let values: Result<StringArray> = names.map(|name| name.map_or(Ok(None), value_of)).collect();
    answer(args, Arc::new(values?))
}

/// Settings that tell what the server is and cannot be set.
pub fn fixed_setting(name: &str) -> Option<&'static str> {
    Some(match name {
        "server_version" => SERVER_VERSION,
        "server_version_num" => "150000",
        "server_encoding" | "client_encoding" => "UTF8",
        "is_superuser" => "on",
        "integer_datetimes" => "on",
        "max_identifier_length" => "63",
        "max_index_keys" => "32",
        "block_size" => "8192",
        "jit" => "off",
        "standard_conforming_strings" => "on",
        "transaction_isolation" | "default_transaction_isolation" => "read committed",
        "transaction_read_only" | "default_transaction_read_only" => "off",
        _ => return None,
    })
}

/// A function cannot change its session; only what would change nothing is accepted.
fn set_config(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (Some(name), Some(value)) = (constant_text(args, 0), constant_text(args, 1)) else {
        return Err(user_error("0A000", "set_config() needs constant arguments; use SET"));
    };
    let key = name.to_lowercase();
    let present = facts(args)?.settings.get(&key).map(String::as_str).or(fixed_setting(&key));
    if present == Some(value.as_str()) {
        return Ok(text_value(&value));
    }
    Err(user_error("0A000", format!("set_config() cannot change \"{name}\"; use SET")))
}

fn pg_cancel_backend(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let array = array_argument(args, 0)?;
    let ids = cast(&array, &DataType::Int32)?;
    let ids = ids.as_primitive::<arrow::datatypes::Int32Type>();
    let directory = &facts(args)?.directory;
    let answers = ids.iter().map(|id| id.map(|id| directory.cancel(id)));
    Ok(ColumnarValue::Array(Arc::new(answers.collect::<arrow::array::BooleanArray>())))
}
