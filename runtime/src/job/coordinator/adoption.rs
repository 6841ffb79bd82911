//! A job that an earlier process has left is taken over. Nothing of it runs any more, and whoever had
//! asked for something was not answered; what counts is what the control state says of it.
//!
//! | recorded | what was under way | what becomes of it |
//! | --- | --- | --- |
//! | NOT_RUNNING | a start that had not begun, or a shutdown | it is started |
//! | STARTING, RUNNING | an execution, which is lost | it is started again, as after any loss |
//! | SUSPENDED | nothing | it stays |
//! | SUSPENDED_EXPORTING_SNAPSHOT | one command, which was applied or was not | SUSPENDED; the exported snapshot is there or is not |
//! | COMPLETING | nothing | COMPLETED |
//! | FAILED, COMPLETED | nothing | it stays |
//!
//! A suspend, restart or drop under way is forgotten with who asked for it: the job was RUNNING and is
//! RUNNING again. COMPLETING needs no execution: it is recorded when the last one has ended with all
//! that it wrote settled, what a sink holds back until a snapshot covers it included, so a new one
//! would find nothing to do. A job whose CREATE JOB was not answered is there as if it had been: should
//! it not start, it is SUSPENDED with the cause, because there is nobody left to tell.

use storage::cluster::control::JobStatus;

use super::{JobCoordinator, Origin, Phase};

impl JobCoordinator {
    pub(super) fn adopted(&mut self, status: JobStatus) {
        if !matches!(self.phase, Phase::NotRunning) {
            return;
        }
        match status {
            JobStatus::NotRunning => self.start(None, Origin::Resume),
            JobStatus::Starting | JobStatus::Running => self.start_again(None),
            JobStatus::Suspended => self.phase = Phase::Suspended,
            JobStatus::SuspendedExportingSnapshot => {
                self.set_status(JobStatus::Suspended);
                self.phase = Phase::Suspended;
            }
            JobStatus::Completing => {
                self.set_status(JobStatus::Completed);
                self.phase = Phase::Terminal(JobStatus::Completed);
            }
            JobStatus::Failed | JobStatus::Completed => self.phase = Phase::Terminal(status),
        }
    }
}
