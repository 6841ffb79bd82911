//! Who is connected and what runs: behind `sys.sessions`, `sys.queries` and CancelRequest.
//! Keyed statements are too short to be listed and never touch it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use planner::{
    Error, Result,
    planner::{QueryInfo, SessionDirectory, SessionInfo},
};
use storage::env::Env;
use tokio_util::sync::CancellationToken;

/// Characters of a statement that `sys.queries` keeps.
const QUERY_TEXT_MAX: usize = 4096;

/// All connections of the process.
#[derive(Debug)]
pub struct Directory {
    env: Env,
    session_max: usize,
    /// Guards the list of connections; held for a lookup or an insert.
    sessions: Mutex<Sessions>,
    /// Guards the list of what runs.
    queries: Mutex<BTreeMap<u64, Arc<Query>>>,
    next_query_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Sessions {
    next_id: i32,
    by_id: BTreeMap<i32, Arc<SessionEntry>>,
}

/// One connection.
#[derive(Debug)]
pub struct SessionEntry {
    /// Id, given to the client as its process id.
    pub id: i32,
    /// What a CancelRequest must know.
    pub secret: i32,
    /// User name.
    pub user: String,
    /// Database name.
    pub database: String,
    client: String,
    connected_at: i64,
    /// `application_name`; written by its session, read by `sys.sessions`.
    application: Mutex<String>,
    /// Stops the statement that runs now; `None` between statements.
    running: Mutex<Option<CancellationToken>>,
}

/// One statement that runs.
#[derive(Debug)]
pub struct Query {
    id: u64,
    session_id: i32,
    status: &'static str,
    started_at: i64,
    rows: AtomicU64,
    text: String,
}

/// Keeps a connection listed.
#[derive(Debug)]
pub struct SessionListing {
    directory: Arc<Directory>,
    /// The entry.
    pub entry: Arc<SessionEntry>,
}

/// Keeps a statement listed.
#[derive(Debug)]
pub struct QueryListing {
    directory: Arc<Directory>,
    query: Arc<Query>,
}

impl Directory {
    /// An empty directory that takes `session_max` connections.
    pub fn new(env: Env, session_max: usize) -> Arc<Self> {
        Arc::new(Self {
            env,
            session_max,
            sessions: Mutex::default(),
            queries: Mutex::default(),
            next_query_id: AtomicU64::new(1),
        })
    }

    /// Lists a connection; 53300 when there are too many.
    pub fn enter(
        self: &Arc<Self>,
        user: String,
        database: String,
        client: String,
    ) -> Result<SessionListing> {
        let secret = self.env.rng.next_u64() as i32;
        let connected_at = self.env.clock.now_micros();
        let mut sessions = self.sessions.lock();
        if sessions.by_id.len() >= self.session_max {
            return Err(Error::new("53300", "sorry, too many clients already"));
        }
        loop {
            sessions.next_id = sessions.next_id.checked_add(1).unwrap_or(1);
            if !sessions.by_id.contains_key(&sessions.next_id) {
                break;
            }
        }
        let entry = Arc::new(SessionEntry {
            id: sessions.next_id,
            secret,
            user,
            database,
            client,
            connected_at,
            application: Mutex::default(),
            running: Mutex::default(),
        });
        sessions.by_id.insert(entry.id, Arc::clone(&entry));
        Ok(SessionListing { directory: Arc::clone(self), entry })
    }

    /// The time, µs since the epoch.
    pub fn now_micros(&self) -> i64 {
        self.env.clock.now_micros()
    }

    /// Lists a statement. `is_stream` says that it ends only when it is stopped.
    pub fn begin_query(
        self: &Arc<Self>,
        session_id: i32,
        text: &str,
        is_stream: bool,
    ) -> QueryListing {
        let id = self.next_query_id.fetch_add(1, Ordering::Relaxed);
        let query = Arc::new(Query {
            id,
            session_id,
            status: if is_stream { "STREAMING" } else { "RUNNING" },
            started_at: self.env.clock.now_micros(),
            rows: AtomicU64::new(0),
            text: text.chars().take(QUERY_TEXT_MAX).collect(),
        });
        self.queries.lock().insert(id, Arc::clone(&query));
        QueryListing { directory: Arc::clone(self), query }
    }

    /// Serves a CancelRequest: stops what the session runs if the secret is right.
    pub fn cancel_by_secret(&self, session_id: i32, secret: i32) {
        let entry = self.sessions.lock().by_id.get(&session_id).map(Arc::clone);
        // Two 32-bit words are compared in one instruction: no timing tells how much was right.
        if let Some(entry) = entry.filter(|entry| entry.secret == secret) {
            entry.cancel();
        }
    }

    /// Number of connections.
    pub fn session_count(&self) -> usize {
        self.sessions.lock().by_id.len()
    }
}

impl SessionDirectory for Directory {
    fn sessions(&self) -> Vec<SessionInfo> {
        let entries: Vec<_> = self.sessions.lock().by_id.values().map(Arc::clone).collect();
        let info = |entry: Arc<SessionEntry>| SessionInfo {
            id: entry.id,
            user: entry.user.clone(),
            database: entry.database.clone(),
            application: entry.application.lock().clone(),
            client: entry.client.clone(),
            connected_at: entry.connected_at,
        };
        entries.into_iter().map(info).collect()
    }

    fn queries(&self) -> Vec<QueryInfo> {
        let queries = self.queries.lock();
        let info = |query: &Arc<Query>| QueryInfo {
            id: query.id,
            session_id: query.session_id,
            status: query.status,
            started_at: query.started_at,
            rows: query.rows.load(Ordering::Relaxed),
            query: query.text.clone(),
        };
        queries.values().map(info).collect()
    }

    fn sleep(&self, duration: std::time::Duration) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn cancel(&self, session_id: i32) -> bool {
        let entry = self.sessions.lock().by_id.get(&session_id).map(Arc::clone);
        entry.is_some_and(|entry| entry.cancel())
    }
}

impl SessionEntry {
    /// Says what stops the statement that begins now.
    pub fn set_running(&self, cancel: Option<CancellationToken>) {
        *self.running.lock() = cancel;
    }

    /// Shows another `application_name`.
    pub fn set_application(&self, name: &str) {
        name.clone_into(&mut self.application.lock());
    }

    /// Stops the statement that runs now; false if there is none.
    fn cancel(&self) -> bool {
        let running = self.running.lock();
        running.as_ref().inspect(|token| token.cancel()).is_some()
    }
}

impl QueryListing {
    /// Its id.
    pub fn id(&self) -> u64 {
        self.query.id
    }

    /// Counts rows sent.
    pub fn add_rows(&self, count: usize) {
        self.query.rows.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Drop for QueryListing {
    fn drop(&mut self) {
        self.directory.queries.lock().remove(&self.query.id);
    }
}

impl Drop for SessionListing {
    fn drop(&mut self) {
        self.directory.sessions.lock().by_id.remove(&self.entry.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(session_max: usize) -> Arc<Directory> {
        Directory::new(Env::simulated(1).0, session_max)
    }

    fn enter(directory: &Arc<Directory>) -> Result<SessionListing> {
        directory.enter("u".to_owned(), "d".to_owned(), "local".to_owned())
    }

    #[test]
    fn connections_above_the_limit_are_53300_until_one_leaves() {
        let directory = directory(1);
        let first = enter(&directory).unwrap();
        assert_eq!(enter(&directory).unwrap_err().code, "53300");
        drop(first);
        assert!(enter(&directory).is_ok());
    }

    #[test]
    fn only_the_right_secret_cancels() {
        let directory = directory(2);
        let session = enter(&directory).unwrap();
        let token = CancellationToken::new();
        session.entry.set_running(Some(token.clone()));
        directory.cancel_by_secret(session.entry.id, session.entry.secret.wrapping_add(1));
        assert!(!token.is_cancelled());
        directory.cancel_by_secret(session.entry.id, session.entry.secret);
        assert!(token.is_cancelled());
    }

    #[test]
    fn queries_are_listed_while_they_run() {
        let directory = directory(2);
        let query = directory.begin_query(7, "SELECT 1", true);
        query.add_rows(3);
        let listed = directory.queries();
        assert_eq!((listed[0].rows, listed[0].status), (3, "STREAMING"));
        drop(query);
        assert!(directory.queries().is_empty());
    }
}
