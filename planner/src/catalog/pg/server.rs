//! Catalogs about the server itself: schemas, the one database, whoever asks as the only role,
//! settings, connections.

use super::objects::{DATABASE, OWNER, SCHEMAS};
use crate::{
    Result,
    catalog::system_table::{Cell, Record, Scope},
    functions::session::fixed_setting,
};

/// For tables that exist so that queries over them do.
pub(super) fn nothing(_: &Scope<'_>) -> Result<Vec<Record>> {
    Ok(Vec::new())
}

pub(super) fn namespaces(_: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |(oid, name): &(i64, &str)| -> Record {
        vec![("oid", (*oid).into()), ("nspname", (*name).into()), ("nspowner", OWNER.into())]
    };
    Ok(SCHEMAS.iter().map(record).collect())
}

pub(super) fn databases(scope: &Scope<'_>) -> Result<Vec<Record>> {
    Ok(vec![vec![
        ("oid", DATABASE.into()),
        ("datname", scope.database().into()),
        ("datdba", OWNER.into()),
        // UTF8.
        ("encoding", 6.into()),
        ("datlocprovider", "c".into()),
        ("datistemplate", false.into()),
        ("datallowconn", true.into()),
        ("datconnlimit", (-1).into()),
        ("datfrozenxid", 0.into()),
        ("datminmxid", 0.into()),
        ("dattablespace", 1663.into()),
        ("datcollate", "C.UTF-8".into()),
        ("datctype", "C.UTF-8".into()),
    ]])
}

pub(super) fn tablespaces(_: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |oid: i64, name: &str| -> Record {
        vec![("oid", oid.into()), ("spcname", name.into()), ("spcowner", OWNER.into())]
    };
    Ok(vec![record(1663, "pg_default"), record(1664, "pg_global")])
}

pub(super) fn roles(scope: &Scope<'_>) -> Result<Vec<Record>> {
    Ok(vec![vec![
        ("oid", OWNER.into()),
        ("rolname", scope.user().into()),
        ("rolsuper", true.into()),
        ("rolinherit", true.into()),
        ("rolcreaterole", true.into()),
        ("rolcreatedb", true.into()),
        ("rolcanlogin", true.into()),
        ("rolreplication", false.into()),
        ("rolbypassrls", true.into()),
        ("rolconnlimit", (-1).into()),
    ]])
}

pub(super) fn users(scope: &Scope<'_>) -> Result<Vec<Record>> {
    Ok(vec![vec![
        ("usename", scope.user().into()),
        ("usesysid", OWNER.into()),
        ("usecreatedb", true.into()),
        ("usesuper", true.into()),
        ("userepl", false.into()),
        ("usebypassrls", true.into()),
    ]])
}

pub(super) fn access_methods(_: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |oid: i64, name: &str, kind: &str| -> Record {
        let handler = format!("{name}handler");
        vec![
            ("oid", oid.into()),
            ("amname", name.into()),
            ("amhandler", handler.into()),
            ("amtype", kind.into()),
        ]
    };
    Ok(vec![record(2, "heap", "t"), record(403, "btree", "i"), record(405, "hash", "i")])
}

pub(super) fn languages(_: &Scope<'_>) -> Result<Vec<Record>> {
    Ok(vec![vec![
        ("oid", 14.into()),
        ("lanname", "sql".into()),
        ("lanowner", OWNER.into()),
        ("lanispl", false.into()),
        ("lanpltrusted", true.into()),
    ]])
}

pub(super) fn collations(_: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |oid: i64, name: &str, provider: &str| -> Record {
        vec![
            ("oid", oid.into()),
            ("collname", name.into()),
            ("collnamespace", 11.into()),
            ("collowner", OWNER.into()),
            ("collprovider", provider.into()),
            ("collisdeterministic", true.into()),
            ("collencoding", (-1).into()),
        ]
    };
    Ok(vec![record(100, "default", "d"), record(950, "C", "c"), record(951, "POSIX", "c")])
}

pub(super) fn settings(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let fixed = ["server_version", "server_version_num", "server_encoding", "max_index_keys"];
    let is_there = |name: &str| scope.facts.is_some_and(|facts| facts.settings.contains_key(name));
    let fixed = fixed.into_iter().filter(|name| !is_there(name));
    let fixed = fixed.filter_map(|name| {
        fixed_setting(name).map(|value| (name.to_owned(), value.to_owned(), "internal"))
    });
    let session = scope.facts.into_iter().flat_map(|facts| facts.settings.iter());
    let session = session.map(|(name, value)| (name.clone(), value.clone(), "user"));
    let record = |(name, value, context): (String, String, &str)| -> Record {
        vec![
            ("name", name.into()),
            ("setting", value.clone().into()),
            ("category", "Tidewater".into()),
            ("short_desc", "".into()),
            ("context", context.into()),
            ("vartype", "string".into()),
            ("source", "session".into()),
            ("reset_val", value.into()),
            ("pending_restart", false.into()),
        ]
    };
    Ok(session.chain(fixed).map(record).collect())
}

pub(super) fn activity(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let queries = scope.parts.directory.queries();
    let sessions = scope.parts.directory.sessions().into_iter().map(|session| -> Record {
        let query = queries.iter().find(|query| query.session_id == session.id);
        vec![
            ("datid", DATABASE.into()),
            ("datname", session.database.into()),
            ("pid", i64::from(session.id).into()),
            ("usesysid", OWNER.into()),
            ("usename", session.user.into()),
            ("application_name", session.application.into()),
            ("backend_start", session.connected_at.into()),
            ("query_start", query.map(|query| query.started_at).into()),
            ("state", if query.is_some() { "active" } else { "idle" }.into()),
            ("query", query.map_or(Cell::from(""), |query| query.query.clone().into())),
            ("backend_type", "client backend".into()),
        ]
    });
    Ok(sessions.collect())
}
