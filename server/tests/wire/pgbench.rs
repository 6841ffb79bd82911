//! pgbench as users run it: it makes its tables in both ways, and its scripts lose no update. Where it
//! is not installed these tests say so and pass; `sql-tests/slt/postgres/` has what it sends.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use tidewater::RunningServer;

use crate::{connect, raw::server};

/// The binary, on the path or where PostgreSQL's packages put it.
fn pgbench() -> Option<PathBuf> {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let packaged = packaged.map(|version| version.path().join("bin/pgbench"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("pgbench"));
    let found = on_path.chain(packaged).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("pgbench is not installed: nothing was tested");
    }
    found
}

fn run(server: &RunningServer, arguments: &str) -> Option<Output> {
    let port = server.address().port().to_string();
    let output = Command::new(pgbench()?)
        .args(["-h", "127.0.0.1", "-p", &port, "-U", "test"])
        .args(arguments.split(' '))
        .arg("test")
        .output()
        .unwrap();
    Some(output)
}

/// Runs it to a good end and answers what it said; `None` where there is no pgbench.
fn good(server: &RunningServer, arguments: &str) -> Option<String> {
    let output = run(server, arguments)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pgbench {arguments}: {said}{complained}");
    assert!(!complained.contains("ERROR"), "pgbench {arguments}: {complained}");
    Some(said)
}

async fn numbers(server: &RunningServer, sql: &str) -> Vec<i64> {
    let row = connect(server).await.query_one(sql, &[]).await.unwrap();
    (0..row.len()).map(|column| row.get::<_, Option<i64>>(column).unwrap_or_default()).collect()
}

const SIZES: &str = "SELECT (SELECT count(*) FROM pgbench_branches), \
                     (SELECT count(*) FROM pgbench_tellers), \
                     (SELECT count(*) FROM pgbench_accounts), \
                     (SELECT count(*) FROM pgbench_history)";

const SUMS: &str = "SELECT (SELECT sum(bbalance) FROM pgbench_branches)::bigint, \
                    (SELECT sum(tbalance) FROM pgbench_tellers)::bigint, \
                    (SELECT sum(abalance) FROM pgbench_accounts)::bigint, \
                    (SELECT sum(delta) FROM pgbench_history)::bigint, \
                    (SELECT count(*) FROM pgbench_history)";

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_makes_its_tables_and_loses_no_update() {
    let server = server();
    for steps in ["dtgvp", "dtGvp"] {
        let Some(_) = good(&server, &format!("-i -s 1 -I {steps}")) else { return };
        assert_eq!(numbers(&server, SIZES).await, [1, 10, 100_000, 0], "{steps}");
    }
    for mode in ["simple", "extended", "prepared"] {
        let said = good(&server, &format!("-c 4 -t 50 -M {mode}")).unwrap_or_default();
        assert!(said.contains("number of transactions actually processed: 200/200"), "{said}");
        assert!(said.contains("number of failed transactions: 0"), "{said}");
        let sums = numbers(&server, SUMS).await;
        // It empties the history before each run; the balances stay.
        assert_eq!((sums[0], sums[0]), (sums[1], sums[2]), "{mode}");
        assert_eq!(sums[4], 200, "{mode}");
    }
    for script in ["-S", "-N"] {
        for mode in ["simple", "extended", "prepared"] {
            good(&server, &format!("{script} -n -c 4 -t 50 -M {mode}"));
        }
    }
    let sums = numbers(&server, SUMS).await;
    assert_eq!(sums[0], sums[1], "the script without branches and tellers leaves them alone");
    assert_eq!(sums[4], 200 + 3 * 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_is_told_that_foreign_keys_are_not_built() {
    let server = server();
    let Some(output) = run(&server, "-i -s 1 -I dtvpf") else { return };
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(complained.contains("FOREIGN KEY is not supported"), "{complained}");
}
