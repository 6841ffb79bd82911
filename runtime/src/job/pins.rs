//! Whether the changes that a job goes on from are still kept. The pins of a job that reads EMIT CHANGES
//! live in memory: an execution that is lost leaves them to the next one, a process that ends does not.
//! Such a job must not go on as if it had read what it has not.
//!
//! | newest good snapshot | pin | the job |
//! | --- | --- | --- |
//! | of execution 3 | made by execution 2 | goes on: the saved position is one in it |
//! | of execution 3 | gone, or made by execution 5 | is SUSPENDED with 55000 |
//! | none yet | gone | starts anew, if nothing that it told stays and the rows tell it all; else SUSPENDED |
//!
//! Who resumes it with `acceptRepeats` has it start anew (`fallback`).

use storage::cluster::control::{JobRecord, OperatorState};

use super::{options::Guarantee, shell::Job};
use crate::{
    Result,
    processors::{CHANGES_FROM_NOW, CHANGES_STATE},
};

impl Job {
    /// WrongState if changes that the next execution would go on from are not kept any more.
    pub(super) fn check_pins(&self, record: &JobRecord) -> Result<()> {
        if self.guarantee == Guarantee::None {
            // It starts anew each time.
            return Ok(());
        }
        let operators = &record.snapshots.operators;
        match operators.iter().find(|operator| !self.is_kept(record, operator)) {
            None => Ok(()),
            Some(OperatorState { layout, .. }) => {
                let changes = layout.trim_start_matches(CHANGES_STATE).trim_start();
                let (table, start) = match changes.strip_suffix(CHANGES_FROM_NOW) {
                    Some(table) => (table, "the changes from then on"),
                    None => (changes, "the rows that are in the table then"),
                };
                let name = &self.name;
                let text = format!(
                    "the changes of table {table} that job \"{name}\" goes on from were kept in memory and \
                     are gone with the process; empty what it writes into and start it anew, with \
                     {start}, by ALTER JOB {name} RESUME OPTIONS ('acceptRepeats' = 'true'), or drop it"
                );
                Err(storage::Error::WrongState(text).into())
            }
        }
    }

    fn is_kept(&self, record: &JobRecord, operator: &OperatorState) -> bool {
        let OperatorState { vertex, layout } = operator;
        if !layout.starts_with(CHANGES_STATE) {
            return true;
        }
        let since = self.site.grid.pins().since(self.id, vertex);
        match (since, record.snapshots.newest()) {
            (Some(since), Some(newest)) => since <= newest.execution,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => {
                self.guarantee == Guarantee::ExactlyOnce && !layout.ends_with(CHANGES_FROM_NOW)
            }
        }
    }
}
