//! One client's session: settings, transaction block, prepared statements, portals and cursors.
//! It holds state only; `connection.rs` and `wire/` decide what happens to it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use pgwire::messages::response::TransactionStatus;
use planner::{Error, OutputColumn, Prepared, Result};
use storage::{Datum, table::ReadMode};

use crate::{
    rows::RowSource,
    settings,
    wire::types::{Format, TimeZone},
};

/// Named prepared statements a session may hold.
pub const STATEMENTS_MAX: usize = 10_000;

/// Open portals and cursors a session may hold.
pub const PORTALS_MAX: usize = 1_000;

/// Statements remembered by their text, for clients that parse the same unnamed one again.
const TEXTS_MAX: usize = 256;

/// Where the session stands between BEGIN and COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Block {
    /// Each statement commits by itself.
    #[default]
    None,
    /// Several statements of one query string or pipeline: they commit together at its end.
    Implicit,
    /// BEGIN was sent; waits for COMMIT or ROLLBACK.
    Explicit,
    /// A statement of the block failed; waits for ROLLBACK.
    Failed,
}

/// One client's session.
pub struct Session {
    /// What the planner sees of it.
    pub planner: planner::Session,
    /// `TimeZone`, parsed.
    pub zone: TimeZone,
    /// `statement_timeout`.
    pub statement_timeout: Option<Duration>,
    /// `idle_in_transaction_session_timeout`.
    pub idle_in_block_timeout: Option<Duration>,
    /// `idle_session_timeout`.
    pub idle_timeout: Option<Duration>,
    /// Transaction block.
    pub block: Block,
    /// Prepared statements by name, the unnamed one under the empty name.
    pub statements: HashMap<String, Arc<PreparedEntry>>,
    /// Portals and cursors by name: as in PostgreSQL, a cursor is a portal.
    pub portals: HashMap<String, Portal>,
    /// Statements by text and declared types.
    texts: HashMap<String, (Vec<u32>, Arc<PreparedEntry>)>,
    /// Settings as they were at BEGIN, kept from the first SET of the block on.
    settings_before: Option<BTreeMap<String, String>>,
    /// Settings of SET LOCAL, with their value outside the block.
    settings_local: BTreeMap<String, String>,
    /// Values that RESET goes back to.
    settings_at_start: BTreeMap<String, String>,
}

/// A prepared statement; empty if the text held none.
#[derive(Debug)]
pub struct PreparedEntry {
    /// The plan's front half.
    pub prepared: Option<Arc<Prepared>>,
}

/// A statement with its values, ready to run, running, or done.
pub struct Portal {
    /// What it runs; `None` for a cursor.
    pub entry: Option<Arc<PreparedEntry>>,
    /// Parameter values; taken by the first Execute.
    pub values: Vec<Datum>,
    /// Formats of its columns.
    pub formats: Vec<Format>,
    /// Where it stands.
    pub state: PortalState,
}

/// Where a portal stands.
pub enum PortalState {
    /// Waits for its first Execute.
    Bound,
    /// Has rows to send: a portal that a row limit suspended, or a cursor.
    Open(OpenRows),
    /// Ran to its end; Execute answers this tag again without rows.
    Done(RowTag),
}

/// Rows that a portal or cursor has still to send.
pub struct OpenRows {
    /// Columns.
    pub columns: Arc<[OutputColumn]>,
    /// Rows.
    pub source: RowSource,
    /// Tag at its end.
    pub tag: RowTag,
    /// DECLARE … WITH HOLD: outlives its block.
    pub is_hold: bool,
}

/// The command tag of a statement with rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowTag {
    /// A verb and the number of rows sent: `SELECT 3`.
    Counted(&'static str),
    /// Known before: `INSERT 0 3`, `SHOW`.
    Fixed(String),
}

impl RowTag {
    /// The tag after `rows` rows.
    pub fn text(&self, rows: u64) -> String {
        match self {
            Self::Counted(verb) => format!("{verb} {rows}"),
            Self::Fixed(tag) => tag.clone(),
        }
    }

    /// The tag of asking again for rows that were all sent: `SELECT 0`.
    pub fn after_the_end(&self) -> String {
        match self {
            Self::Fixed(tag) => match tag.rsplit_once(' ') {
                Some((verb, count)) if count.parse::<u64>().is_ok() => format!("{verb} 0"),
                _ => tag.clone(),
            },
            counted => counted.text(0),
        }
    }
}

impl Session {
    /// A session of a connection that has just started.
    pub fn new(id: i32, user: String, database: String) -> Self {
        let mut settings = settings::defaults();
        settings.insert("session_authorization".to_owned(), user.clone());
        let planner = planner::Session { settings, user, database, id, ..Default::default() };
        Self {
            planner,
            zone: TimeZone::Utc,
            statement_timeout: None,
            idle_in_block_timeout: None,
            idle_timeout: None,
            block: Block::None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            texts: HashMap::new(),
            settings_before: None,
            settings_local: BTreeMap::new(),
            settings_at_start: BTreeMap::new(),
        }
    }

    /// Makes the present settings those that RESET goes back to.
    pub fn remember_settings(&mut self) {
        self.settings_at_start = self.planner.settings.clone();
    }

    /// What ReadyForQuery says.
    pub fn status(&self) -> TransactionStatus {
        match self.block {
            Block::None | Block::Implicit => TransactionStatus::Idle,
            Block::Explicit => TransactionStatus::Transaction,
            Block::Failed => TransactionStatus::Error,
        }
    }

    /// Whether BEGIN is in force.
    pub fn is_in_block(&self) -> bool {
        matches!(self.block, Block::Explicit | Block::Failed)
    }

    /// Enters a block that begins at `now`, µs since the epoch, unless it has begun already.
    pub fn enter_block(&mut self, block: Block, now: i64) {
        self.block = block;
        self.planner.block_began_at.get_or_insert(now);
        self.planner.in_transaction = true;
    }

    /// Leaves the block. Portals go with it, except held cursors.
    pub fn leave_block(&mut self, is_committed: bool) {
        self.block = Block::None;
        self.planner.in_transaction = false;
        self.planner.block_began_at = None;
        let before = self.settings_before.take();
        let local = std::mem::take(&mut self.settings_local);
        match before {
            Some(before) if !is_committed => self.planner.settings = before,
            _ => self.planner.settings.extend(local),
        }
        self.read_settings();
        self.close_portals();
    }

    /// Closes portals as the end of a transaction does.
    pub fn close_portals(&mut self) {
        self.portals.retain(|_, portal| match &portal.state {
            PortalState::Open(open) => open.is_hold,
            PortalState::Bound | PortalState::Done(_) => false,
        });
    }

    /// SET, RESET. Answers the value stored.
    pub fn set(&mut self, name: &str, value: Option<&str>, is_local: bool) -> Result<String> {
        let name = name.to_ascii_lowercase();
        let value = match value {
            Some(value) => settings::validate(&name, value)?,
            None => self.reset_value(&name)?,
        };
        if self.is_in_block() {
            self.settings_before.get_or_insert_with(|| self.planner.settings.clone());
        }
        let old = self.planner.settings.insert(name.clone(), value.clone());
        if is_local {
            self.settings_local.entry(name).or_insert(old.unwrap_or_default());
        } else {
            self.settings_local.remove(&name);
        }
        self.read_settings();
        Ok(value)
    }

    fn reset_value(&self, name: &str) -> Result<String> {
        let default = settings::default_of(name)?;
        Ok(self.settings_at_start.get(name).cloned().unwrap_or_else(|| default.to_owned()))
    }

    /// RESET ALL.
    pub fn reset_all(&mut self) {
        if self.is_in_block() {
            self.settings_before.get_or_insert_with(|| self.planner.settings.clone());
        }
        self.settings_local.clear();
        self.planner.settings = self.settings_at_start.clone();
        self.read_settings();
    }

    /// Reads the settings that the server itself obeys.
    fn read_settings(&mut self) {
        let settings = &self.planner.settings;
        let duration = |name: &str| {
            let ms = settings.get(name).and_then(|value| value.parse::<u64>().ok());
            ms.filter(|ms| *ms > 0).map(Duration::from_millis)
        };
        self.statement_timeout = duration("statement_timeout");
        self.idle_in_block_timeout = duration("idle_in_transaction_session_timeout");
        self.idle_timeout = duration("idle_session_timeout");
        let is_durable = settings.get("read_mode").is_some_and(|mode| mode == "durable");
        self.planner.read_mode = if is_durable { ReadMode::Durable } else { ReadMode::Provisional };
        let zone = settings.get("timezone").and_then(|name| TimeZone::of_setting(name).ok());
        self.zone = zone.unwrap_or(TimeZone::Utc);
    }

    /// Stores a prepared statement; 53400 when there are too many, 42P05 if the name is taken.
    pub fn add_statement(&mut self, name: &str, entry: Arc<PreparedEntry>) -> Result<()> {
        if !name.is_empty() && self.statements.contains_key(name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Error::new("42P05", message));
        }
        if self.statements.len() >= STATEMENTS_MAX && !name.is_empty() {
            return Err(Error::new("53400", "too many prepared statements in this session")
                .with_hint("Close some with DEALLOCATE."));
        }
        self.statements.insert(name.to_owned(), entry);
        Ok(())
    }

    /// A prepared statement; 26000 if there is none.
    pub fn statement(&self, name: &str) -> Result<&Arc<PreparedEntry>> {
        self.statements.get(name).ok_or_else(|| {
            let message = match name {
                "" => "unnamed prepared statement does not exist".to_owned(),
                name => format!("prepared statement \"{name}\" does not exist"),
            };
            Error::new("26000", message)
        })
    }

    /// Stores a portal or cursor; 42P03 if the name is taken, 53400 when there are too many.
    pub fn add_portal(&mut self, name: &str, portal: Portal) -> Result<()> {
        if !name.is_empty() && self.portals.contains_key(name) {
            return Err(Error::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        if self.portals.len() >= PORTALS_MAX && !name.is_empty() {
            return Err(Error::new("53400", "too many open cursors in this session")
                .with_hint("Close some with CLOSE."));
        }
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    /// A statement that the same client has parsed before.
    pub fn known_text(&self, sql: &str, types: &[u32]) -> Option<Arc<PreparedEntry>> {
        let (known_types, entry) = self.texts.get(sql)?;
        (known_types == types).then(|| Arc::clone(entry))
    }

    /// Remembers a parsed statement by its text; forgets all when there are many.
    pub fn remember_text(&mut self, sql: String, types: Vec<u32>, entry: Arc<PreparedEntry>) {
        if self.texts.len() >= TEXTS_MAX {
            self.texts.clear();
        }
        self.texts.insert(sql, (types, entry));
    }

    /// DISCARD ALL, DEALLOCATE ALL.
    pub fn drop_statements(&mut self) {
        self.statements.clear();
        self.texts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let mut session = Session::new(1, "u".to_owned(), "d".to_owned());
        session.remember_settings();
        session
    }

    #[test]
    fn rollback_undoes_settings_and_commit_only_the_local_ones() {
        let mut session = session();
        session.enter_block(Block::Explicit, 0);
        session.set("TimeZone", Some("+02"), true).unwrap();
        session.set("statement_timeout", Some("5s"), false).unwrap();
        session.leave_block(true);
        assert_eq!(session.planner.settings["timezone"], "UTC");
        assert_eq!(session.statement_timeout, Some(Duration::from_secs(5)));
        session.enter_block(Block::Explicit, 0);
        session.set("statement_timeout", None, false).unwrap();
        assert_eq!(session.statement_timeout, None);
        session.leave_block(false);
        assert_eq!(session.statement_timeout, Some(Duration::from_secs(5)));
    }

    #[test]
    fn the_planner_reads_as_the_setting_says_at_the_moment() {
        let mut session = session();
        assert_eq!(session.planner.read_mode, ReadMode::Provisional);
        session.set("read_mode", Some("Durable"), false).unwrap();
        assert_eq!(session.planner.read_mode, ReadMode::Durable);
        session.enter_block(Block::Explicit, 0);
        session.set("read_mode", Some("provisional"), true).unwrap();
        assert_eq!(session.planner.read_mode, ReadMode::Provisional);
        session.leave_block(true);
        assert_eq!(session.planner.read_mode, ReadMode::Durable);
        assert_eq!(session.set("read_mode", Some("newest"), false).unwrap_err().code, "22023");
        session.reset_all();
        assert_eq!(session.planner.read_mode, ReadMode::Provisional);
    }

    #[test]
    fn statements_are_unique_by_name_and_bounded() {
        let mut session = session();
        let entry = Arc::new(PreparedEntry { prepared: None });
        for number in 0..STATEMENTS_MAX {
            session.add_statement(&format!("s{number}"), Arc::clone(&entry)).unwrap();
        }
        assert_eq!(session.add_statement("s0", Arc::clone(&entry)).unwrap_err().code, "42P05");
        assert_eq!(session.add_statement("more", Arc::clone(&entry)).unwrap_err().code, "53400");
        assert!(session.add_statement("", entry).is_ok());
        assert_eq!(session.statement("none").unwrap_err().code, "26000");
    }
}
