//! A client connection for benchmarks: plain SQL, rows counted to the last byte.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    time::Duration,
};

use futures::{SinkExt, TryStreamExt};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::{Result, now};

/// A blocking connection to either side.
pub struct Wire {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Wire {
    /// Connects to a server on loopback.
    pub fn connect(port: u16) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let target = format!("host=127.0.0.1 port={port} user=bench dbname=bench");
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&target, NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, tokio_postgres::Error>(client)
        })?;
        Ok(Self { runtime, client })
    }

    /// Runs statements without looking at rows.
    pub fn run(&self, sql: &str) -> Result<()> {
        Ok(self
            .runtime
            .block_on(self.client.batch_execute(sql))
            .map_err(|error| shown(&error, sql))?)
    }

    /// All rows as text, and the time to the last byte.
    pub fn rows(&self, sql: &str) -> Result<(Vec<Vec<String>>, Duration)> {
        let begin = now();
        let messages = self.runtime.block_on(self.client.simple_query(sql));
        let messages = messages.map_err(|error| shown(&error, sql))?;
        let elapsed = begin.elapsed();
        let text = |value: Option<&str>| value.unwrap_or("NULL").to_owned();
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| text(row.get(i))).collect())
            }
            _ => None,
        });
        Ok((rows.collect(), elapsed))
    }

    /// The one value of a one-row query.
    pub fn value(&self, sql: &str) -> Result<String> {
        let (rows, _) = self.rows(sql)?;
        Ok(rows.into_iter().flatten().next().ok_or("no row")?)
    }

    /// Runs a query that answers `t` until it does, or the time is up.
    pub fn until_true(&self, sql: &str, limit: Duration) -> Result<Duration> {
        let begin = now();
        loop {
            if self.value(sql).is_ok_and(|value| value == "t") {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > limit {
                return Err(format!("not within {limit:?}: {sql}").into());
            }
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(2)).await });
        }
    }

    /// Lets the server alone for a while.
    pub fn pause(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// COPY … FROM STDIN of a whole text, in 64 KiB pieces; the time to the answer.
    pub fn copy_in(&self, sql: &str, text: &bytes::Bytes) -> Result<Duration> {
        let begin = now();
        self.runtime.block_on(async {
            let sink = self.client.copy_in::<_, bytes::Bytes>(sql).await?;
            let mut sink = std::pin::pin!(sink);
            let mut offset = 0;
            while offset < text.len() {
                let end = (offset + (64 << 10)).min(text.len());
                sink.feed(text.slice(offset..end)).await?;
                offset = end;
            }
            sink.finish().await?;
            Ok::<_, tokio_postgres::Error>(())
        })?;
        Ok(begin.elapsed())
    }
}

impl Wire {
    /// COPY … TO STDOUT into a file; bytes written.
    pub fn copy_out(&self, sql: &str, file: &Path) -> Result<u64> {
        let mut output = BufWriter::new(File::create(file)?);
        self.runtime.block_on(async {
            let rows = self.client.copy_out(sql).await.map_err(|error| shown(&error, sql))?;
            let mut rows = std::pin::pin!(rows);
            let mut total = 0;
            while let Some(piece) = rows.try_next().await? {
                output.write_all(&piece)?;
                total += piece.len() as u64;
            }
            output.flush()?;
            Ok(total)
        })
    }
}

/// The server's own words instead of "db error".
fn shown(error: &tokio_postgres::Error, sql: &str) -> String {
    let text = error.as_db_error().map_or_else(|| error.to_string(), |server| server.to_string());
    format!("{text} in {sql}")
}
