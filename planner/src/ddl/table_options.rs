//! `WITH (name = value, …)` of a table, when it is created and in `ALTER TABLE … SET (…)`.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast;
use storage::{
    Grid,
    cluster::control::{Durability, TableRecord},
};

use crate::{Error, Result, context::Context, parse::fold};

/// Most copies beside the owner's that `backups` may ask for, as in the system's ancestor.
const BACKUPS_MAX: u8 = 6;

/// Options by name, as they are kept.
type Options = BTreeMap<String, String>;

/// Whether these say that a table is to be in memory alone: what jobs have written exactly once into it
/// would be gone after a restart.
pub fn ends_keeping(written: &[ast::SqlOption]) -> bool {
    written.iter().any(|option| match option {
        ast::SqlOption::KeyValue { key, value } => {
            fold(key) == Durability::OPTION
                && option_text(value).is_some_and(|word| word == Durability::Memory.word())
        }
        _ => false,
    })
}

/// Carries out `ALTER TABLE … SET (…)`; what it has to say.
pub fn set(
    context: &Context,
    record: &TableRecord,
    written: &[ast::SqlOption],
) -> Result<Vec<Notice>> {
    let grid = &context.parts.grid;
    let (set, notices) = read(grid, written)?;
    let mut options = record.options.clone();
    options.extend(set);
    grid.set_table_options(&*grid.table(record.id)?, options)?;
    Ok(notices)
}

/// A NOTICE: SQLSTATE and message.
pub type Notice = (&'static str, String);

/// WITH options: those that mean something today are kept, PostgreSQL's for pages on disk are
/// ignored with a notice, the others refused.
pub fn options(grid: &Grid, written: &ast::CreateTableOptions) -> Result<(Options, Vec<Notice>)> {
    match written {
        ast::CreateTableOptions::None => Ok((Options::new(), Vec::new())),
        ast::CreateTableOptions::With(options) => read(grid, options),
        _ => Err(Error::new("42601", "table options are written WITH (name = value, …)")),
    }
}

fn read(grid: &Grid, written: &[ast::SqlOption]) -> Result<(Options, Vec<Notice>)> {
    let mut notices = Vec::new();
    let mut options = Options::new();
    for option in written {
        let ast::SqlOption::KeyValue { key, value } = option else {
            return Err(Error::new("42601", format!("option {option} needs a value")));
        };
        let name = fold(key);
        let value = option_text(value).ok_or_else(|| {
            Error::new("22023", format!("value of option \"{name}\" must be a constant"))
        })?;
        match name.as_str() {
            "backups" => {
                if value.parse::<u8>().map_or(true, |count| count > BACKUPS_MAX) {
                    return Err(Error::new(
                        "22023",
                        format!("backups must be a number between 0 and {BACKUPS_MAX}"),
                    ));
                }
            }
            Durability::OPTION => check_durability(grid, &value)?,
            "async_backups" | "ttl" | "max_idle" | "max_rows" | "eviction" | "merge_policy" => {
                return Err(Error::unsupported(format!(
                    "table option \"{name}\" is not supported"
                )));
            }
            name if is_storage_parameter(name) => {
                check_storage_parameter(name, &value)?;
                let notice =
                    format!("storage parameter \"{name}\" is ignored: a table has no pages");
                notices.push(("00000", notice));
                continue;
            }
            _ => {
                return Err(Error::new("22023", format!("unrecognized parameter \"{name}\"")));
            }
        }
        if options.insert(name.clone(), value).is_some() {
            return Err(Error::new(
                "42601",
                format!("parameter \"{name}\" specified more than once"),
            ));
        }
    }
    Ok((options, notices))
}

/// A word for a durability that the server can keep.
fn check_durability(grid: &Grid, word: &str) -> Result<()> {
    let words = Durability::ALL.map(|durability| format!("'{}'", durability.word())).join(", ");
    match Durability::of(word) {
        None => Err(Error::new("22023", format!("unknown durability \"{word}\""))
            .with_hint(format!("It is one of {words}."))),
        Some(Durability::Memory) => Ok(()),
        Some(_) if grid.persistence().is_some() => Ok(()),
        Some(_) => {
            let message = format!("durability \"{word}\" needs a data directory");
            Err(Error::new("55000", message)
                .with_hint("The server was started with --in-memory, which keeps nothing."))
        }
    }
}

/// PostgreSQL's parameters of how pages are filled and when they are cleaned up.
fn is_storage_parameter(name: &str) -> bool {
    matches!(name, "fillfactor" | "toast_tuple_target" | "parallel_workers")
        || name.starts_with("autovacuum_")
}

fn check_storage_parameter(name: &str, value: &str) -> Result<()> {
    if name != "fillfactor" {
        return Ok(());
    }
    let invalid = || {
        let message = format!("invalid value for integer option \"fillfactor\": {value}");
        Error::new("22023", message)
    };
    match value.parse::<i64>().map_err(|_error| invalid())? {
        10..=100 => Ok(()),
        _ => {
            let message = format!("value {value} out of bounds for option \"fillfactor\"");
            Err(Error::new("22023", message)
                .with_detail("Valid values are between \"10\" and \"100\"."))
        }
    }
}

/// The text of a constant; `None` for anything else.
pub fn option_text(value: &ast::Expr) -> Option<String> {
    match value {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(digits, _) => Some(digits.clone()),
            ast::Value::SingleQuotedString(text) => Some(text.clone()),
            ast::Value::Boolean(value) => Some(value.to_string()),
            _ => None,
        },
        ast::Expr::Identifier(word) => Some(fold(word)),
        _ => None,
    }
}
