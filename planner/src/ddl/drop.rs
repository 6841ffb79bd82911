//! `DROP TABLE | MAPPING | VIEW | JOB [IF EXISTS]`.

use datafusion::sql::sqlparser::ast;
use storage::cluster::control::{Command, state::Relation};

use crate::{
    Error, Result,
    catalog::resolve,
    context::Context,
    parse::{self, DropKind},
    plan::CommandOutcome,
};

/// Carries out a DROP; all names are checked before the first is dropped.
pub fn drop_objects(
    context: &Context,
    kind: DropKind,
    if_exists: bool,
    names: &[ast::ObjectName],
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
    for name in dropped {
        match kind {
            DropKind::Job => context.parts.jobs.drop_job(&parse::object_name(name)?.1)?,
            _ => {
                let name = resolve::relation_name(name)?;
                let command = Command::DropRelation { kind: word, name };
                context.parts.grid.control().submit(&command)?;
            }
        }
    }
    Ok(outcome)
}

fn word(kind: DropKind) -> &'static str {
    match kind {
        DropKind::Table => "table",
        DropKind::Mapping => "mapping",
        DropKind::View => "view",
        DropKind::Job => "job",
    }
}

/// Whether there is such an object, of this kind.
fn check(context: &Context, kind: DropKind, name: &ast::ObjectName) -> Result<()> {
    let state = context.parts.grid.control().state();
    let word = word(kind);
    if kind == DropKind::Job {
        let (_, name) = parse::object_name(name)?;
        return match state.job(&name) {
            Some(_) => Ok(()),
            None => Err(Error::new("42704", format!("job \"{name}\" does not exist"))),
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
