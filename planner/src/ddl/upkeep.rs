//! `VACUUM` and `ANALYZE`. VACUUM does at once what the grid does by and by: it drops row versions that
//! nobody sees and merges chunks. ANALYZE has nothing to do: row counts are always exact, and no plan
//! asks for more. Both refuse what does not exist.

use storage::cluster::control::state::Relation;

use crate::{
    Error, Result, Session,
    catalog::resolve,
    context::Context,
    parse::{Upkeep, UpkeepTable, fold},
    plan::CommandOutcome,
};

/// Carries out VACUUM or ANALYZE.
pub fn run(context: &Context, session: &Session, upkeep: &Upkeep) -> Result<CommandOutcome> {
    if upkeep.is_vacuum && session.in_transaction {
        return Err(Error::new("25001", "VACUUM cannot run inside a transaction block"));
    }
    if !upkeep.is_analyze && upkeep.tables.iter().any(|table| !table.columns.is_empty()) {
        let message = "ANALYZE option must be specified when a column list is provided";
        return Err(Error::unsupported(message));
    }
    let tag = if upkeep.is_vacuum { "VACUUM" } else { "ANALYZE" };
    let mut outcome = CommandOutcome { tag: tag.to_owned(), notices: Vec::new() };
    for table in &upkeep.tables {
        outcome.notices.extend(tidy(context, upkeep.is_vacuum, table)?);
    }
    if upkeep.is_vacuum && upkeep.tables.is_empty() {
        context.parts.grid.maintain()?;
    }
    Ok(outcome)
}

/// One table; answers what to tell of it.
fn tidy(
    context: &Context,
    is_vacuum: bool,
    table: &UpkeepTable,
) -> Result<Option<(&'static str, String)>> {
    let grid = &context.parts.grid;
    let name = resolve::relation_name(&table.name)?;
    let Relation::Table(record) = resolve::relation(grid, &name)? else {
        let verb = if is_vacuum { "vacuum" } else { "analyze" };
        let name = &name.name;
        let notice =
            format!("skipping \"{name}\" --- cannot {verb} non-tables or special system tables");
        return Ok(Some(("01000", notice)));
    };
    for column in &table.columns {
        resolve::column(&record, &fold(column))?;
    }
    if is_vacuum {
        grid.table(record.id)?.tidy()?;
    }
    Ok(None)
}
