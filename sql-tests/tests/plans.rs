//! Plays `plans/*.sql`: statements, a line `----`, and the text that the last of them, an EXPLAIN,
//! answers. With `TIDEWATER_UPDATE_PLANS=1` the text is written anew instead of compared.
//!
//! ```text
//! -- A filter is one vertex.           what the plan shows
//! kafka topic trades 4                 makes a topic on the mock broker, whose address is $KAFKA
//! CREATE MAPPING …;
//! EXPLAIN SELECT …;
//! ----
//! client (one): …
//! ```

use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use sqllogictest::{AsyncDB, DBOutput};
use tidewater_sql_tests::{
    client::Connection,
    kafka::Broker,
    process::{ServerOptions, ServerProcess},
};

/// Divides what is run from what it answers.
const DIVIDER: &str = "----\n";

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let entries = std::fs::read_dir(&folder).expect("the folder of plans");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no plan found");
    let trials = files.into_iter().map(|file| {
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Trial::test(name.unwrap_or_default(), move || play(&file).map_err(Failed::from))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn play(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let (script, expected) = match text.split_once(DIVIDER) {
        Some((script, expected)) => (script, expected),
        None => (text.as_str(), ""),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let actual = runtime.block_on(answer(script))?;
    if std::env::var_os("TIDEWATER_UPDATE_PLANS").is_some() {
        return std::fs::write(file, format!("{script}{DIVIDER}{actual}"))
            .map_err(|error| error.to_string());
    }
    if actual == expected {
        return Ok(());
    }
    Err(format!(
        "{} is now\n{actual}\nand was\n{expected}\nTIDEWATER_UPDATE_PLANS=1 takes it over",
        file.display()
    ))
}

/// What the last statement of a script answers, one line a row.
async fn answer(script: &str) -> Result<String, String> {
    // What depends on the machine is fixed.
    let config = vec!["query_lanes = 2".to_owned()];
    let options = ServerOptions { config, worker_count: Some(2), ..ServerOptions::default() };
    let server = ServerProcess::start(&options).map_err(|error| error.to_string())?;
    let mut connection =
        Connection::open(server.port()).await.map_err(|error| error.to_string())?;
    let mut broker = None;
    let mut sql = String::new();
    for line in script.lines() {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["--", ..] => {}
            ["kafka", "topic", name, count] => {
                let count = count.parse().map_err(|_| format!("not a number: {count}"))?;
                let started = Broker::start()?;
                started.create_topic(name, count)?;
                broker = Some(started);
            }
            _ => sql.push_str(&format!("{line}\n")),
        }
    }
    let address = broker.as_ref().map(Broker::address);
    if let Some(address) = &address {
        sql = sql.replace("$KAFKA", address);
    }
    let mut answered = String::new();
    for statement in sql.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        let output = connection.run(statement).await.map_err(|error| error.to_string())?;
        let DBOutput::Rows { rows, .. } = output else { continue };
        answered = rows.into_iter().flatten().map(|line| line + "\n").collect();
    }
    Ok(match &address {
        Some(address) => answered.replace(address.as_str(), "$KAFKA"),
        None => answered,
    })
}
