//! EMIT CHANGES as a client reads it: rows arrive while the query runs, each when it is committed.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use tokio_postgres::Client;

use crate::{code, connect, raw::server};

/// Within this time a change has arrived, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn query(client: &Client, sql: &str) -> tokio_postgres::RowStream {
    client.query_raw(sql, Vec::<i64>::new()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_arrive_when_they_are_committed() {
    let server = server();
    let (reads, writes) = (connect(&server).await, connect(&server).await);
    writes.batch_execute("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)").await.unwrap();
    writes.batch_execute("INSERT INTO t VALUES (1, 10)").await.unwrap();
    let mut rows = pin!(query(&reads, "SELECT k, v, _diff, _time FROM t EMIT CHANGES").await);
    let mut last = 0;
    let mut expect = async |wanted: [i64; 3]| {
        let row = tokio::time::timeout(PATIENCE, rows.next()).await.unwrap().unwrap().unwrap();
        assert_eq!([row.get::<_, i64>(0), row.get(1), row.get(2)], wanted);
        let is_next = row.get::<_, i64>(3) >= last;
        last = row.get(3);
        assert!(is_next, "times rise");
    };
    expect([1, 10, 1]).await;
    writes.batch_execute("INSERT INTO t VALUES (2, 20)").await.unwrap();
    expect([2, 20, 1]).await;
    writes.batch_execute("BEGIN; UPDATE t SET v = 0 WHERE k = 1; ROLLBACK").await.unwrap();
    writes.batch_execute("BEGIN; UPDATE t SET v = v + 1 WHERE k = 2; COMMIT").await.unwrap();
    expect([2, 20, -1]).await;
    expect([2, 21, 1]).await;
    writes.batch_execute("DROP TABLE t").await.unwrap();
    let end = tokio::time::timeout(PATIENCE, rows.next()).await.unwrap().unwrap();
    assert_eq!(code(&end.unwrap_err()), "42P01", "it ends with its table");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_reader_leaves_no_journal() {
    let server = server();
    let (reads, writes) = (connect(&server).await, connect(&server).await);
    writes.batch_execute("CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT)").await.unwrap();
    writes.batch_execute("INSERT INTO t VALUES (1, 'x')").await.unwrap();
    let mut rows = pin!(query(&reads, "SELECT * FROM t EMIT CHANGES").await);
    assert!(rows.next().await.unwrap().is_ok());
    reads.cancel_token().cancel_query(tokio_postgres::NoTls).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, rows.next()).await.unwrap().unwrap();
    assert_eq!(code(&end.unwrap_err()), "57014");
    let bytes = async || {
        let sql = "SELECT bytes FROM sys.tables WHERE name = 't'";
        writes.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let before = bytes().await;
    let text = "y".repeat(1000);
    for _ in 0..20 {
        let update = format!("UPDATE t SET v = '{text}' WHERE k = 1");
        writes.batch_execute(&update).await.unwrap();
    }
    // Twenty changes of a thousand bytes, each twice, would be kept for a reader.
    assert!(bytes().await < before + 2 * 20_000, "{before} bytes before");
}
