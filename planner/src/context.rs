//! What every planning starts from: DataFusion's state with our catalog, functions, rules and
//! limits. One base state is built at start; a statement plans on a clone of it that carries its
//! session's settings.

use std::sync::{Arc, OnceLock};

use datafusion::{
    catalog::{CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider},
    common::DataFusionError,
    datasource::ViewTable,
    execution::{
        SessionState, SessionStateBuilder,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::GreedyMemoryPool,
        runtime_env::RuntimeEnvBuilder,
    },
    logical_expr::{LogicalPlan, LogicalPlanBuilder, col},
    prelude::SessionConfig,
    sql::{
        parser::Statement as DataFusionStatement,
        sqlparser::ast::{self, Statement as Ast},
    },
};
use storage::cluster::control::{MappingRecord, ViewRecord};

use crate::{
    Result, Session,
    catalog::{
        changes::ChangesSpec,
        mapping::MappingProvider,
        pg,
        provider::OpenBlock,
        schema::{CATALOG, GridCatalog, PublicSchema, RETURNED_SCHEMA, ROWS_SCHEMA, Shown},
        sys,
        system_table::SystemParts,
    },
    functions::{self, SessionFacts, external},
    lower::StreamParts,
    origins::view_mark,
    parse::{self, widths},
    planner::PlannerParts,
    rules,
};

/// Rows in a batch that DataFusion makes.
pub const BATCH_ROWS: usize = 8_192;

/// What plannings share.
pub struct Context {
    /// What the planner was opened with.
    pub parts: PlannerParts,
    /// What dags are made of.
    pub stream: StreamParts,
    base: SessionState,
}

impl Context {
    /// Builds the base state.
    pub fn new(parts: PlannerParts) -> Result<Arc<Self>> {
        let this = Arc::new(OnceLock::new());
        let public = |shown| -> Arc<dyn SchemaProvider> {
            Arc::new(PublicSchema::new(Arc::clone(&parts.grid), shown, Arc::clone(&this)))
        };
        let system = || SystemParts {
            grid: Arc::clone(&parts.grid),
            jobs: Arc::clone(&parts.jobs),
            directory: Arc::clone(&parts.directory),
        };
        let mut schemas = vec![
            ("sys", sys::schema(system())),
            ("pg_catalog", pg::pg_catalog(system())),
            ("information_schema", pg::information_schema(system())),
            ("public", public(Shown::Visible)),
            (ROWS_SCHEMA, public(Shown::Rows)),
            (RETURNED_SCHEMA, public(Shown::Returned)),
        ];
        let changes = ChangesSpec::SCHEMAS;
        schemas.extend(changes.map(|(name, spec)| (name, public(Shown::Changes(spec)))));
        let catalog = GridCatalog::new(schemas);
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(parts.query_memory_max)))
            .with_disk_manager_builder(
                DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
            )
            .build_arc()?;
        let stream = StreamParts {
            grid: Arc::clone(&parts.grid),
            engine: Arc::clone(&parts.engine),
            connectors: parts.connectors.clone(),
        };
        let builder = SessionStateBuilder::new()
            .with_default_features()
            .with_config(configuration(parts.lane_count))
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(catalogs))
            .with_analyzer_rules(rules::analyzer_rules())
            .with_optimizer_rules(rules::optimizer_rules())
            .with_type_planner(Arc::new(rules::PostgresTypes));
        let mut base = functions::stream::install(builder, &stream).build();
        functions::register(&mut base)?;
        let context = Arc::new(Self { parts, stream, base });
        let _ = this.set(Arc::downgrade(&context));
        Ok(context)
    }

    /// A state for one statement of a session.
    pub fn state(&self, session: &Session) -> SessionState {
        let mut state = self.base.clone();
        let facts = self.facts(session);
        state.config_mut().options_mut().extensions.insert(facts);
        if session.writer.is_some() {
            state.config_mut().set_extension(Arc::new(OpenBlock));
        }
        // Expressions take the configuration, and with it the facts, from here.
        state.mark_start_execution();
        state
    }

    /// What functions such as `current_user` and `now()` answer in a session.
    pub fn facts(&self, session: &Session) -> SessionFacts {
        SessionFacts::new(session, &self.parts.grid, Arc::clone(&self.parts.directory))
    }

    /// The facts a state was made with.
    pub fn facts_of(&self, state: &SessionState) -> Result<SessionFacts> {
        let facts = state.config().options().extensions.get::<SessionFacts>();
        facts.cloned().ok_or_else(|| crate::Error::new("XX000", "internal error: no session facts"))
    }

    /// Plans a query as it was written; its placeholders stay.
    pub fn plan_query(&self, state: &SessionState, query: &ast::Query) -> Result<LogicalPlan> {
        Ok(futures::executor::block_on(plan_query(state, query))?)
    }

    /// A mapping as a relation.
    pub fn mapping_provider(
        &self,
        record: Arc<MappingRecord>,
    ) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        Ok(MappingProvider::new(record, self.stream.clone()))
    }

    /// A view as a relation: its query under the column names it was created with.
    pub async fn view_provider(
        &self,
        record: &ViewRecord,
    ) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let query = parse::parse_query(&record.sql)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        // A view may stand on views; each level is a future inside a future.
        let plan = Box::pin(plan_query(&self.base, &query)).await?;
        let names = record.columns.iter().map(|column| column.name.as_str());
        let plan = rename(plan, names)?;
        let plan = LogicalPlanBuilder::from(plan).alias(view_mark(record.id))?.build()?;
        Ok(Arc::new(ViewTable::new(plan, Some(record.sql.clone()))))
    }
}

async fn plan_query(
    state: &SessionState,
    query: &ast::Query,
) -> datafusion::common::Result<LogicalPlan> {
    widths::check_query(query).map_err(external)?;
    let mut query = query.clone();
    rules::wildcards::expand(state, &mut query).await?;
    let with_rows = rules::literal_rows::take(state, &mut query).await?;
    let state = with_rows.as_ref().unwrap_or(state);
    let mut statement = Ast::Query(Box::new(query));
    rules::rewrite_ast(&mut statement);
    let with_missing = functions::missing::with_missing(state, &statement);
    let state = with_missing.as_ref().unwrap_or(state);
    let plan = state.statement_to_plan(DataFusionStatement::Statement(Box::new(statement))).await?;
    widths::check_plan(&plan).map_err(external)?;
    Ok(plan)
}

/// The plan with its columns called `names`, by position.
pub fn rename<'a>(
    plan: LogicalPlan,
    names: impl Iterator<Item = &'a str>,
) -> datafusion::common::Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let expressions: Vec<_> =
        columns.into_iter().zip(names).map(|(column, name)| col(column).alias(name)).collect();
    LogicalPlanBuilder::from(plan).project(expressions)?.build()
}

/// A join's smaller side up to this is built once for all lanes: sending the larger side's rows to the
/// lane of their key costs more than building in one lane.
const BUILD_SIDE_BYTES_MAX: usize = 64 << 20;
/// The same in rows.
const BUILD_SIDE_ROWS_MAX: usize = 2_000_000;

fn configuration(lane_count: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(lane_count)
        .with_batch_size(BATCH_ROWS)
        .with_default_catalog_and_schema(CATALOG, "public")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.parse_float_as_decimal = true;
    options.optimizer.hash_join_single_partition_threshold = BUILD_SIDE_BYTES_MAX;
    options.optimizer.hash_join_single_partition_threshold_rows = BUILD_SIDE_ROWS_MAX;
    config
}
