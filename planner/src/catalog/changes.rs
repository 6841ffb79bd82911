//! `ChangesProvider`: the changes of a table as DataFusion sees them: its columns, `_time` and `_diff`
//! where each change is a row, and no end. Only a dag reads it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::Result,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};
use runtime::processors::{ChangesAs, ChangesFrom};
use storage::{
    Table,
    table::{CHANGE_DIFF, CHANGE_TIME},
};

use super::provider::visible_schema;
use crate::{Error, functions::external};

/// Which changes of a table, and what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangesSpec {
    /// Where they begin.
    pub from: ChangesFrom,
    /// What they are.
    pub form: ChangesAs,
}

impl ChangesSpec {
    /// All there are, each with the name of the schema in which a table's name stands for its changes
    /// in that way. No client can name one: `\u{1}` is not typed.
    pub const SCHEMAS: [(&'static str, Self); 4] = [
        ("\u{1}changes", Self { from: ChangesFrom::Rows, form: ChangesAs::Rows }),
        ("\u{1}changes from now on", Self { from: ChangesFrom::Now, form: ChangesAs::Rows }),
        ("\u{1}weights", Self { from: ChangesFrom::Rows, form: ChangesAs::Weights }),
        ("\u{1}weights from now on", Self { from: ChangesFrom::Now, form: ChangesAs::Weights }),
    ];

    /// The name of its schema.
    pub fn schema(self) -> &'static str {
        let found = Self::SCHEMAS.iter().find(|(_, spec)| *spec == self);
        found.map_or(Self::SCHEMAS[0].0, |(name, _)| name)
    }

    /// Whether a schema is one of them.
    pub fn is_schema(name: &str) -> bool {
        Self::SCHEMAS.iter().any(|(schema, _)| *schema == name)
    }
}

/// The changes of a table as a relation.
#[derive(Debug)]
pub struct ChangesProvider {
    table: Arc<Table>,
    spec: ChangesSpec,
    schema: SchemaRef,
}

impl ChangesProvider {
    /// Those changes of a table; 42701 for one that has a column of an added one's name.
    pub fn new(table: Arc<Table>, spec: ChangesSpec) -> crate::Result<Self> {
        let visible = visible_schema(table.record());
        let mut fields: Vec<_> = visible.fields().iter().cloned().collect();
        let added: &[&str] = match spec.form {
            ChangesAs::Rows => &[CHANGE_TIME, CHANGE_DIFF],
            ChangesAs::Weights => &[],
        };
        for &name in added {
            if visible.index_of(name).is_ok() {
                let message = format!("column name \"{name}\" is taken by EMIT CHANGES");
                return Err(Error::new("42701", message));
            }
            fields.push(Arc::new(Field::new(name, DataType::Int64, false)));
        }
        Ok(Self { table, spec, schema: Arc::new(Schema::new(fields)) })
    }

    /// Which they are.
    pub fn spec(&self) -> ChangesSpec {
        self.spec
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
