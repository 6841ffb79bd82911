//! `Grid`: one member's handle on everything below SQL; opens, serves, closes.

use std::sync::Arc;

use crate::{
    GridConfig, Result, Table,
    cluster::control::{Control, ObjectId},
    env::Env,
    metrics::Metrics,
    table::{ReadView, Writer},
};

/// One member's handle on the grid.
#[derive(Debug)]
pub struct Grid {
    config: GridConfig,
    env: Env,
    control: Control,
    metrics: Arc<Metrics>,
}

impl Grid {
    /// Opens an empty grid of one member.
    pub fn open(config: GridConfig, env: Env) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { config, env, control: Control::default(), metrics: Arc::default() }))
    }

    /// What it was opened with.
    pub fn config(&self) -> &GridConfig {
        &self.config
    }

    /// The doors to the outside world.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Catalog and jobs. Dropping a table here also frees its rows.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// All metrics of this member.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The table of that id; NotFound after its drop.
    pub fn table(&self, id: ObjectId) -> Result<Arc<Table>> {
        let _ = id;
        unimplemented!("owner: storage helper")
    }

    /// A new pending writer.
    pub fn begin(&self) -> Writer {
        unimplemented!("owner: storage helper")
    }

    /// Everything committed by now.
    pub fn read_view(&self) -> ReadView {
        unimplemented!("owner: storage helper")
    }
}
