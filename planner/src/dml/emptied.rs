//! TRUNCATE inside a transaction block: every row is removed under the block's writer, so that a
//! rollback brings it back. Others see the rows until the block commits, and never wait for it.

use std::sync::Arc;

use storage::Table;

use crate::{Result, Session, context::Context, plan::ModifyOutcome};

/// The tables to be emptied.
pub struct Emptied {
    context: Arc<Context>,
    tables: Vec<Arc<Table>>,
}

impl Emptied {
    /// TRUNCATE of these tables.
    pub fn new(context: &Arc<Context>, tables: Vec<Arc<Table>>) -> Self {
        Self { context: Arc::clone(context), tables }
    }

    /// Removes the rows that the block sees; a row that somebody else changes meanwhile is 40001.
    pub fn execute(self, session: &mut Session) -> Result<ModifyOutcome> {
        let begin = || Arc::new(self.context.parts.grid.begin());
        let writer = Arc::clone(session.writer.get_or_insert_with(begin));
        for table in &self.tables {
            let view = writer.read_view();
            for lane in table.scan(&view, Some(&table.record().key), 1)? {
                for batch in lane {
                    session.interrupt.check()?;
                    table.modify_batch(&writer, &view, batch?.columns(), None)?;
                }
            }
        }
        Ok(ModifyOutcome { tag: "TRUNCATE TABLE".to_owned(), batches: Vec::new() })
    }
}
