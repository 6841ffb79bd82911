//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync, pipelined. A keyed
//! statement runs to its end right here, on the connection's own thread, and everything up to Sync
//! leaves in one write.

use std::sync::Arc;

use planner::{
    Error, OutputColumn, Plan, Prepared, SqlType,
    plan::{KeyedOutcome, KeyedPlan, SessionStatement},
};
use storage::{
    Datum,
    table::{take_unsynced, without_waiting},
};

use crate::{
    answer::Progress,
    connection::{Connection, Failure, caught, must_wait},
    execute::{Started, Work},
    session::{Block, OpenRows, Portal, PortalState, PreparedEntry, RowTag},
    transaction::{ends_block, first_word},
    waiting::Patience,
    wire::{
        error::{block_has_failed, plan_has_changed},
        frame::{Bind, Frame, Message, Name, Parse, Target, is_sync_next},
        types::{
            Format,
            datum::data_row,
            encode::{check_formats, format_of},
            parameter,
        },
    },
};

impl Connection {
    /// Answers one message outside of COPY; false when it was Terminate.
    pub async fn dispatch(&mut self, frame: Frame) -> Result<bool, Failure> {
        if self.is_skipping && !matches!(frame.tag, b'S' | b'X') {
            return Ok(true);
        }
        let tag = frame.tag;
        if matches!(tag, b'd' | b'c' | b'f') {
            // What is left of a COPY that failed; PostgreSQL ignores it too, whatever it says.
            return Ok(true);
        }
        let message = match frame.message() {
            Ok(message) => message,
            // The frame's border was right, so the next one is where it should be.
            Err(error) => {
                match tag {
                    b'Q' | b'F' | b'S' => self.fail_simple(error).await?,
                    // A password nobody asked for.
                    b'p' => return Err(Failure::Fatal(error)),
                    _ => self.fail_extended(error.into()).await?,
                }
                return Ok(true);
            }
        };
        let result = match message {
            Message::Query(text) => {
                self.simple_query(&text).await?;
                Ok(())
            }
            Message::Terminate => return Ok(false),
            Message::Sync => self.sync().await,
            Message::Flush => Ok(self.outbound.flush().await?),
            Message::Parse(parse) => self.parse(parse).await,
            Message::Bind(bind) => self.bind(bind),
            Message::Describe(target) => self.describe(target).await,
            Message::Execute { portal, row_limit } => self.execute(&portal, row_limit).await,
            Message::Close(target) => {
                self.close(&target);
                Ok(())
            }
            Message::CopyData(_) | Message::CopyDone | Message::CopyFail(_) => Ok(()),
        };
        if let Err(failure) = result {
            self.fail_extended(failure).await?;
        }
        Ok(true)
    }

    /// Reports an error and skips messages until Sync.
    async fn fail_extended(&mut self, failure: Failure) -> Result<(), Failure> {
        self.end_statement();
        self.report(failure).await?;
        self.is_skipping = true;
        Ok(())
    }

    /// Reports an error in a message that is answered by itself, without Sync.
    async fn fail_simple(&mut self, error: Error) -> Result<(), Failure> {
        self.is_skipping = false;
        self.end_statement();
        self.report(error.into()).await?;
        if !self.session.is_in_block() {
            self.session.close_portals();
        }
        self.outbound.ready_for_query(self.session.status());
        self.outbound.flush().await?;
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Failure> {
        self.is_skipping = false;
        if let Err(failure) = self.end_implicit_block().await {
            self.report(failure).await?;
        }
        if self.session.block == Block::None && !self.session.portals.is_empty() {
            self.session.close_portals();
        }
        self.outbound.ready_for_query(self.session.status());
        self.outbound.flush().await?;
        Ok(())
    }

    async fn parse(&mut self, parse: Parse) -> Result<(), Failure> {
        let Parse { name, query, parameter_oids } = parse;
        if self.session.block == Block::Failed && !ends_block(&query) {
            return Err(block_has_failed().into());
        }
        let known = self.session.known_text(&query, &parameter_oids).filter(|entry| {
            let prepared = entry.prepared.as_ref();
            prepared.is_none_or(|prepared| {
                self.shared.planner.is_current(&self.session.planner, prepared)
            })
        });
        let entry = match known {
            Some(entry) => entry,
            None => {
                let entry = self.prepare(query.clone(), &parameter_oids).await?;
                self.session.remember_text(query, parameter_oids, Arc::clone(&entry));
                entry
            }
        };
        self.session.add_statement(name.as_str(), entry)?;
        self.outbound.parse_complete();
        Ok(())
    }

    async fn prepare(
        &mut self,
        query: String,
        parameter_oids: &[u32],
    ) -> Result<Arc<PreparedEntry>, Failure> {
        let hint = |oid: &u32| match oid {
            0 | 705 => Ok(None),
            oid => SqlType::of_oid(*oid)
                .map(Some)
                .ok_or_else(|| Error::new("42704", format!("type with OID {oid} does not exist"))),
        };
        let hints = parameter_oids.iter().map(hint).collect::<Result<Vec<_>, Error>>()?;
        let planner = Arc::clone(&self.shared.planner);
        self.begin_statement();
        let prepare = move |session: &mut planner::Session| {
            let mut statements = planner.parse(&query)?.into_iter();
            let prepared = match (statements.next(), statements.next()) {
                (None, _) => None,
                (Some(statement), None) => Some(planner.prepare(session, &statement, &hints)?),
                (Some(_), Some(_)) => {
                    let message = "cannot insert multiple commands into a prepared statement";
                    return Err(Error::new("42601", message));
                }
            };
            Ok(Arc::new(PreparedEntry { prepared }))
        };
        let entry = self.plan_on_pool(prepare).await;
        self.end_statement();
        entry
    }

    fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let entry = Arc::clone(self.session.statement(bind.statement.as_str())?);
        let parameters = entry.prepared.as_ref().map_or(&[][..], |prepared| &prepared.parameters);
        let is_ending = |prepared: &Arc<Prepared>| ends_block(&prepared.statement.sql);
        if self.session.block == Block::Failed && !entry.prepared.as_ref().is_some_and(is_ending) {
            return Err(block_has_failed().into());
        }
        if parameters.len() != bind.values.len() {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                bind.values.len(),
                bind.statement.as_str(),
                parameters.len()
            );
            return Err(Error::new("08P01", message).into());
        }
        let mut values = Vec::with_capacity(parameters.len());
        for (index, (value, sql_type)) in bind.values.iter().zip(parameters).enumerate() {
            values.push(match value {
                None => Datum::Null,
                Some(bytes) => {
                    let format = format_of(&bind.parameter_formats, index);
                    parameter::decode(bytes, sql_type, format, &self.session.zone)?
                }
            });
        }
        if let Some(columns) = entry.prepared.as_ref().and_then(|p| p.columns.as_ref()) {
            check_formats(&bind.result_formats, columns.len())?;
        }
        let portal = Portal {
            entry: Some(entry),
            values,
            formats: bind.result_formats,
            state: PortalState::Bound,
        };
        self.session.add_portal(bind.portal.as_str(), portal)?;
        self.outbound.bind_complete();
        Ok(())
    }

    async fn describe(&mut self, target: Target) -> Result<(), Failure> {
        match target {
            Target::Statement(name) => {
                let entry = Arc::clone(self.session.statement(name.as_str())?);
                let prepared = entry.prepared.as_ref();
                let parameters = prepared.map_or(&[][..], |prepared| &prepared.parameters);
                self.outbound.parameter_description(parameters);
                self.describe_columns(&entry, &[]).await
            }
            Target::Portal(name) => {
                let portal =
                    self.session.portals.get(name.as_str()).ok_or_else(|| no_such_portal(&name))?;
                if let PortalState::Open(open) = &portal.state {
                    self.outbound.row_description(&open.columns, &portal.formats);
                    return Ok(());
                }
                let Some(entry) = portal.entry.as_ref().map(Arc::clone) else {
                    self.outbound.no_data();
                    return Ok(());
                };
                // Borrowed apart from the portal, which describing FETCH may look at.
                let formats = portal.formats.clone();
                self.describe_columns(&entry, &formats).await
            }
        }
    }

    async fn describe_columns(
        &mut self,
        entry: &PreparedEntry,
        formats: &[Format],
    ) -> Result<(), Failure> {
        let Some(prepared) = &entry.prepared else {
            self.outbound.no_data();
            return Ok(());
        };
        match &prepared.columns {
            Some(columns) => self.outbound.row_description(columns, formats),
            None => match self.session_columns(prepared).await? {
                Some(columns) => self.outbound.row_description(&columns, formats),
                None => self.outbound.no_data(),
            },
        }
        Ok(())
    }

    /// Columns of FETCH and EXECUTE: only the session knows them.
    async fn session_columns(
        &mut self,
        prepared: &Arc<Prepared>,
    ) -> Result<Option<Arc<[OutputColumn]>>, Failure> {
        let word = first_word(&prepared.statement.sql).to_ascii_lowercase();
        if !matches!(word.as_str(), "fetch" | "execute") {
            return Ok(None);
        }
        let planner = Arc::clone(&self.shared.planner);
        let prepared = Arc::clone(prepared);
        let plan = self.plan_on_pool(move |session| planner.bind(session, &prepared, &[])).await?;
        match plan {
            Plan::Session(SessionStatement::Fetch { name, is_move: false, .. }) => {
                Ok(Some(self.cursor_columns(&name)?))
            }
            Plan::Session(SessionStatement::Execute { name, .. }) => {
                let entry = self.session.statement(&name)?;
                let prepared = entry.prepared.as_ref();
                let columns = prepared.and_then(|prepared| prepared.columns.as_ref());
                Ok(columns.map(|columns| columns.as_slice().into()))
            }
            _ => Ok(None),
        }
    }

    async fn execute(&mut self, name: &Name, row_limit: u32) -> Result<(), Failure> {
        let portal = self.session.portals.get_mut(name.as_str());
        let portal = portal.ok_or_else(|| no_such_portal(name))?;
        match &portal.state {
            PortalState::Bound => {}
            PortalState::Done(tag) => {
                let prepared = portal.entry.as_ref().and_then(|entry| entry.prepared.as_ref());
                // There are no more rows; but what was done is not done again.
                return match prepared.is_none_or(|prepared| prepared.columns.is_some()) {
                    true => {
                        self.outbound.command_complete(&tag.after_the_end());
                        Ok(())
                    }
                    false => {
                        let message = format!("portal \"{}\" cannot be run", name.as_str());
                        Err(Error::new("55000", message).into())
                    }
                };
            }
            PortalState::Open(_) => return self.execute_open(name, row_limit).await,
        }
        let values = std::mem::take(&mut portal.values);
        let Some(prepared) = portal.entry.as_ref().and_then(|entry| entry.prepared.as_ref()) else {
            self.outbound.empty_query();
            return Ok(());
        };
        let prepared = Arc::clone(prepared);
        if self.session.block == Block::None && !is_sync_next(&self.inbound.buffer) {
            let now = self.shared.directory.now_micros();
            self.session.enter_block(Block::Implicit, now);
        }
        if let Some(statement) = prepared.block_statement()
            && let Progress::Done(tag) = self.progress(Started::Session(statement), &[]).await?
        {
            self.outbound.command_complete(&tag);
            self.set_portal(name, PortalState::Done(RowTag::Fixed(tag)));
            return Ok(());
        }
        match self.run_keyed(&prepared, &values).await? {
            // A keyed answer has at most one row, so no limit can cut it.
            Some((plan, outcome)) => {
                let Self { session, outbound, .. } = self;
                let portal = session.portals.get_mut(name.as_str());
                let portal = portal.ok_or_else(|| no_such_portal(name))?;
                if let Some(columns) = &plan.columns {
                    for row in &outcome.rows {
                        let out = &mut outbound.buffer;
                        data_row(row, columns, &portal.formats, &session.zone, out)?;
                    }
                }
                outbound.command_complete(&outcome.tag);
                portal.state = PortalState::Done(RowTag::Fixed(outcome.tag));
                Ok(())
            }
            None => self.execute_planned(name, prepared, values, row_limit).await,
        }
    }

    /// Runs a statement right here if it is a keyed one, trying again where another client's block
    /// is in the way; `None` if it is none, or is none any more.
    async fn run_keyed(
        &mut self,
        prepared: &Arc<Prepared>,
        values: &[Datum],
    ) -> Result<Option<(Arc<KeyedPlan>, KeyedOutcome)>, Failure> {
        let mut patience = Patience::default();
        loop {
            let planner = &self.shared.planner;
            let Some(plan) = planner.keyed_plan(&self.session.planner, prepared) else {
                return Ok(None);
            };
            let ran = caught(|| without_waiting(|| plan.run(&mut self.session.planner, values)));
            self.tell_when_durable(take_unsynced());
            match ran {
                Err(error) if must_wait(&error) => {
                    self.wait_for_turn(&mut patience, error).await?;
                }
                outcome => {
                    if patience.has_begun() {
                        self.end_statement();
                    }
                    return Ok(Some((plan, outcome?)));
                }
            }
        }
    }

    async fn execute_planned(
        &mut self,
        name: &Name,
        prepared: Arc<Prepared>,
        values: Vec<Datum>,
        row_limit: u32,
    ) -> Result<(), Failure> {
        self.begin_statement();
        let formats = self.session.portals.get(name.as_str()).map(|portal| portal.formats.clone());
        let formats = formats.unwrap_or_default();
        let described = prepared.columns.clone();
        let started = self.start(Work::Prepared(prepared, values), formats.clone(), false).await?;
        match self.progress(started, &formats).await? {
            Progress::Done(tag) => {
                self.outbound.command_complete(&tag);
                self.set_portal(name, PortalState::Done(RowTag::Fixed(tag)));
            }
            Progress::Rows(open) => {
                if described.is_some_and(|told| !OutputColumn::are_alike(&told, &open.columns)) {
                    return Err(plan_has_changed().into());
                }
                self.set_portal(name, PortalState::Open(open));
                self.execute_open(name, row_limit).await?;
            }
        }
        self.end_statement();
        Ok(())
    }

    /// Sends the next rows of an open portal.
    async fn execute_open(&mut self, name: &Name, row_limit: u32) -> Result<(), Failure> {
        let portal = self.session.portals.get_mut(name.as_str());
        let portal = portal.ok_or_else(|| no_such_portal(name))?;
        let formats = portal.formats.clone();
        let taken = std::mem::replace(&mut portal.state, CLOSED);
        let PortalState::Open(mut open) = taken else {
            portal.state = taken;
            return Ok(());
        };
        self.begin_statement();
        let limit = (row_limit > 0).then_some(u64::from(row_limit));
        let sent = self.send_rows(&mut open, limit, &formats).await?;
        self.end_statement();
        let OpenRows { tag, .. } = &open;
        if sent.is_end {
            self.outbound.command_complete(&tag.text(sent.rows));
            let done = PortalState::Done(tag.clone());
            self.set_portal(name, done);
        } else {
            self.outbound.portal_suspended();
            self.set_portal(name, PortalState::Open(open));
        }
        Ok(())
    }

    fn set_portal(&mut self, name: &Name, state: PortalState) {
        if let Some(portal) = self.session.portals.get_mut(name.as_str()) {
            portal.state = state;
        }
    }

    /// Close is no error for what does not exist.
    fn close(&mut self, target: &Target) {
        match target {
            Target::Statement(name) => drop(self.session.statements.remove(name.as_str())),
            Target::Portal(name) => drop(self.session.portals.remove(name.as_str())),
        }
        self.outbound.close_complete();
    }
}

/// A portal whose rows are being sent.
const CLOSED: PortalState = PortalState::Done(RowTag::Counted("SELECT"));

fn no_such_portal(name: &Name) -> Error {
    Error::new("34000", format!("portal \"{}\" does not exist", name.as_str()))
}
