//! The schemas of a query's name space: `public` over the control state, and the system's own.
//! Relations are looked up when a statement is planned, so a catalog change needs no invalidation
//! here.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use datafusion::{
    catalog::{CatalogProvider, SchemaProvider, TableProvider},
    common::{DataFusionError, Result},
};
use storage::{
    Grid,
    cluster::control::{ObjectName, state::Relation},
};

use super::{
    changes::{ChangesProvider, ChangesSpec},
    provider::{GridTable, ReturnedRows, external},
};
use crate::{Error, context::Context, error::no_such_relation, functions};

/// DataFusion's name for the only catalog; users never see it.
pub const CATALOG: &str = "tidewater";

/// Schema in which a table also shows its hidden key. No client can name it: `\u{1}` is not typed.
pub const ROWS_SCHEMA: &str = "\u{1}rows";

/// Schema in which a table's name stands for the rows a statement has just written.
pub const RETURNED_SCHEMA: &str = "\u{1}returned";

/// The only catalog.
#[derive(Debug)]
pub struct GridCatalog {
    schemas: Vec<(&'static str, Arc<dyn SchemaProvider>)>,
}

impl GridCatalog {
    /// A catalog of these schemas.
    pub fn new(schemas: Vec<(&'static str, Arc<dyn SchemaProvider>)>) -> Self {
        Self { schemas }
    }
}

impl CatalogProvider for GridCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let found = self.schemas.iter().find(|(schema, _)| *schema == name);
        found.map(|(_, schema)| Arc::clone(schema))
    }
}

/// How a schema shows the relations of `public`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// As users see them.
    Visible,
    /// Tables only, with their hidden key.
    Rows,
    /// Tables only, as the rows just written.
    Returned,
    /// Tables only, as their changes.
    Changes(ChangesSpec),
}

/// `public`, and its twins that only our own statements name.
pub struct PublicSchema {
    grid: Arc<Grid>,
    shown: Shown,
    /// Set once, right after the context that owns this schema was made.
    context: Arc<OnceLock<Weak<Context>>>,
}

impl PublicSchema {
    /// The schema over a grid.
    pub fn new(grid: Arc<Grid>, shown: Shown, context: Arc<OnceLock<Weak<Context>>>) -> Self {
        Self { grid, shown, context }
    }

    fn relation(&self, name: &str) -> Option<Relation> {
        self.grid.control().state().relations.get(&ObjectName::public(name)).cloned()
    }
}

impl std::fmt::Debug for PublicSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicSchema").field("shown", &self.shown).finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for PublicSchema {
    fn table_names(&self) -> Vec<String> {
        let state = self.grid.control().state();
        state.relations.keys().map(|name| name.name.clone()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let relation = match self.relation(name) {
            Some(relation) => relation,
            None if matches!(self.shown, Shown::Changes(_)) => {
                return Err(functions::external(no_such_relation(name)));
            }
            None => return Ok(None),
        };
        let context = self.context.get().and_then(Weak::upgrade).ok_or_else(|| {
            DataFusionError::Internal("the catalog is used after its planner".to_owned())
        })?;
        let provider: Arc<dyn TableProvider> = match (relation, self.shown) {
            (Relation::Table(record), Shown::Returned) => Arc::new(ReturnedRows::new(&record)),
            (Relation::Table(record), shown) => {
                let table = self.grid.table(record.id).map_err(external)?;
                match shown {
                    Shown::Changes(spec) => {
                        Arc::new(ChangesProvider::new(table, spec).map_err(functions::external)?)
                    }
                    Shown::Rows => Arc::new(GridTable::whole(table)),
                    _ => Arc::new(GridTable::visible(table)),
                }
            }
            (_, Shown::Rows | Shown::Returned) => return Ok(None),
            (other, Shown::Changes(_)) => {
                let what = format!("EMIT CHANGES over a {} is not supported", other.kind());
                return Err(functions::external(Error::unsupported(what)));
            }
            (Relation::Mapping(record), Shown::Visible) => context.mapping_provider(record)?,
            (Relation::View(record), Shown::Visible) => context.view_provider(&record).await?,
        };
        Ok(Some(provider))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.relation(name).is_some()
    }
}
