//! `CREATE JOB`, `ALTER JOB`, and the way from a job's text to its dag, the same at every start.

use datafusion::sql::sqlparser::ast;
use runtime::{
    dag::Dag,
    job::{Fallback, Guarantee, JobOptions, JobRequest},
};
use storage::{
    cluster::control::{Durability, JobRecord, JobStatus, state::Relation},
    table::WriteMode,
};

use super::options;
use crate::{
    Error, Result, Session,
    catalog::{pg::objects::quote_ident, resolve},
    context::Context,
    dml::{
        conform::{Target, conform_insert},
        insert_parts,
    },
    lower::{self, JobTarget},
    parse::{self, AlterJob, CreateJob, StatementKind, fold, parameter_count},
    plan::CommandOutcome,
    planner::Statement,
    query::analyse,
    rules::unbounded,
};

/// Settings that a job's text was written under and is planned under again.
const KEPT_SETTINGS: [&str; 2] = ["timezone", "search_path"];

/// Carries out CREATE JOB: returns when the job has started.
pub fn create(
    context: &Context,
    session: &Session,
    create: &CreateJob,
    sql: &str,
) -> Result<CommandOutcome> {
    let name = fold(&create.name);
    let tag = "CREATE JOB".to_owned();
    let mut options = options::read(&create.options)?;
    let guarantee = JobOptions::read(&options)?.guarantee;
    if let Some(job) = context.parts.grid.control().state().job(&name) {
        return already_there(job, create.if_not_exists);
    }
    let (dag, is_unbounded) = dag_of(context, session, &create.statement, guarantee)?;
    if is_unbounded {
        // What has no end cannot be done over.
        let name = JobOptions::GUARANTEE.to_owned();
        options.entry(name).or_insert_with(|| Guarantee::ExactlyOnce.word().to_owned());
    }
    check_target_is_kept(context, &create.statement, &JobOptions::read(&options)?)?;
    let settings = KEPT_SETTINGS
        .iter()
        .filter_map(|name| session.settings.get_key_value(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let request = JobRequest { name: name.clone(), sql: sql.to_owned(), options, settings };
    match context.parts.jobs.create(request, dag) {
        Ok(_) => Ok(CommandOutcome { tag, notices: Vec::new() }),
        Err(error) => match context.parts.grid.control().state().job(&name) {
            // Somebody was faster.
            Some(job) if error.sqlstate() == "42710" => already_there(job, create.if_not_exists),
            _ => Err(error.into()),
        },
    }
}

/// 55000 for a job whose snapshots would outlive what they say that it has written.
fn check_target_is_kept(
    context: &Context,
    statement: &Statement,
    options: &JobOptions,
) -> Result<()> {
    let grid = &context.parts.grid;
    let is_concerned = grid.persistence().is_some()
        && options.guarantee == Guarantee::ExactlyOnce
        && !options.accepts_memory_target;
    let StatementKind::Insert { insert, .. } = statement.kind.as_ref() else { return Ok(()) };
    if !is_concerned {
        return Ok(());
    }
    let name = resolve::relation_name(insert_parts(insert)?.name)?;
    let Relation::Table(record) = resolve::relation(grid, &name)? else { return Ok(()) };
    if grid.table(record.id)?.durability() != Durability::Memory {
        return Ok(());
    }
    let message = format!(
        "table \"{}\" is in memory alone: after a restart it is empty, and a job with \
         processingGuarantee 'exactlyOnce' would go on as if its rows were there",
        name.name
    );
    Err(Error::new("55000", message).with_hint(
        "ALTER TABLE … SET (durability = 'fsync') keeps it; OPTIONS ('acceptMemoryTarget' = 'true') \
         accepts the loss.",
    ))
}

/// The answer to CREATE JOB when the name is taken. A job that has ended keeps its name, so that its
/// error can be read.
fn already_there(job: &JobRecord, if_not_exists: bool) -> Result<CommandOutcome> {
    let (name, status) = (&job.name, job.status.word());
    let is_over = job.status.is_terminal();
    if if_not_exists {
        let notice = match is_over {
            true => format!("job \"{name}\" already exists and is {status}, skipping"),
            false => format!("job \"{name}\" already exists, skipping"),
        };
        return Ok(CommandOutcome {
            tag: "CREATE JOB".to_owned(),
            notices: vec![("42710", notice)],
        });
    }
    let error = Error::new("42710", format!("job \"{name}\" already exists"));
    Err(match is_over {
        true => error.with_hint(format!(
            "It is {status}; DROP JOB {} makes room for another.",
            quote_ident(name)
        )),
        false => error,
    })
}

/// Carries out ALTER JOB.
pub fn alter(context: &Context, name: &str, action: &AlterJob) -> Result<CommandOutcome> {
    if context.parts.grid.control().state().job(name).is_none() {
        return Err(Error::new("42704", format!("job \"{name}\" does not exist")));
    }
    let jobs = &context.parts.jobs;
    let mut notices = Vec::new();
    let outcome = match action {
        AlterJob::Suspend => jobs.suspend(name),
        AlterJob::Resume { options } => match accepts_repeats(options)? {
            false => jobs.resume(name),
            true => jobs.resume_accepting_repeats(name).map(|fallback| {
                notices.push(goes_on_from(name, fallback));
            }),
        },
        AlterJob::Restart => jobs.restart(name),
        AlterJob::Options { options: changes, resumes } => {
            let altered = jobs.alter(name, options::read(changes)?);
            altered.and_then(|()| if *resumes { jobs.resume(name) } else { Ok(()) })
        }
    };
    outcome.map_err(|error| explained(context, name, error))?;
    let state = context.parts.grid.control().state();
    if let (AlterJob::Suspend, Some(job)) = (action, state.job(name))
        && job.status == JobStatus::Suspended
    {
        notices.extend(job.last_error.as_ref().map(|trouble| ("01000", trouble.message.clone())));
        notices.extend(nothing_kept(job).map(|text| ("00000", text)));
    }
    Ok(CommandOutcome { tag: "ALTER JOB".to_owned(), notices })
}

/// Options of RESUME: `acceptRepeats` alone.
fn accepts_repeats(written: &[(ast::Expr, ast::Expr)]) -> Result<bool> {
    let mut accepts = false;
    for (name, value) in options::read(written)? {
        let refuse = |code, text: String| Err(Error::new(code, text));
        accepts = match (name.as_str(), value.to_ascii_lowercase().as_str()) {
            ("acceptRepeats", "true") => true,
            ("acceptRepeats", "false") => false,
            ("acceptRepeats", _) => {
                let text = format!("option \"acceptRepeats\" is 'true' or 'false', not '{value}'");
                return refuse("22023", text);
            }
            _ => {
                let text = format!("unknown option \"{name}\" of RESUME; valid is acceptRepeats");
                return refuse("42601", text);
            }
        };
    }
    Ok(accepts)
}

/// Tells who accepts that rows repeat which of them may.
fn goes_on_from(name: &str, fallback: Fallback) -> (&'static str, String) {
    match fallback {
        Fallback::NotNeeded => (
            "00000",
            format!("job \"{name}\" goes on as without acceptRepeats: nothing is damaged"),
        ),
        Fallback::Older(id) => (
            "01000",
            format!(
                "job \"{name}\" goes back to snapshot {id}: what it wrote after that may repeat"
            ),
        ),
        Fallback::Anew => (
            "01000",
            format!(
                "job \"{name}\" has no whole snapshot and starts where its sources start: what it \
                 wrote may repeat, and what they do not give again is lost"
            ),
        ),
    }
}

/// What RESUME will do to a job that keeps no state.
fn nothing_kept(job: &JobRecord) -> Option<String> {
    let has_none = JobOptions::read(&job.options).ok()?.guarantee == Guarantee::None;
    has_none.then(|| {
        let name = &job.name;
        format!("job \"{name}\" keeps no state, its processingGuarantee is 'none': RESUME starts it anew")
    })
}

/// An error of a request to a job; about a job's status, with why it has it and what to do about it.
pub fn explained(context: &Context, name: &str, error: runtime::Error) -> Error {
    let (is_wrong_state, is_damage) = (error.sqlstate() == "55000", error.sqlstate() == "XX001");
    let error = Error::from(error);
    match context.parts.grid.control().state().job(name) {
        Some(job) if is_wrong_state => with_cause(error, job),
        Some(job) if is_damage && job.status == JobStatus::Suspended => {
            let quoted = quote_ident(name);
            error.with_hint(format!(
                "ALTER JOB {quoted} RESUME OPTIONS ('acceptRepeats' = 'true') goes on from an older \
                 snapshot, or anew: rows may repeat."
            ))
        }
        _ => error,
    }
}

/// An error about a job's status, with why it has it and what to do about it.
pub fn with_cause(error: Error, job: &JobRecord) -> Error {
    let error = match &job.last_error {
        // It may be what the error itself says.
        Some(cause) if cause.message == error.message => error,
        Some(cause) => error.with_detail(format!("{}: {}.", cause.code, cause.message)),
        None => error,
    };
    let quoted = quote_ident(&job.name);
    let has_code = |code: &str| job.last_error.as_ref().is_some_and(|cause| cause.code == code);
    match job.status {
        JobStatus::Failed => error.with_hint(format!(
            "DROP JOB {quoted} and create it again. With OPTIONS ('suspendOnFailure' = 'true') a \
             failure suspends a job, so that it can be resumed."
        )),
        JobStatus::Completed => error.with_hint(format!(
            "Its input has ended; to run it anew, DROP JOB {quoted} and create it again."
        )),
        JobStatus::Suspended if has_code("53400") => error.with_hint(format!(
            "DROP JOB {quoted} and create it again: it begins with the rows that are there then."
        )),
        JobStatus::Suspended
            if job.last_error.as_ref().is_some_and(|cause| cause.code.starts_with("53")) =>
        {
            error.with_hint(format!(
                "ALTER JOB {quoted} OPTIONS ('maxMemory' = '…') RESUME gives it more memory."
            ))
        }
        JobStatus::Suspended => error.with_hint(format!("ALTER JOB {quoted} RESUME starts it.")),
        JobStatus::Running => error.with_hint(format!(
            "ALTER JOB {quoted} SUSPEND suspends it, RESTART suspends and resumes it."
        )),
        _ => error,
    }
}

/// The dag of a job's INSERT or SINK statement, and whether its query is unbounded.
pub fn dag_of(
    context: &Context,
    session: &Session,
    statement: &Statement,
    guarantee: Guarantee,
) -> Result<(Dag, bool)> {
    let StatementKind::Insert { insert, is_sink } = statement.kind.as_ref() else {
        return Err(Error::new("42601", "a job is an INSERT INTO or SINK INTO statement"));
    };
    if parameter_count(insert.as_ref()) > 0 {
        return Err(Error::new("42P02", "there is no parameter $1"));
    }
    if insert.on.is_some() {
        return Err(Error::unsupported("ON CONFLICT in a job is not supported")
            .with_hint("SINK INTO replaces the row of the same key."));
    }
    if insert.returning.is_some() {
        return Err(Error::unsupported("RETURNING in a job is not supported"));
    }
    let parts = insert_parts(insert)?;
    let grid = &context.parts.grid;
    let name = resolve::relation_name(parts.name)?;
    let (target, columns) = match resolve::relation(grid, &name)? {
        Relation::Table(record) => {
            let mode = if *is_sink { WriteMode::Upsert } else { WriteMode::Insert };
            if guarantee == Guarantee::AtLeastOnce && !is_sink && !record.has_hidden_key {
                let table = &record.name.name;
                return Err(Error::unsupported(format!(
                    "INSERT INTO table \"{table}\", which has a key, with processingGuarantee \
                     'atLeastOnce' is not supported: a row that comes again would be a duplicate"
                ))
                .with_hint("SINK INTO replaces the row of the same key."));
            }
            let columns = Target::of_table(&record);
            (JobTarget::Table { table: grid.table(record.id)?, mode }, columns)
        }
        Relation::Mapping(record) => {
            let columns = Target::of_mapping(&record);
            (JobTarget::Mapping(record), columns)
        }
        Relation::View(_) => {
            return Err(Error::new("55000", format!("cannot write to view \"{}\"", name.name)));
        }
    };
    let positions = columns.positions(&parts.columns)?;
    let state = context.state(session);
    let Some(source) = parts.source else {
        return Err(Error::unsupported("a job of DEFAULT VALUES is not supported"));
    };
    let input = context.plan_query(&state, source)?;
    // A sink declared without columns (Discard) takes rows as they come.
    let input = match columns.columns.is_empty() {
        true => input,
        false => conform_insert(&state, &columns, &positions, input)?,
    };
    let input = analyse(&state, input)?;
    let is_unbounded = unbounded::is_unbounded(&input);
    Ok((lower::plan_job(&state, input, &target, &context.stream)?, is_unbounded))
}

/// Plans a job again from its record.
pub fn plan_again(context: &Context, record: &JobRecord) -> Result<Dag> {
    let session = Session { settings: record.settings.clone(), ..Session::default() };
    let statements = parse::parse(&record.sql)?;
    match statements.first().map(|statement| statement.kind.as_ref()) {
        Some(StatementKind::CreateJob(create)) => {
            let guarantee = JobOptions::read(&record.options)?.guarantee;
            Ok(dag_of(context, &session, &create.statement, guarantee)?.0)
        }
        _ => Err(Error::new("XX000", format!("job \"{}\" is no CREATE JOB", record.name))),
    }
}
