//! Statement → what is prepared of it, and that → plan. Flat dispatch: each kind of statement is
//! carried out in its own file.

use std::sync::{Arc, atomic::AtomicU64};

use datafusion::{
    common::tree_node::TreeNodeRecursion, datasource::DefaultTableSource,
    logical_expr::LogicalPlan, sql::sqlparser::ast::visit_relations,
};
use storage::{
    Datum,
    cluster::control::{ObjectId, ObjectName, state::Relation},
};

use crate::{
    Error, OutputColumn, Plan, Prepared, Result, Session, SqlType, Statement,
    cache::Shaped,
    catalog::resolve,
    context::Context,
    ddl,
    dml::{self, CopyRows, Emptied, MappingInsert, Modify, PreparedMappingInsert, PreparedModify},
    error::placed,
    explain,
    keyed::{self, KeyedPlan},
    lower,
    parse::{self, CopyDirection, StatementKind},
    plan::{
        CommandOutcome, CommandPlan, CopyIn, ModifyPlan, ModifyWork, QueryPlan, SessionStatement,
        Work,
    },
    planner::Objects,
    query::{BoundQuery, PreparedQuery, analyse},
    rules::unbounded,
};

/// What is known of a statement before its values are.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once a statement and kept behind an Arc")]
pub(crate) enum Prepare {
    /// A statement about one full key.
    Keyed(Arc<KeyedPlan>),
    /// A query.
    Query(PreparedQuery),
    /// A write of many rows.
    Modify(Arc<PreparedModify>),
    /// A write of rows into a mapping.
    MappingInsert(Arc<PreparedMappingInsert>),
    /// COPY … TO STDOUT of a query.
    CopyOut(Arc<Prepared>),
    /// EXPLAIN of a statement.
    Explain(Arc<Prepared>),
    /// All that needs no preparation.
    Statement,
}

/// Resolves a statement.
pub(crate) fn prepare(
    context: &Arc<Context>,
    session: &Session,
    statement: &Statement,
    hints: &[Option<SqlType>],
) -> Result<Prepared> {
    let version = context.parts.grid.control().state().catalog_version;
    if let Some(plan) = keyed::recognise(&context.parts.grid, &statement.kind, hints) {
        let plan = Arc::new(plan);
        return Ok(Prepared {
            statement: statement.clone(),
            parameters: plan.parameters().to_vec(),
            columns: plan.columns.clone(),
            objects: keyed_objects(&plan, version),
            work: Prepare::Keyed(plan),
        });
    }
    let (work, parameters, columns) = work(context, session, statement, hints)?;
    let mut named = Vec::new();
    collect_objects(context, &statement.kind, &work, &mut named);
    let objects = Objects { named, checked_at: AtomicU64::new(version) };
    Ok(Prepared { statement: statement.clone(), parameters, columns, work, objects })
}

/// The keyed plan of a statement that is a shape.
pub(crate) fn shaped(context: &Arc<Context>, _session: &Session, statement: &Statement) -> Shaped {
    let version = context.parts.grid.control().state().catalog_version;
    match keyed::recognise(&context.parts.grid, &statement.kind, &[]) {
        Some(plan) => {
            let objects = keyed_objects(&plan, version);
            Shaped { plan: Some(Arc::new(plan)), objects }
        }
        None => {
            // It may become keyed when its table is created or dropped.
            let mut named = Vec::new();
            named_relations(context, &statement.kind, &mut named);
            Shaped { plan: None, objects: Objects { named, checked_at: AtomicU64::new(version) } }
        }
    }
}

fn keyed_objects(plan: &KeyedPlan, version: u64) -> Objects {
    let record = plan.table.record();
    let named = vec![(record.name.clone(), record.id)];
    Objects { named, checked_at: AtomicU64::new(version) }
}

type Known = (Prepare, Vec<SqlType>, Option<Vec<OutputColumn>>);

fn work(
    context: &Arc<Context>,
    session: &Session,
    statement: &Statement,
    hints: &[Option<SqlType>],
) -> Result<Known> {
    let modify = |prepared: PreparedModify| {
        let (parameters, columns) = (prepared.parameters().to_vec(), prepared.columns());
        (Prepare::Modify(Arc::new(prepared)), parameters, columns)
    };
    let text_column = |name: &str| Some(vec![OutputColumn::computed(name, SqlType::Text)]);
    Ok(match statement.kind.as_ref() {
        StatementKind::Query(query) => {
            let prepared = PreparedQuery::new(context, session, query, hints)?;
            let (parameters, columns) = (prepared.parameters.clone(), prepared.columns.clone());
            (Prepare::Query(prepared), parameters, Some(columns))
        }
        StatementKind::Insert { insert, is_sink } => {
            if let Some(mapping) = dml::mapping_target(context, insert) {
                let prepared =
                    dml::prepare_mapping_insert(context, session, insert, mapping, hints)?;
                let parameters = prepared.source.parameters.clone();
                return Ok((Prepare::MappingInsert(Arc::new(prepared)), parameters, None));
            }
            modify(dml::prepare_insert(context, session, insert, *is_sink, hints)?)
        }
        StatementKind::Update(update) => {
            modify(dml::prepare_update(context, session, update, hints)?)
        }
        StatementKind::Delete(delete) => {
            modify(dml::prepare_delete(context, session, delete, hints)?)
        }
        StatementKind::Explain { statement, .. } => {
            let inner = Arc::new(prepare(context, session, statement, hints)?);
            let parameters = inner.parameters.clone();
            (Prepare::Explain(inner), parameters, text_column("QUERY PLAN"))
        }
        StatementKind::Copy(copy) => match &copy.direction {
            CopyDirection::In { .. } => (Prepare::Statement, Vec::new(), None),
            CopyDirection::Out(source) => {
                let inner = prepare(context, session, source, hints)?;
                let (parameters, columns) = (inner.parameters.clone(), inner.columns.clone());
                (Prepare::CopyOut(Arc::new(inner)), parameters, columns)
            }
        },
        StatementKind::ShowObjects(_) => (Prepare::Statement, Vec::new(), text_column("name")),
        StatementKind::ExplainJob(_) => (Prepare::Statement, Vec::new(), text_column("QUERY PLAN")),
        StatementKind::ShowSetting(name) => {
            (Prepare::Statement, Vec::new(), Some(setting_columns(name)))
        }
        _ => (Prepare::Statement, Vec::new(), None),
    })
}

/// Columns of SHOW.
fn setting_columns(name: &str) -> Vec<OutputColumn> {
    let column = |name: &str| OutputColumn::computed(name, SqlType::Text);
    match name {
        "all" => vec![column("name"), column("setting"), column("description")],
        // PostgreSQL spells this one so.
        "timezone" => vec![column("TimeZone")],
        name => vec![column(name)],
    }
}

/// Puts values into a prepared statement.
pub(crate) fn bind(
    context: &Arc<Context>,
    session: &Session,
    prepared: &Arc<Prepared>,
    values: &[Datum],
) -> Result<Plan> {
    match &prepared.work {
        Prepare::Keyed(plan) => Ok(Plan::Keyed(Arc::clone(plan), values.to_vec())),
        Prepare::Query(query) => bind_query(context, session, query, values),
        Prepare::Modify(modify) => bind_modify(context, session, prepared, modify, values),
        Prepare::MappingInsert(insert) => {
            refuse_endless(&insert.source, prepared)?;
            let work = ModifyWork::Mapping(MappingInsert {
                context: Arc::clone(context),
                prepared: Arc::clone(insert),
                values: values.to_vec(),
            });
            Ok(Plan::Modify(ModifyPlan { columns: None, work }))
        }
        Prepare::CopyOut(inner) => match prepared.statement.kind.as_ref() {
            StatementKind::Copy(copy) => {
                let source = bind_unkeyed(context, session, inner, values)?;
                Ok(Plan::CopyOut { source: Box::new(source), options: copy.options.clone() })
            }
            _ => Err(Error::new("XX000", "internal error: no COPY")),
        },
        Prepare::Explain(inner) => {
            let is_verbose = matches!(
                prepared.statement.kind.as_ref(),
                StatementKind::Explain { is_verbose: true, .. }
            );
            let lines = explain_lines(context, session, inner, values, is_verbose)?;
            ddl::text_rows("QUERY PLAN", lines, "EXPLAIN")
        }
        Prepare::Statement => bind_statement(context, session, prepared),
    }
}

/// A query's rows as a stream, also where it is keyed: COPY and EXPLAIN want a plan.
fn bind_unkeyed(
    context: &Arc<Context>,
    session: &Session,
    prepared: &Arc<Prepared>,
    values: &[Datum],
) -> Result<Plan> {
    match (&prepared.work, prepared.statement.kind.as_ref()) {
        (Prepare::Keyed(_), StatementKind::Query(query)) => {
            let hints: Vec<_> = prepared.parameters.iter().cloned().map(Some).collect();
            let query = PreparedQuery::new(context, session, query, &hints)?;
            bind_query(context, session, &query, values)
        }
        _ => bind(context, session, prepared, values),
    }
}

fn bind_query(
    context: &Arc<Context>,
    session: &Session,
    query: &PreparedQuery,
    values: &[Datum],
) -> Result<Plan> {
    let state = context.state(session);
    let plan = query.with_values(values)?;
    let columns = query.columns.clone();
    if unbounded::is_unbounded(&plan) {
        let plan = analyse(&state, plan)?;
        return Ok(Plan::Stream(lower::plan_stream(&state, plan, columns, &context.stream)?));
    }
    let bound = BoundQuery::new(context, state, plan, columns.clone())?;
    Ok(Plan::Query(QueryPlan { columns, bound }))
}

fn bind_modify(
    context: &Arc<Context>,
    _session: &Session,
    prepared: &Arc<Prepared>,
    modify: &Arc<PreparedModify>,
    values: &[Datum],
) -> Result<Plan> {
    refuse_endless(modify.source(), prepared)?;
    let columns = modify.columns();
    let work = ModifyWork::Rows(Modify {
        context: Arc::clone(context),
        prepared: Arc::clone(modify),
        values: values.to_vec(),
    });
    Ok(Plan::Modify(ModifyPlan { columns, work }))
}

/// Refuses a write whose rows never end.
fn refuse_endless(source: &PreparedQuery, prepared: &Prepared) -> Result<()> {
    match unbounded::is_unbounded(&source.plan) {
        true => Err(unbounded::bare_insert_refusal(&prepared.statement.sql)),
        false => Ok(()),
    }
}

/// What EXPLAIN answers.
fn explain_lines(
    context: &Arc<Context>,
    session: &Session,
    prepared: &Arc<Prepared>,
    values: &[Datum],
    is_verbose: bool,
) -> Result<Vec<String>> {
    if let Prepare::Keyed(plan) = &prepared.work {
        return Ok(plan.explain());
    }
    if let StatementKind::CreateJob(job) = prepared.statement.kind.as_ref() {
        let guarantee = runtime::job::Guarantee::None;
        let (dag, _) = ddl::job_dag(context, session, &job.statement, guarantee)?;
        return Ok(explain::dag_text(&dag));
    }
    match bind(context, session, prepared, values)? {
        Plan::Query(query) => Ok(query.bound.explain(is_verbose)),
        Plan::Stream(stream) => Ok(stream.explain()),
        Plan::Modify(ModifyPlan { work: ModifyWork::Rows(work), .. }) => {
            work.explain(session, is_verbose)
        }
        Plan::Modify(ModifyPlan { work: ModifyWork::Mapping(work), .. }) => {
            work.explain(session, is_verbose)
        }
        _ => Err(Error::unsupported("EXPLAIN of this statement is not supported")),
    }
}

fn command(work: Work) -> Result<Plan> {
    Ok(Plan::Command(CommandPlan { work }))
}

/// Statements that are planned whole when they are bound.
fn bind_statement(
    context: &Arc<Context>,
    session: &Session,
    prepared: &Arc<Prepared>,
) -> Result<Plan> {
    let kind = Arc::clone(&prepared.statement.kind);
    match kind.as_ref() {
        StatementKind::Session(statement) => Ok(Plan::Session(SessionStatement::clone(statement))),
        // In a block it can be rolled back, so the rows are removed one by one.
        StatementKind::Truncate(truncate) if session.in_transaction => {
            let tables = dml::truncated(context, truncate)?;
            let work = ModifyWork::Emptied(Emptied::new(context, tables));
            Ok(Plan::Modify(ModifyPlan { columns: None, work }))
        }
        StatementKind::ExplainJob(name) => ddl::explain_job(context, name),
        StatementKind::ShowObjects(objects) => ddl::show_objects(&context.parts.grid, *objects),
        StatementKind::ShowSetting(name) => show_setting(session, name),
        StatementKind::Copy(copy) => match &copy.direction {
            CopyDirection::In { table, columns } => {
                let table = resolve::table(&context.parts.grid, table)?;
                let names: Vec<_> = columns.iter().map(parse::fold).collect();
                let name = table.record().name.name.clone();
                let (rows, columns, schema) = CopyRows::start(context, session, table, &names)?;
                let options = copy.options.clone();
                Ok(Plan::CopyIn(CopyIn { table: name, columns, schema, options, rows }))
            }
            CopyDirection::Out(_) => Err(Error::new("XX000", "internal error: COPY TO")),
        },
        _ => {
            let context = Arc::clone(context);
            let statement = prepared.statement.clone();
            command(Box::new(move |session| {
                run_command(&context, session, &kind, &statement.sql)
                    .map_err(|error| placed(error, &statement))
            }))
        }
    }
}

fn run_command(
    context: &Context,
    session: &Session,
    kind: &StatementKind,
    sql: &str,
) -> Result<CommandOutcome> {
    match kind {
        StatementKind::CreateTable(create) => ddl::table::create(&context.parts.grid, create),
        StatementKind::AlterTable(alter) => ddl::alter_table(context, session, alter),
        StatementKind::Upkeep(upkeep) => ddl::run_upkeep(context, session, upkeep),
        StatementKind::CreateView(create) => ddl::create_view(context, session, create),
        StatementKind::CreateMapping(create) => ddl::create_mapping(context, session, create),
        StatementKind::CreateJob(create) => ddl::create_job(context, session, create, sql),
        StatementKind::AlterJob(name, action) => ddl::alter_job(context, name, action),
        StatementKind::ExportJob(export) => ddl::export_job(context, export),
        StatementKind::Drop { kind, if_exists, names, cascade } => {
            ddl::drop_objects(context, *kind, *if_exists, names, *cascade)
        }
        StatementKind::Truncate(truncate) => {
            for table in dml::truncated(context, truncate)? {
                table.truncate()?;
            }
            Ok(CommandOutcome { tag: "TRUNCATE TABLE".to_owned(), notices: Vec::new() })
        }
        _ => Err(Error::unsupported("this statement is not supported")),
    }
}

fn show_setting(session: &Session, name: &str) -> Result<Plan> {
    if name == "all" {
        let names: Vec<String> = session.settings.keys().cloned().collect();
        let values: Vec<String> = session.settings.values().cloned().collect();
        let blank = vec![String::new(); names.len()];
        let columns = setting_columns(name);
        let arrays = [names, values, blank].map(|values| {
            Arc::new(arrow::array::StringArray::from(values)) as arrow::array::ArrayRef
        });
        let schema = crate::query::arrow_schema(&columns);
        let batch = arrow::array::RecordBatch::try_new(schema, arrays.to_vec())?;
        return Ok(Plan::Rows { columns, batches: vec![batch], tag: "SHOW" });
    }
    match session.settings.get(name) {
        Some(value) => {
            let name = if name == "timezone" { "TimeZone" } else { name };
            ddl::text_rows(name, vec![value.clone()], "SHOW")
        }
        None => match crate::functions::session::fixed_setting(name) {
            Some(value) => ddl::text_rows(name, vec![value.to_owned()], "SHOW"),
            None => {
                Err(Error::new("42704", format!("unrecognized configuration parameter \"{name}\"")))
            }
        },
    }
}

/// The relations a statement names, and those behind its views.
fn collect_objects(
    context: &Context,
    kind: &StatementKind,
    work: &Prepare,
    named: &mut Vec<(ObjectName, ObjectId)>,
) {
    named_relations(context, kind, named);
    match work {
        Prepare::Query(query) => scanned(&query.plan, named),
        Prepare::Modify(modify) => {
            scanned(&modify.source().plan, named);
            let record = modify.table.record();
            named.push((record.name.clone(), record.id));
        }
        Prepare::MappingInsert(insert) => {
            scanned(&insert.source.plan, named);
            named.push((insert.mapping.name.clone(), insert.mapping.id));
        }
        Prepare::CopyOut(inner) | Prepare::Explain(inner) => {
            named.extend(inner.objects.named.iter().cloned());
        }
        Prepare::Keyed(_) | Prepare::Statement => {}
    }
}

fn named_relations(
    context: &Context,
    kind: &StatementKind,
    named: &mut Vec<(ObjectName, ObjectId)>,
) {
    let state = context.parts.grid.control().state();
    let mut visit = |name: &datafusion::sql::sqlparser::ast::ObjectName| {
        if let Ok(name) = resolve::relation_name(name)
            && let Some(relation) = state.relations.get(&name)
        {
            named.push((name, Relation::id(relation)));
        }
        std::ops::ControlFlow::<()>::Continue(())
    };
    let _ = match kind {
        StatementKind::Query(query) => visit_relations(query.as_ref(), &mut visit),
        StatementKind::Insert { insert, .. } => visit_relations(insert.as_ref(), &mut visit),
        StatementKind::Update(update) => visit_relations(update.as_ref(), &mut visit),
        StatementKind::Delete(delete) => visit_relations(delete.as_ref(), &mut visit),
        _ => return,
    };
}

fn scanned(plan: &LogicalPlan, named: &mut Vec<(ObjectName, ObjectId)>) {
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(source) =
                (scan.source.as_ref() as &dyn std::any::Any).downcast_ref::<DefaultTableSource>()
        {
            let provider = source.table_provider.as_ref() as &dyn std::any::Any;
            if let Some(table) = provider.downcast_ref::<crate::catalog::provider::GridTable>() {
                let record = table.table().record();
                named.push((record.name.clone(), record.id));
            }
            if let Some(changes) =
                provider.downcast_ref::<crate::catalog::changes::ChangesProvider>()
            {
                let record = changes.table().record();
                named.push((record.name.clone(), record.id));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    // Nothing inside can fail.
    let _ = visited;
}
