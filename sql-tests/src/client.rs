//! A connection that sqllogictest drives: simple protocol, every value as the text psql shows.
//! NULL reads `NULL`, the empty string `(empty)`; an error reads `ERROR <SQLSTATE>: <message>`.
//! `query T` of [`NOTICES`] answers what the statement before it was told beside its rows.

use std::{
    future::poll_fn,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use thiserror::Error;
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

/// Stands for the notices of the statement before.
const NOTICES: &str = "\\notices";

/// An error as `.slt` files match it.
#[derive(Debug, Error)]
pub enum ClientError {
    /// What the server answered, with detail and hint.
    #[error("ERROR {code}: {text}")]
    Server {
        /// SQLSTATE.
        code: String,
        /// Message, then `DETAIL: …` and `HINT: …` where there are any.
        text: String,
    },
    /// The connection itself broke.
    #[error("connection: {0}")]
    Connection(String),
}

/// One connection of a test.
pub struct Connection {
    client: Client,
    /// Of the last statement.
    notices: Arc<Mutex<Vec<String>>>,
}

impl Connection {
    /// Connects to a server on loopback.
    pub async fn open(port: u16) -> Result<Self, ClientError> {
        let target = format!("host=127.0.0.1 port={port} user=test dbname=test connect_timeout=10");
        let (client, mut connection) = tokio_postgres::connect(&target, NoTls).await?;
        let notices = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&notices);
        tokio::spawn(async move {
            // The client side reports an error to whoever runs a statement.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notice(notice) = message {
                    let text = format!("{} {}", notice.severity(), notice.message());
                    told.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                }
            }
        });
        Ok(Self { client, notices })
    }

    /// What the last statement was told, each as a row.
    fn told(&self) -> Vec<Vec<String>> {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.iter().map(|notice| vec![notice.clone()]).collect()
    }
}

impl From<tokio_postgres::Error> for ClientError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(server) = error.as_db_error() else {
            return ClientError::Connection(error.to_string());
        };
        let mut text = server.message().to_owned();
        if let Some(detail) = server.detail() {
            text.push_str(&format!(" DETAIL: {detail}"));
        }
        if let Some(hint) = server.hint() {
            text.push_str(&format!(" HINT: {hint}"));
        }
        ClientError::Server { code: server.code().code().to_owned(), text }
    }
}

#[async_trait]
impl AsyncDB for Connection {
    type Error = ClientError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, ClientError> {
        if sql.trim() == NOTICES {
            return Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any], rows: self.told() });
        }
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut rows = Vec::new();
        let mut width = None;
        let mut count = 0;
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    width = Some(columns.len());
                    rows.clear();
                }
                SimpleQueryMessage::Row(row) => {
                    let texts = (0..row.len()).map(|index| match row.get(index) {
                        None => "NULL".to_owned(),
                        Some("") => "(empty)".to_owned(),
                        Some(text) => text.to_owned(),
                    });
                    rows.push(texts.collect());
                }
                SimpleQueryMessage::CommandComplete(number) => count = number,
                _ => {}
            }
        }
        Ok(match width {
            Some(width) => DBOutput::Rows { types: vec![DefaultColumnType::Any; width], rows },
            None => DBOutput::StatementComplete(count),
        })
    }

    async fn shutdown(&mut self) {}

    async fn sleep(duration: std::time::Duration) {
        tokio::time::sleep(duration).await;
    }

    async fn run_command(command: Command) -> std::io::Result<std::process::Output> {
        tokio::process::Command::from(command).output().await
    }

    fn error_sql_state(error: &ClientError) -> Option<String> {
        match error {
            ClientError::Server { code, .. } => Some(code.clone()),
            ClientError::Connection(_) => None,
        }
    }
}
