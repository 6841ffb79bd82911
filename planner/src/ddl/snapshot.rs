//! `CREATE [OR REPLACE] SNAPSHOT s FOR JOB j` and `DROP JOB [IF EXISTS] j WITH SNAPSHOT s`: both give
//! the last snapshot of a job a name; they differ in what becomes of the job.

use runtime::job::ExportName;

use super::job::explained;
use crate::{
    Result,
    context::Context,
    parse::{ExportJob, JobGoes, fold},
    plan::CommandOutcome,
};

/// Carries it out: returns when the snapshot is there, and the job gone if it is to go.
pub fn export(context: &Context, export: &ExportJob) -> Result<CommandOutcome> {
    let (job, jobs) = (fold(&export.job), &context.parts.jobs);
    let is_there = context.parts.grid.control().state().job(&job).is_some();
    let name = ExportName { name: fold(&export.snapshot), replace: export.replace };
    let (tag, outcome) = match export.job_goes {
        JobGoes::Away { if_exists: true } if !is_there => {
            let notice = format!("job \"{job}\" does not exist, skipping");
            let (tag, notices) = ("DROP JOB".to_owned(), vec![("00000", notice)]);
            return Ok(CommandOutcome { tag, notices });
        }
        JobGoes::On => ("CREATE SNAPSHOT", jobs.export(&job, name)),
        JobGoes::Away { .. } => ("DROP JOB", jobs.drop_exported(&job, name)),
    };
    outcome.map_err(|error| explained(context, &job, error))?;
    Ok(CommandOutcome { tag: tag.to_owned(), notices: Vec::new() })
}
