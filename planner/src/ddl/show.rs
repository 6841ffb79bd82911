//! `SHOW TABLES | MAPPINGS | VIEWS | JOBS | SNAPSHOTS`: one column `name`, sorted; and rows of one text column
//! for whoever else answers so.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use storage::{Grid, cluster::control::state::Relation};

use crate::{OutputColumn, Plan, Result, SqlType, parse::ShowObjects, query::arrow_schema};

/// The names.
pub fn objects(grid: &Grid, kind: ShowObjects) -> Result<Plan> {
    let state = grid.control().state();
    let names = state.relations.iter().filter_map(|(name, relation)| {
        let is_shown = matches!(
            (kind, relation),
            (ShowObjects::Tables, Relation::Table(_))
                | (ShowObjects::Mappings, Relation::Mapping(_))
                | (ShowObjects::Views, Relation::View(_))
        );
        is_shown.then(|| name.name.clone())
    });
    let mut names: Vec<String> = match kind {
        ShowObjects::Snapshots => state.exports.keys().cloned().collect(),
        ShowObjects::Jobs => state.jobs.values().map(|job| job.name.clone()).collect(),
        _ => names.collect(),
    };
    names.sort();
    text_rows("name", names, "SHOW")
}

/// Rows of one text column.
pub fn text_rows(name: &str, lines: Vec<String>, tag: &'static str) -> Result<Plan> {
    let columns = vec![OutputColumn::computed(name, SqlType::Text)];
    let array: ArrayRef = Arc::new(StringArray::from(lines));
    let batch = RecordBatch::try_new(arrow_schema(&columns), vec![array])?;
    Ok(Plan::Rows { columns, batches: vec![batch], tag })
}
