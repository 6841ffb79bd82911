//! BEGIN, COMMIT, ROLLBACK and the blocks nobody wrote: several statements of one query string, or
//! of one pipeline, commit together at its end, as in PostgreSQL.

use planner::{Error, plan::SessionStatement};
use storage::table::{take_unsynced, without_waiting};

use crate::{
    connection::{Connection, Failure, caught},
    session::Block,
    wire::error::Severity,
};

impl Connection {
    /// BEGIN.
    pub fn begin_block(&mut self) -> &'static str {
        match self.session.block {
            Block::None | Block::Implicit => {
                let now = self.shared.directory.now_micros();
                self.session.enter_block(Block::Explicit, now);
            }
            Block::Explicit | Block::Failed => {
                let message = "there is already a transaction in progress";
                self.outbound.notice("25001", message, Severity::Warning);
            }
        }
        "BEGIN"
    }

    /// COMMIT. A failed block is rolled back, as its tag says.
    pub async fn commit_block(&mut self) -> Result<&'static str, Failure> {
        match self.session.block {
            Block::Explicit => {
                self.commit_writer().await?;
                Ok("COMMIT")
            }
            Block::Failed => {
                self.abort_writer().await;
                self.session.leave_block(false);
                Ok("ROLLBACK")
            }
            Block::None | Block::Implicit => {
                let message = "there is no transaction in progress";
                self.outbound.notice("25P01", message, Severity::Warning);
                if self.session.block == Block::Implicit {
                    self.commit_writer().await?;
                }
                Ok("COMMIT")
            }
        }
    }

    /// ROLLBACK.
    pub async fn roll_back_block(&mut self) -> Result<&'static str, Failure> {
        if !self.session.is_in_block() {
            let message = "there is no transaction in progress";
            self.outbound.notice("25P01", message, Severity::Warning);
        }
        self.abort_writer().await;
        if self.session.block != Block::None {
            self.session.leave_block(false);
        }
        Ok("ROLLBACK")
    }

    /// Ends an implicit block at the end of its query string or pipeline.
    pub async fn end_implicit_block(&mut self) -> Result<(), Failure> {
        match self.session.block {
            Block::Implicit => self.commit_writer().await,
            _ => Ok(()),
        }
    }

    /// A statement failed: the block it stood in can only be rolled back.
    pub async fn fail_block(&mut self) {
        self.abort_writer().await;
        match self.session.block {
            Block::None | Block::Failed => {}
            Block::Implicit => self.session.leave_block(false),
            Block::Explicit => self.session.block = Block::Failed,
        }
    }

    /// The connection ends: whatever was not committed is undone.
    pub async fn abandon_block(&mut self) {
        self.end_statement();
        self.session.portals.clear();
        self.abort_writer().await;
    }

    /// Commits the block's writer, if it wrote, and leaves the block.
    async fn commit_writer(&mut self) -> Result<(), Failure> {
        let committed = match self.session.planner.writer.take() {
            // As quick as a keyed statement, and it must not queue behind statements that wait for
            // this very block.
            Some(writer) if writer.is_short() => {
                let committed = caught(|| without_waiting(|| Ok(writer.commit()?)));
                self.tell_when_durable(take_unsynced());
                committed.map_err(Failure::from)
            }
            Some(writer) => self.on_pool(move |_| Ok(writer.commit()?)).await,
            None => Ok(()),
        };
        self.session.leave_block(committed.is_ok());
        committed
    }

    async fn abort_writer(&mut self) {
        if let Some(writer) = self.session.planner.writer.take() {
            if writer.is_short() {
                without_waiting(|| writer.abort());
                return;
            }
            let session = std::mem::take(&mut self.session.planner);
            let abort = move |_: &mut planner::Session| {
                writer.abort();
                Ok(())
            };
            let (session, _) = self.shared.pool.run(session, abort).await;
            self.session.planner = session;
        }
    }

    /// 25P01 for what makes sense only in a block.
    pub fn require_block(&self, what: &str) -> Result<(), Error> {
        match self.session.block {
            Block::None => {
                let message = format!("{what} can only be used in transaction blocks");
                Err(Error::new("25P01", message))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a statement ends a block: all that a failed block lets pass. Reads its first word.
pub fn ends_block(sql: &str) -> bool {
    let word = first_word(sql);
    ["commit", "end", "rollback", "abort"].iter().any(|end| word.eq_ignore_ascii_case(end))
}

/// BEGIN, COMMIT or ROLLBACK written as barely as most clients do: no parser is needed.
pub fn bare_block_statement(sql: &str) -> Option<SessionStatement> {
    let sql = sql.trim();
    let sql = sql.strip_suffix(';').unwrap_or(sql).trim_end();
    let is = |word: &str| sql.eq_ignore_ascii_case(word);
    match () {
        () if is("begin") => Some(SessionStatement::Begin),
        () if is("commit") || is("end") => Some(SessionStatement::Commit),
        () if is("rollback") => Some(SessionStatement::Rollback),
        () => None,
    }
}

/// The first word of a statement, behind blanks and comments.
pub fn first_word(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after).trim_start();
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after).trim_start();
        } else {
            break;
        }
    }
    let end = rest.bytes().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(rest.len());
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_block_statements_need_no_parser() {
        assert!(matches!(bare_block_statement(" BEGIN ;"), Some(SessionStatement::Begin)));
        assert!(matches!(bare_block_statement("end"), Some(SessionStatement::Commit)));
        for sql in ["begin read only", "commit and chain", "begin; select 1", "rollback to s", ""] {
            assert!(bare_block_statement(sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn block_ends_are_seen_behind_comments() {
        assert!(ends_block("/* x */ -- y\n  Rollback;"));
        assert!(ends_block("END"));
        assert!(!ends_block("committed"));
        assert!(!ends_block("-- commit"));
        assert!(!ends_block(""));
    }
}
