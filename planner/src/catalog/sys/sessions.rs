//! `sys.sessions`: every connection.
//! The asking one is among them.

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
    planner::SessionInfo,
};

pub(super) const COLUMNS: Columns = &[
    ("id", Kind::Int4),
    ("user_name", Kind::Text),
    ("database", Kind::Text),
    ("application", Kind::Text),
    ("client", Kind::Text),
    ("connected_at", Kind::Instant),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |session: SessionInfo| -> Record {
        vec![
            ("id", i64::from(session.id).into()),
            ("user_name", session.user.into()),
            ("database", session.database.into()),
            ("application", session.application.into()),
            ("client", session.client.into()),
            ("connected_at", session.connected_at.into()),
        ]
    };
    Ok(scope.parts.directory.sessions().into_iter().map(record).collect())
}
