//! The simple protocol: one string, any number of statements, all answered in text.
//! A keyed statement that was seen before runs at once, without parser, plan or another thread.

use bytes::Bytes;
use planner::Statement;
use storage::table::{take_unsynced, without_waiting};

use crate::{
    connection::{Connection, Failure, caught, must_wait},
    execute::{Started, Work},
    session::Block,
    transaction::{bare_block_statement, ends_block},
    waiting::Patience,
    wire::{
        error::{Severity, block_has_failed},
        types::{datum::data_row, parameter::utf8},
    },
};

impl Connection {
    /// Answers a Query message, ReadyForQuery included.
    pub async fn simple_query(&mut self, text: &Bytes) -> Result<(), Failure> {
        // As in PostgreSQL: the unnamed statement lives until the next simple query.
        self.session.statements.remove("");
        let result = match utf8(text) {
            Ok(sql) => match self.run_keyed_text(sql).await {
                Ok(true) => Ok(()),
                Ok(false) => self.query_string(sql).await,
                failed => failed.map(drop),
            },
            Err(error) => Err(error.into()),
        };
        let result = match result {
            Ok(()) => self.end_implicit_block().await,
            failed => failed,
        };
        self.end_statement();
        if let Err(failure) = result {
            self.report(failure).await?;
        }
        // The unnamed portal does not survive a simple query; others only outside a block.
        if !self.session.is_in_block() {
            self.session.close_portals();
        }
        self.outbound.ready_for_query(self.session.status());
        self.outbound.flush().await?;
        Ok(())
    }

    /// Tells the client of a failed statement; fatal ones are passed on.
    pub async fn report(&mut self, failure: Failure) -> Result<(), Failure> {
        match failure {
            Failure::Statement(error) => self.outbound.error(&error, Severity::Error),
            Failure::Copy(failed) => {
                self.outbound.error_in_context(&failed.error, &failed.context);
            }
            fatal @ (Failure::Fatal(_) | Failure::Gone) => return Err(fatal),
        }
        self.fail_block().await;
        Ok(())
    }

    /// The fast path; false if the text is not for it.
    async fn run_keyed_text(&mut self, sql: &str) -> Result<bool, Failure> {
        if self.session.block == Block::Failed {
            return Ok(false);
        }
        let mut patience = Patience::default();
        let (plan, ran) = loop {
            let Some((plan, values)) = self.shared.planner.keyed(&self.session.planner, sql) else {
                return Ok(false);
            };
            // This thread serves others too, so it does not wait for another client's block.
            let ran = caught(|| without_waiting(|| plan.run(&mut self.session.planner, &values)));
            self.tell_when_durable(take_unsynced());
            match ran {
                Err(error) if must_wait(&error) => {
                    self.wait_for_turn(&mut patience, error).await?;
                }
                ran => break (plan, ran),
            }
        };
        let start = self.outbound.buffer.len();
        let outcome = ran.and_then(|outcome| {
            if let Some(columns) = &plan.columns {
                self.outbound.row_description(columns, &[]);
                for row in &outcome.rows {
                    data_row(row, columns, &[], &self.session.zone, &mut self.outbound.buffer)?;
                }
            }
            Ok(outcome.tag)
        });
        match outcome {
            Ok(tag) => self.outbound.command_complete(&tag),
            Err(error) => {
                self.outbound.buffer.truncate(start);
                self.outbound.error(&error, Severity::Error);
                // A keyed statement that failed wrote nothing, so the block's writer is aborted
                // when the client ends the block.
                if self.session.block == Block::Explicit {
                    self.session.block = Block::Failed;
                }
            }
        }
        Ok(true)
    }

    async fn query_string(&mut self, sql: &str) -> Result<(), Failure> {
        self.begin_statement();
        if let Some(statement) = bare_block_statement(sql)
            && (self.session.block != Block::Failed || ends_block(sql))
        {
            return self.answer_started(Started::Session(statement)).await;
        }
        let planner = std::sync::Arc::clone(&self.shared.planner);
        let text = sql.to_owned();
        let statements = self.plan_on_pool(move |_| planner.parse(&text)).await?;
        if statements.is_empty() {
            self.outbound.empty_query();
            return Ok(());
        }
        let is_string_of_many = statements.len() > 1;
        for statement in statements {
            if is_string_of_many && self.session.block == Block::None {
                let now = self.shared.directory.now_micros();
                self.session.enter_block(Block::Implicit, now);
            }
            self.begin_statement();
            self.simple_statement(statement).await?;
        }
        Ok(())
    }

    async fn simple_statement(&mut self, statement: Statement) -> Result<(), Failure> {
        if self.session.block == Block::Failed && !ends_block(&statement.sql) {
            return Err(block_has_failed().into());
        }
        let started = self.start(Work::Statement(statement), Vec::new(), false).await?;
        self.answer_started(started).await
    }
}
