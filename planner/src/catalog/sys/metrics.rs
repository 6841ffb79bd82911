//! `sys.metrics`: every counter and gauge, in Prometheus' naming.
//! Labels are one text, `{k="v",…}`, empty without any.

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
};

pub(super) const COLUMNS: Columns =
    &[("name", Kind::Text), ("labels", Kind::Text), ("value", Kind::Int8)];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |(name, labels, value): (String, String, i64)| -> Record {
        vec![("name", name.into()), ("labels", labels.into()), ("value", value.into())]
    };
    Ok(scope.parts.grid.metrics().list().into_iter().map(record).collect())
}
