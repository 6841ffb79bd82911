//! Blocks of several clients that write the same rows: each waits for the other's end and goes on
//! from what it left, as in PostgreSQL at READ COMMITTED. No update is lost.

use std::time::Duration;

use tokio_postgres::Client;

use crate::{code, connect, raw::server};

/// Within this time every client has done its blocks, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn counter(client: &Client) -> i64 {
    client.query_one("SELECT v FROM t WHERE k = 1", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn update_in_a_block_waits_and_goes_on_from_the_newest_row() {
    let server = server();
    let (one, two) = (connect(&server).await, connect(&server).await);
    one.batch_execute("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)").await.unwrap();
    one.batch_execute("INSERT INTO t VALUES (1, 100), (2, 0)").await.unwrap();
    // By key over both protocols, and what a delete leaves.
    let update = "UPDATE t SET v = v + 10 WHERE k = 1";
    for is_simple in [true, false] {
        let before = counter(&one).await;
        one.batch_execute("BEGIN; UPDATE t SET v = v + 1 WHERE k = 1").await.unwrap();
        two.batch_execute("BEGIN").await.unwrap();
        let waits = async {
            match is_simple {
                true => two.batch_execute(update).await.map(|()| 1),
                false => two.execute(update, &[]).await,
            }
        };
        let ends = async { one.batch_execute("COMMIT").await };
        let (updated, ended) = tokio::join!(waits, ends);
        ended.unwrap();
        assert_eq!(updated.unwrap(), 1);
        assert_eq!(counter(&two).await, before + 11, "on top of the other's");
        assert_eq!(counter(&one).await, before + 1, "not committed yet");
        two.batch_execute("COMMIT").await.unwrap();
    }
    one.batch_execute("BEGIN; DELETE FROM t WHERE k = 2").await.unwrap();
    two.batch_execute("BEGIN").await.unwrap();
    let waits = two.execute("UPDATE t SET v = 5 WHERE k = 2", &[]);
    let (updated, ended) = tokio::join!(waits, one.batch_execute("COMMIT"));
    ended.unwrap();
    assert_eq!(updated.unwrap(), 0, "the row it waited for is gone");
    two.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_blocks_that_wait_for_each_other_is_told_at_once() {
    let server = server();
    let (one, two) = (connect(&server).await, connect(&server).await);
    one.batch_execute("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)").await.unwrap();
    one.batch_execute("INSERT INTO t VALUES (1, 0), (2, 0)").await.unwrap();
    one.batch_execute("BEGIN; UPDATE t SET v = 1 WHERE k = 1").await.unwrap();
    two.batch_execute("BEGIN; UPDATE t SET v = 2 WHERE k = 2").await.unwrap();
    let (first, second) = tokio::join!(
        one.batch_execute("UPDATE t SET v = 1 WHERE k = 2"),
        two.batch_execute("UPDATE t SET v = 2 WHERE k = 1"),
    );
    let failed: Vec<_> = [&first, &second].into_iter().filter_map(|r| r.as_ref().err()).collect();
    assert_eq!(failed.len(), 1, "one of them gives up, and the other goes on");
    assert_eq!(code(failed[0]), "40P01");
    one.batch_execute("COMMIT").await.unwrap();
    two.batch_execute("COMMIT").await.unwrap();
    let sum = one.query_one("SELECT sum(v)::bigint FROM t", &[]).await.unwrap();
    assert!([2, 4].contains(&sum.get::<_, i64>(0)), "both rows are of one block");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_statement_can_be_cancelled() {
    let server = server();
    let (one, two, other) =
        (connect(&server).await, connect(&server).await, connect(&server).await);
    one.batch_execute("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)").await.unwrap();
    one.batch_execute("INSERT INTO t VALUES (1, 0)").await.unwrap();
    one.batch_execute("BEGIN; UPDATE t SET v = 1 WHERE k = 1").await.unwrap();
    let cancel = two.cancel_token();
    let waits = two.batch_execute("UPDATE t SET v = 2 WHERE k = 1");
    let cancelled = async {
        // Until the statement has begun to wait a cancel finds nothing to stop: so, again and again.
        loop {
            cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
            other.query_one("SELECT 1", &[]).await.unwrap();
        }
    };
    let error = tokio::select! {
        error = waits => error.unwrap_err(),
        () = cancelled => unreachable!("it goes on until the statement ends"),
    };
    assert_eq!(code(&error), "57014");
    one.batch_execute("COMMIT").await.unwrap();
    assert_eq!(counter(&two).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_of_many_blocks_is_lost() {
    const CLIENTS: i64 = 24;
    const BLOCKS: i64 = 20;
    let server = server();
    let first = connect(&server).await;
    first.batch_execute("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)").await.unwrap();
    first.batch_execute("CREATE TABLE log (delta BIGINT, at TIMESTAMP)").await.unwrap();
    first
        .batch_execute("INSERT INTO t SELECT v, 0 FROM TABLE(generate_series(1, 8))")
        .await
        .unwrap();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let client = connect(&server).await;
        clients.push(tokio::spawn(async move {
            let update = client.prepare("UPDATE t SET v = v + $1 WHERE k = $2").await.unwrap();
            for block in 0..BLOCKS {
                let delta = number * BLOCKS + block;
                client.batch_execute("BEGIN").await.unwrap();
                // More clients wait for the one row than the query pool has threads.
                for key in [2 + delta % 7, 1] {
                    assert_eq!(client.execute(&update, &[&delta, &key]).await.unwrap(), 1);
                }
                let log = format!("INSERT INTO log VALUES ({delta}, CURRENT_TIMESTAMP)");
                client.batch_execute(&log).await.unwrap();
                client.batch_execute("END").await.unwrap();
            }
        }));
    }
    for client in clients {
        tokio::time::timeout(PATIENCE, client).await.unwrap().unwrap();
    }
    let sums = "SELECT (SELECT sum(v) FROM t WHERE k = 1)::bigint, \
                (SELECT sum(v) FROM t WHERE k > 1)::bigint, \
                (SELECT sum(delta) FROM log)::bigint, (SELECT count(*) FROM log)";
    let sums = first.query_one(sums, &[]).await.unwrap();
    let total = (0..CLIENTS * BLOCKS).sum::<i64>();
    let seen: Vec<i64> = (0..4).map(|column| sums.get(column)).collect();
    assert_eq!(seen, [total, total, total, CLIENTS * BLOCKS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_meet_a_changing_table_find_the_changed_one() {
    let server = server();
    let (one, two) = (connect(&server).await, connect(&server).await);
    one.batch_execute("CREATE TABLE t (k BIGINT, v BIGINT)").await.unwrap();
    one.batch_execute("INSERT INTO t SELECT v, 0 FROM TABLE(generate_series(1, 20000))")
        .await
        .unwrap();
    let insert = two.prepare("INSERT INTO t VALUES ($1, 1)").await.unwrap();
    let alters = one.batch_execute("ALTER TABLE t ADD PRIMARY KEY (k)");
    let inserts = async {
        for key in 20_001..20_201i64 {
            assert_eq!(two.execute(&insert, &[&key]).await.unwrap(), 1);
        }
    };
    let (altered, ()) = tokio::join!(alters, inserts);
    altered.unwrap();
    let counted = one.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(counted.get::<_, i64>(0), 20_200, "no row is lost on the way");
    let again = two.execute(&insert, &[&20_001i64]).await.unwrap_err();
    assert_eq!(code(&again), "23505");
}
