//! A dag with a life: create, suspend, resume, restart, drop; runs on the coordinator only.

use std::{collections::BTreeMap, sync::Arc};

use storage::{
    Grid,
    cluster::control::{JobRecord, ObjectId},
};

use crate::{
    Result,
    dag::Dag,
    execution::{EdgeStats, Engine, VertexStats},
};

/// Plans a job's SQL again; given by the planner when the jobs are opened.
pub type PlanJob = Arc<dyn Fn(&JobRecord) -> Result<Dag> + Send + Sync>;

/// All jobs of the cluster.
pub struct Jobs {
    // owner: engine helper
}

/// What `CREATE JOB` asks for.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// Name.
    pub name: String,
    /// The whole statement.
    pub sql: String,
    /// OPTIONS, validated by the planner.
    pub options: BTreeMap<String, String>,
    /// Session settings to plan it under again.
    pub settings: BTreeMap<String, String>,
}

impl Jobs {
    /// Opens the jobs of a grid on an engine.
    pub fn open(grid: Arc<Grid>, engine: Arc<Engine>) -> Arc<Self> {
        let _ = (grid, engine);
        unimplemented!("owner: engine helper")
    }

    /// Sets how SQL becomes a dag; called once at start, before the first create.
    pub fn set_planner(&self, plan: PlanJob) {
        let _ = plan;
        unimplemented!("owner: engine helper")
    }

    /// Creates a job and starts `dag`; AlreadyExists if the name is taken.
    pub fn create(&self, request: JobRequest, dag: Dag) -> Result<ObjectId> {
        let _ = (request, dag);
        unimplemented!("owner: engine helper")
    }

    /// Stops a running job with its state kept in memory; WrongState unless it runs. Returns when
    /// it is SUSPENDED.
    pub fn suspend(&self, name: &str) -> Result<()> {
        let _ = name;
        unimplemented!("owner: engine helper")
    }

    /// Starts a suspended job from its kept state; a FAILED job is not resumed (WrongState).
    pub fn resume(&self, name: &str) -> Result<()> {
        let _ = name;
        unimplemented!("owner: engine helper")
    }

    /// Suspends and resumes.
    pub fn restart(&self, name: &str) -> Result<()> {
        let _ = name;
        unimplemented!("owner: engine helper")
    }

    /// Cancels whatever runs and forgets the job. Returns when nothing of it runs any more.
    pub fn drop_job(&self, name: &str) -> Result<()> {
        let _ = name;
        unimplemented!("owner: engine helper")
    }

    /// Numbers of the running execution of a job; empty if it does not run.
    pub fn stats(&self, id: ObjectId) -> (Vec<VertexStats>, Vec<EdgeStats>) {
        let _ = id;
        unimplemented!("owner: engine helper")
    }

    /// Cancels all executions and waits for them: the shutdown.
    pub fn close(&self) {
        unimplemented!("owner: engine helper")
    }
}
