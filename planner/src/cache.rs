//! The plan cache: prepared statements by text and settings, keyed shapes by normalised text. An
//! entry is used only while the objects it names are the same; dropping entries is always correct.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use crate::{
    Prepared, Session, SqlType, Statement, keyed::KeyedPlan, parse::StatementKind, planner::Objects,
};

/// Most prepared statements kept; when there are more, all are forgotten and planned again.
const STATEMENTS_MAX: usize = 1_024;

/// Most shapes kept: each is a text of at most 4 KiB and a small plan.
const SHAPES_MAX: usize = 4_096;

/// Longest statement that is kept: longer ones are data, not queries.
const STATEMENT_BYTES_MAX: usize = 16 << 10;

/// Settings a plan depends on.
const PLAN_SETTINGS: [&str; 2] = ["search_path", "timezone"];

/// A shape that was met: its keyed plan, or `None` if it is no keyed statement.
#[derive(Debug, Default)]
pub struct Shaped {
    /// The plan.
    pub plan: Option<Arc<KeyedPlan>>,
    /// What it was made from.
    pub objects: Objects,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    sql: String,
    hints: Vec<Option<SqlType>>,
    settings: Vec<Option<String>>,
    user: String,
    database: String,
}

/// Plans worth keeping.
#[derive(Default)]
pub struct PlanCache {
    statements: RwLock<HashMap<Key, Arc<Prepared>>>,
    shapes: RwLock<HashMap<String, Arc<Shaped>>>,
}

impl PlanCache {
    /// A prepared statement of the same text, parameter types and settings.
    pub fn prepared(
        &self,
        session: &Session,
        statement: &Statement,
        hints: &[Option<SqlType>],
    ) -> Option<Arc<Prepared>> {
        let key = key(session, statement, hints)?;
        self.statements.read().get(&key).map(Arc::clone)
    }

    /// Keeps a prepared statement.
    pub fn keep(
        &self,
        session: &Session,
        statement: &Statement,
        hints: &[Option<SqlType>],
        prepared: &Arc<Prepared>,
    ) {
        let Some(key) = key(session, statement, hints) else { return };
        let mut statements = self.statements.write();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(key, Arc::clone(prepared));
    }

    /// What is known of a shape.
    pub fn shape(&self, text: &str) -> Option<Arc<Shaped>> {
        self.shapes.read().get(text).map(Arc::clone)
    }

    /// Remembers a shape.
    pub fn keep_shape(&self, text: &str, shaped: Shaped) -> Arc<Shaped> {
        let shaped = Arc::new(shaped);
        let mut shapes = self.shapes.write();
        if shapes.len() >= SHAPES_MAX {
            shapes.clear();
        }
        shapes.insert(text.to_owned(), Arc::clone(&shaped));
        shaped
    }
}

/// The key of a statement that is worth keeping: a query, or a write.
fn key(session: &Session, statement: &Statement, hints: &[Option<SqlType>]) -> Option<Key> {
    let is_kept = matches!(
        statement.kind.as_ref(),
        StatementKind::Query(_)
            | StatementKind::Insert { .. }
            | StatementKind::Update(_)
            | StatementKind::Delete(_)
    );
    (is_kept && statement.sql.len() <= STATEMENT_BYTES_MAX).then(|| Key {
        sql: statement.sql.clone(),
        hints: hints.to_vec(),
        settings: PLAN_SETTINGS.iter().map(|name| session.settings.get(*name).cloned()).collect(),
        user: session.user.clone(),
        database: session.database.clone(),
    })
}
