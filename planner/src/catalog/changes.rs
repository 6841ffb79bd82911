//! `ChangesProvider`: the changes of a table as DataFusion sees them: its columns, `_time` and `_diff`, and
//! no end. Only a dag reads it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::Result,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};
use runtime::processors::ChangesFrom;
use storage::{
    Table,
    table::{CHANGE_DIFF, CHANGE_TIME},
};

use super::provider::visible_schema;
use crate::{Error, functions::external};

/// The changes of a table as a relation.
#[derive(Debug)]
pub struct ChangesProvider {
    table: Arc<Table>,
    from: ChangesFrom,
    schema: SchemaRef,
}

impl ChangesProvider {
    /// The changes of a table from there on; 42701 for one that has a column of an added one's name.
    pub fn new(table: Arc<Table>, from: ChangesFrom) -> crate::Result<Self> {
        let visible = visible_schema(table.record());
        let mut fields: Vec<_> = visible.fields().iter().cloned().collect();
        for name in [CHANGE_TIME, CHANGE_DIFF] {
            if visible.index_of(name).is_ok() {
                let message = format!("column name \"{name}\" is taken by EMIT CHANGES");
                return Err(Error::new("42701", message));
            }
            fields.push(Arc::new(Field::new(name, DataType::Int64, false)));
        }
        Ok(Self { table, from, schema: Arc::new(Schema::new(fields)) })
    }

    /// Where they begin.
    pub fn from(&self) -> ChangesFrom {
        self.from
    }

    /// The table behind.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

#[async_trait]
impl TableProvider for ChangesProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(external(Error::unsupported("EMIT CHANGES in a bounded query is not supported")))
    }
}
