//! A started statement → messages to the client: rows within their limit, tags, notices, and what
//! only the session can do. Both sub-protocols end here.

use std::sync::Arc;

use planner::{
    Error, SqlType,
    plan::{CommandOutcome, SessionStatement},
};
use storage::Datum;

use crate::{
    connection::{Connection, Failure},
    execute::{Started, Work},
    rows::{Ready, RowSource},
    session::{Block, OpenRows, PreparedEntry, RowTag},
    settings,
    wire::{
        error::Severity,
        types::{Format, RowEncoder, parameter::decode_text},
    },
};

/// How far a statement got.
pub enum Progress {
    /// It is done; its tag.
    Done(String),
    /// It has rows to send.
    Rows(OpenRows),
}

/// Rows sent by one step.
pub struct Sent {
    /// Their number.
    pub rows: u64,
    /// Whether there are no more.
    pub is_end: bool,
}

impl Connection {
    /// Answers a statement of the simple protocol to its end.
    pub async fn answer_started(&mut self, started: Started) -> Result<(), Failure> {
        match self.progress(started, &[]).await? {
            Progress::Done(tag) => self.outbound.command_complete(&tag),
            Progress::Rows(mut open) => {
                self.outbound.row_description(&open.columns, &[]);
                let sent = self.send_rows(&mut open, None, &[]).await?;
                self.outbound.command_complete(&open.tag.text(sent.rows));
            }
        }
        Ok(())
    }

    /// Does whatever a started statement still needs from the session, up to its rows.
    pub async fn progress(
        &mut self,
        started: Started,
        formats: &[Format],
    ) -> Result<Progress, Failure> {
        match started {
            Started::Done { tag } => Ok(Progress::Done(tag)),
            Started::Rows { columns, source, tag } => {
                Ok(Progress::Rows(OpenRows { columns, source, tag, is_hold: false }))
            }
            Started::Command(outcome) => Ok(Progress::Done(self.command_tag(outcome))),
            Started::CopyIn(copy) => Ok(Progress::Done(self.copy_in(*copy).await?)),
            Started::CopyOut { column_count, source } => {
                Ok(Progress::Done(self.copy_out(column_count, source).await?))
            }
            Started::Session(statement) => {
                // EXECUTE leads back here: boxed, so that the future has a size.
                Box::pin(self.session_statement(statement, formats)).await
            }
        }
    }

    fn command_tag(&mut self, outcome: CommandOutcome) -> String {
        for (code, message) in &outcome.notices {
            self.outbound.notice(code, message, Severity::Notice);
        }
        if self.session.block == Block::Explicit {
            let message = format!("{} takes effect at once, whatever the transaction", outcome.tag);
            self.outbound.notice("00000", &message, Severity::Notice);
        }
        outcome.tag
    }

    /// Sends rows up to `limit`, flushing whenever enough is gathered, and for a stream whenever
    /// there is nothing to wait with.
    pub async fn send_rows(
        &mut self,
        open: &mut OpenRows,
        limit: Option<u64>,
        formats: &[Format],
    ) -> Result<Sent, Failure> {
        let encoder = RowEncoder::new(&open.columns, formats, self.session.zone)?;
        self.drain(&mut open.source, limit, Some(&encoder)).await
    }

    /// Takes rows out of `source`; writes them with `encoder`, or skips them without one (MOVE).
    pub async fn drain(
        &mut self,
        source: &mut RowSource,
        limit: Option<u64>,
        encoder: Option<&RowEncoder>,
    ) -> Result<Sent, Failure> {
        let mut rows = 0;
        while limit.is_none_or(|limit| rows < limit) {
            let mut chunk = match source.try_next()? {
                Ready::Chunk(chunk) => chunk,
                Ready::End => return Ok(Sent { rows, is_end: true }),
                Ready::Pending => {
                    if source.is_stream {
                        self.flush_guarded().await?;
                    }
                    let Self { inbound, guard, shared, .. } = self;
                    let next = source.next();
                    match Self::guarded(inbound, guard, &shared.shutdown, next).await?? {
                        Some(chunk) => chunk,
                        None => return Ok(Sent { rows, is_end: true }),
                    }
                }
            };
            let room = limit.map_or(u64::MAX, |limit| limit - rows);
            if chunk.rows() as u64 > room {
                let rest = chunk.split_off(room as usize);
                source.put_back(rest);
            }
            rows += chunk.rows() as u64;
            source.sent(chunk.rows());
            if let Some(encoder) = encoder {
                chunk.write(encoder, &mut self.outbound.buffer)?;
            }
            if self.outbound.is_full() {
                self.flush_guarded().await?;
            }
        }
        Ok(Sent { rows, is_end: false })
    }

    /// COPY … TO STDOUT.
    async fn copy_out(
        &mut self,
        column_count: usize,
        mut source: RowSource,
    ) -> Result<String, Failure> {
        self.outbound.copy_out(column_count);
        let encoder = RowEncoder::new(&[], &[], self.session.zone)?;
        let sent = self.drain(&mut source, None, Some(&encoder)).await?;
        self.outbound.copy_done();
        Ok(RowTag::Counted("COPY").text(sent.rows))
    }

    /// What only the session can do.
    async fn session_statement(
        &mut self,
        statement: SessionStatement,
        formats: &[Format],
    ) -> Result<Progress, Failure> {
        let tag = match statement {
            SessionStatement::Begin => self.begin_block(),
            SessionStatement::Commit => self.commit_block().await?,
            SessionStatement::Rollback => self.roll_back_block().await?,
            SessionStatement::Set { name, value, is_local } => {
                self.set(&name, value.as_deref(), is_local)?
            }
            SessionStatement::ResetAll { discard } => self.reset_all(discard)?,
            SessionStatement::Prepare { name, types, statement } => {
                let planner = Arc::clone(&self.shared.planner);
                let prepare = move |session: &mut planner::Session| {
                    let hints: Vec<Option<SqlType>> = types.into_iter().map(Some).collect();
                    planner.prepare(session, &statement, &hints)
                };
                let prepared = Some(self.plan_on_pool(prepare).await?);
                let entry = Arc::new(PreparedEntry { prepared });
                self.session.add_statement(&name, entry)?;
                "PREPARE"
            }
            SessionStatement::Execute { name, values } => {
                return self.execute_named(&name, values, formats).await;
            }
            SessionStatement::Deallocate(Some(name)) => {
                self.session.statement(&name)?;
                self.session.statements.remove(&name);
                "DEALLOCATE"
            }
            SessionStatement::Deallocate(None) => {
                self.session.drop_statements();
                "DEALLOCATE ALL"
            }
            SessionStatement::Declare { name, statement, is_hold } => {
                self.declare(&name, *statement, is_hold).await?
            }
            SessionStatement::Fetch { name, count, is_move } => {
                return self.fetch(&name, count, is_move, formats).await;
            }
            SessionStatement::Close(name) => self.close_cursor(name.as_deref())?,
            SessionStatement::Nothing(tag) => tag,
        };
        Ok(Progress::Done(tag.to_owned()))
    }

    fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
        is_local: bool,
    ) -> Result<&'static str, Error> {
        if is_local && self.session.block == Block::None {
            let message = "SET LOCAL can only be used in transaction blocks";
            self.outbound.notice("25P01", message, Severity::Warning);
            return Ok("SET");
        }
        self.session.set(name, value, is_local)?;
        if let Some(value) = value
            && let Some(kept) = settings::truncated(name, value)
        {
            let message = format!("identifier \"{value}\" will be truncated to \"{kept}\"");
            self.outbound.notice("42622", &message, Severity::Notice);
        }
        self.report_setting(name);
        Ok(if value.is_some() { "SET" } else { "RESET" })
    }

    /// Tells the client, and `sys.sessions`, of a setting that may have changed.
    fn report_setting(&mut self, name: &str) {
        let stored = self.session.planner.settings.get(&name.to_ascii_lowercase());
        let Some(value) = stored else { return };
        if name.eq_ignore_ascii_case("application_name") {
            self.listing.entry.set_application(value);
        }
        if let Some(reported) = settings::reported_name(name) {
            self.outbound.parameter_status(reported, value);
        }
    }

    fn reset_all(&mut self, discard: bool) -> Result<&'static str, Error> {
        if discard {
            if self.session.is_in_block() {
                let message = "DISCARD ALL cannot run inside a transaction block";
                return Err(Error::new("25001", message));
            }
            self.session.drop_statements();
            self.session.portals.clear();
        }
        self.session.reset_all();
        for name in settings::reported_names() {
            self.report_setting(name);
        }
        Ok(if discard { "DISCARD ALL" } else { "RESET" })
    }

    /// EXECUTE name (values): values come as text and are read by the statement's own types.
    async fn execute_named(
        &mut self,
        name: &str,
        values: Vec<Option<String>>,
        formats: &[Format],
    ) -> Result<Progress, Failure> {
        let entry = Arc::clone(self.session.statement(name)?);
        let Some(prepared) = entry.prepared.as_ref().map(Arc::clone) else {
            return Ok(Progress::Done(String::new()));
        };
        if prepared.parameters.len() != values.len() {
            let message = format!("wrong number of parameters for prepared statement \"{name}\"");
            let detail = format!(
                "Expected {} parameters but got {}.",
                prepared.parameters.len(),
                values.len()
            );
            return Err(Error::new("42601", message).with_detail(detail).into());
        }
        let zone = self.session.zone;
        let read = |(value, sql_type): (Option<String>, &SqlType)| match value {
            Some(text) => decode_text(&text, sql_type, &zone),
            None => Ok(Datum::Null),
        };
        let values = values.into_iter().zip(&prepared.parameters).map(read);
        let values = values.collect::<Result<Vec<_>, Error>>()?;
        let started = self.start(Work::Prepared(prepared, values), formats.to_vec(), false).await?;
        self.progress(started, formats).await
    }
}
