//! Exported snapshots: a good snapshot of a job gets a name, and another job may start from it.
//! What is exported was verified before; what is started from it must mean the same by its state.
//!
//! ```text
//!   RUNNING    the next snapshot begins at once; committed like any other, then exported. Without a
//!              guarantee it is the job's own only until then
//!   SUSPENDED  the newest is exported: SUSPENDED_EXPORTING_SNAPSHOT as long as that takes
//!   FAILED     the same, without a change of status
//! ```
//! Whatever an exported snapshot covers is permanent in the tables the job wrote to: it was committed
//! as one of the job's own before it was exported.

use std::sync::Arc;

use storage::cluster::control::{
    Command, ExportRecord, ExportRequest, JobRecord, OperatorState, SnapshotRecord,
};

use super::{
    events::{Event, Ticket},
    jobs::{ExportName, Site},
    launch::states_of,
    options::Guarantee,
    shell::{Asked, Job},
};
use crate::{Error, Result, dag::Dag, item::SnapshotId, state::VertexStates};

impl Job {
    /// The snapshot that an export waited for is good, or never will be.
    pub(super) fn export_taken(self: &Arc<Self>, ticket: Ticket, taken: Result<SnapshotId>) {
        let outcome = taken.and_then(|id| {
            let record = self.record()?;
            let state = self.site.grid.control().state();
            let good = record.snapshots.good.iter().find(|good| good.id == id);
            // Without a guarantee who was first has it, if two have waited for the same.
            self.export(ticket, &record, good.or_else(|| state.exported(self.id, id)))
        });
        self.handle(Event::Exported(ticket, outcome));
    }

    /// Exports the newest good snapshot.
    pub(super) fn export_newest(&self, ticket: Ticket) -> Result<()> {
        let record = self.record()?;
        self.export(ticket, &record, record.snapshots.newest())
    }

    fn export(
        &self,
        ticket: Ticket,
        record: &JobRecord,
        snapshot: Option<&SnapshotRecord>,
    ) -> Result<()> {
        let Some(Asked::Export(ExportName { name, replace })) = self.asked(ticket) else {
            return Err(Error::Cancelled);
        };
        let grid = &self.site.grid;
        let Some(snapshot) = snapshot else {
            let text = match self.guarantee {
                Guarantee::None => format!(
                    "job \"{}\" has no snapshot: its processingGuarantee is 'none', and it does not run",
                    self.name
                ),
                _ => format!("job \"{}\" has no snapshot yet", self.name),
            };
            return Err(storage::Error::WrongState(text).into());
        };
        grid.snapshots().verify(grid, record, snapshot)?;
        let (job, snapshot, at) = (self.id, snapshot.id, self.site.now());
        self.site.export(ExportRequest { name, replace, job, snapshot, at })
    }
}

impl Site {
    fn export(&self, request: ExportRequest) -> Result<()> {
        let _one_at_a_time = self.exports.lock();
        let control = self.grid.control();
        let replaced = control.state().exports.get(&request.name).map(Arc::clone);
        control.submit(&Command::ExportSnapshot(request))?;
        replaced.into_iter().for_each(|replaced| self.release(&replaced));
        Ok(())
    }

    /// Drops an exported snapshot. NotFound if there is none, WrongState while a job needs it.
    pub(super) fn drop_export(&self, name: &str) -> Result<()> {
        let _one_at_a_time = self.exports.lock();
        let control = self.grid.control();
        let dropped = control.state().exports.get(name).map(Arc::clone);
        control.submit(&Command::DropSnapshot(name.to_owned()))?;
        dropped.into_iter().for_each(|dropped| self.release(&dropped));
        Ok(())
    }

    fn release(&self, export: &ExportRecord) {
        if let Err(error) = self.grid.release_export(export) {
            tracing::warn!(snapshot = %export.name, %error, "an exported snapshot was not freed");
        }
    }

    /// The exported snapshot that `dag`, a new job's, is to start from. NotFound, or 22023 naming
    /// the operator whose state would mean something else in it; WrongState if that belongs to a job
    /// that still exists.
    pub(super) fn initial(
        &self,
        name: &str,
        dag: &Dag,
        guarantee: Guarantee,
    ) -> Result<Arc<ExportRecord>> {
        let state = self.grid.control().state();
        let missing = || storage::Error::NotFound { kind: "snapshot", name: name.to_owned() };
        let export = state.exports.get(name).ok_or_else(missing)?;
        let bound = dag.vertices.iter().find(|vertex| vertex.supplier.is_state_of_job(guarantee));
        let heir = state.jobs.values().find(|job| job.root() == export.root);
        if let (Some(bound), Some(heir)) = (bound, heir) {
            let text = format!(
                "state of operator \"{}\" in snapshot \"{name}\" belongs to job \"{}\" as long as that \
                 exists",
                bound.name, heir.name
            );
            return Err(storage::Error::WrongState(text).into());
        }
        match mismatch(&export.operators, &dag.operator_states()) {
            None => Ok(Arc::clone(export)),
            Some(mismatch) => {
                let message = format!("snapshot \"{name}\" does not fit the job: {mismatch}");
                Err(Error::Invalid { code: "22023", message })
            }
        }
    }

    /// What an exported snapshot holds. 0A000 for state that does not say what it means: nobody
    /// knows whether it fits.
    pub(super) fn read_export(&self, export: &ExportRecord) -> Result<VertexStates> {
        let chunks = self.grid.snapshots().read_export(&self.grid, export)?;
        let states = states_of(chunks, self.grid.config().partition_count)?;
        let is_told = |vertex: &str| export.operators.iter().any(|state| state.vertex == vertex);
        match states.iter().find(|(vertex, _)| !is_told(vertex)) {
            None => Ok(states),
            Some((vertex, _)) => {
                let message = format!(
                    "starting a job from the state of operator \"{vertex}\" is not supported"
                );
                Err(Error::Invalid { code: "0A000", message })
            }
        }
    }
}

/// Why the state of some operators cannot be that of others, naming the operator; `None` if it can.
/// How many instances they have, and what stands between them, does not matter.
pub(super) fn mismatch(saved: &[OperatorState], wanted: &[OperatorState]) -> Option<String> {
    let of = |all: &[OperatorState], vertex: &str| -> Option<OperatorState> {
        all.iter().find(|state| state.vertex == vertex).cloned()
    };
    for OperatorState { vertex, layout } in wanted {
        match of(saved, vertex) {
            None => return Some(format!("it has no state of operator \"{vertex}\", {layout}")),
            Some(before) if before.layout != *layout => {
                let before = before.layout;
                return Some(format!(
                    "its state of operator \"{vertex}\" is of {before}, not of {layout}"
                ));
            }
            Some(_) => {}
        }
    }
    let gone = saved.iter().find(|state| of(wanted, &state.vertex).is_none())?;
    let OperatorState { vertex, layout } = gone;
    Some(format!(
        "it has state of operator \"{vertex}\", {layout}, and the job has no such operator"
    ))
}
