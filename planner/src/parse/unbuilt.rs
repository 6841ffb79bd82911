//! Statements of PostgreSQL and of Hazelcast that are not built and that the SQL parser does not know:
//! each is refused by its name, not as a mistake of the user's.

use crate::{Error, Result};

/// What they begin with.
const UNBUILT: [&[&str]; 19] = [
    &["ALTER", "CLUSTER"],
    &["ALTER", "MAPPING"],
    &["BACKUP"],
    &["CHECKPOINT"],
    &["CLUSTER"],
    &["CREATE", "DATA", "CONNECTION"],
    &["CREATE", "OR", "REPLACE", "DATA", "CONNECTION"],
    &["CREATE", "RULE"],
    &["CREATE", "UNLOGGED", "TABLE"],
    &["DO"],
    &["DROP", "DATA", "CONNECTION"],
    &["IMPORT", "FOREIGN", "SCHEMA"],
    &["PREPARE", "TRANSACTION"],
    &["REFRESH", "MATERIALIZED", "VIEW"],
    &["REINDEX"],
    &["RESTORE"],
    &["SECURITY", "LABEL"],
    &["SHUTDOWN"],
    &["VERIFY", "MATERIALIZED", "VIEW"],
];

/// 0A000 for a statement that begins so; `words` are its first ones, in upper case.
pub fn refuse(words: &[&str]) -> Result<()> {
    match UNBUILT.iter().find(|unbuilt| words.starts_with(unbuilt)) {
        Some(unbuilt) => Err(Error::unsupported(format!("{} is not supported", unbuilt.join(" ")))),
        None => Ok(()),
    }
}
