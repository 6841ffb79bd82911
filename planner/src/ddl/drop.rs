//! `DROP TABLE | MAPPING | VIEW | JOB | SNAPSHOT [IF EXISTS] … [CASCADE]`. What a view reads is dropped only
//! with the view.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast;
use storage::cluster::control::{Command, ControlState, ObjectName, state::Relation};

use crate::{
    Error, Result,
    catalog::resolve,
    context::Context,
    parse::{self, DropKind, StatementKind},
    plan::CommandOutcome,
};

/// Carries out a DROP; all names are checked before the first is dropped.
pub fn drop_objects(
    context: &Context,
    kind: DropKind,
    if_exists: bool,
    names: &[ast::ObjectName],
    cascade: bool,
) -> Result<CommandOutcome> {
    let word = word(kind);
    let mut outcome =
        CommandOutcome { tag: format!("DROP {}", word.to_uppercase()), notices: Vec::new() };
    let mut dropped = Vec::new();
    for name in names {
        match check(context, kind, name) {
            Ok(()) => dropped.push(name),
            Err(error) if if_exists && matches!(error.code, "42P01" | "42704") => {
                let (_, name) = parse::object_name(name)?;
                let notice = format!("{word} \"{name}\" does not exist, skipping");
                outcome.notices.push(("00000", notice));
            }
            Err(error) => return Err(error),
        }
    }
    let mut relations = Vec::with_capacity(dropped.len());
    if !matches!(kind, DropKind::Job | DropKind::Snapshot) {
        for name in &dropped {
            relations.push(resolve::relation_name(name)?);
        }
        let state = context.parts.grid.control().state();
        // Those that read others first.
        for name in readers(&state, word, &relations, cascade)?.into_iter().rev() {
            let notice = format!("drop cascades to view {}", name.name);
            outcome.notices.push(("00000", notice));
            let command = Command::DropRelation { kind: "view", name };
            context.parts.grid.control().submit(&command)?;
        }
    }
    for name in dropped {
        match kind {
            DropKind::Job => context.parts.jobs.drop_job(&parse::object_name(name)?.1)?,
            DropKind::Snapshot => {
                context.parts.jobs.drop_export(&parse::object_name(name)?.1)?;
            }
            _ => {
                let name = resolve::relation_name(name)?;
                let command = Command::DropRelation { kind: word, name: name.clone() };
                let control = context.parts.grid.control();
                control.submit(&command)?;
                if kind == DropKind::Table {
                    let notices = orphans(&control.state(), &name)?.into_iter();
                    outcome.notices.extend(notices.map(|notice| ("00000", notice)));
                }
            }
        }
    }
    Ok(outcome)
}

/// The views that read one of `relations`, directly or through each other; unless they are to go,
/// too, they are why nothing can be dropped (2BP01).
fn readers(
    state: &ControlState,
    word: &str,
    relations: &[ObjectName],
    cascade: bool,
) -> Result<Vec<ObjectName>> {
    let mut reached = relations.to_vec();
    let mut next = 0;
    while let Some(read) = reached.get(next).cloned() {
        next += 1;
        for (name, relation) in &state.relations {
            let Relation::View(view) = relation else { continue };
            if reached.contains(name) || !reads(&view.sql, &read)? {
                continue;
            }
            if !cascade {
                let message =
                    format!("cannot drop {word} {} because other objects depend on it", read.name);
                return Err(Error::new("2BP01", message)
                    .with_detail(format!("view {} depends on {word} {}", name.name, read.name))
                    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            reached.push(name.clone());
        }
    }
    Ok(reached.split_off(relations.len()))
}

/// What to tell of the jobs that use a table which has just gone. They are not why it could not be
/// dropped: a job's mappings and tables may come and go while it is suspended.
fn orphans(state: &ControlState, table: &ObjectName) -> Result<Vec<String>> {
    let notice = |job| format!("job \"{job}\" uses table \"{}\" and fails without it", table.name);
    Ok(jobs_using(state, table)?.into_iter().map(notice).collect())
}

/// The jobs, as long as they may run, whose text names a table.
pub fn jobs_using(state: &ControlState, table: &ObjectName) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for job in state.jobs.values().filter(|job| !job.status.is_terminal()) {
        let statements = parse::parse(&job.sql)?;
        let Some(StatementKind::CreateJob(create)) =
            statements.first().map(|statement| statement.kind.as_ref())
        else {
            continue;
        };
        if let StatementKind::Insert { insert, .. } = create.statement.kind.as_ref()
            && names(insert.as_ref(), table)
        {
            found.push(job.name.clone());
        }
    }
    Ok(found)
}

/// Whether a view's query names a relation.
fn reads(sql: &str, relation: &ObjectName) -> Result<bool> {
    Ok(names(parse::parse_query(sql)?.as_ref(), relation))
}

/// Whether a statement names a relation.
fn names(statement: &impl ast::Visit, relation: &ObjectName) -> bool {
    let found = ast::visit_relations(statement, |name| {
        match resolve::read_name(name).is_ok_and(|name| name == *relation) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    found.is_break()
}

fn word(kind: DropKind) -> &'static str {
    match kind {
        DropKind::Table => "table",
        DropKind::Mapping => "mapping",
        DropKind::View => "view",
        DropKind::Job => "job",
        DropKind::Snapshot => "snapshot",
    }
}

/// Whether there is such an object, of this kind.
fn check(context: &Context, kind: DropKind, name: &ast::ObjectName) -> Result<()> {
    let state = context.parts.grid.control().state();
    let word = word(kind);
    if matches!(kind, DropKind::Job | DropKind::Snapshot) {
        let (_, name) = parse::object_name(name)?;
        let is_there = match kind {
            DropKind::Job => state.job(&name).is_some(),
            _ => state.exports.contains_key(&name),
        };
        return match is_there {
            true => Ok(()),
            false => Err(Error::new("42704", format!("{word} \"{name}\" does not exist"))),
        };
    }
    let name = resolve::relation_name(name)?;
    let found = match state.relations.get(&name) {
        None => {
            return Err(Error::new("42P01", format!("{word} \"{}\" does not exist", name.name)));
        }
        Some(Relation::Table(_)) => DropKind::Table,
        Some(Relation::Mapping(_)) => DropKind::Mapping,
        Some(Relation::View(_)) => DropKind::View,
    };
    if found == kind {
        return Ok(());
    }
    let found = self::word(found);
    Err(Error::new("42809", format!("\"{}\" is not a {word}", name.name))
        .with_hint(format!("Use DROP {} to remove a {found}.", found.to_uppercase())))
}
