//! Speaks PostgreSQL, owns the process. The only crate that knows PostgreSQL's wire, clap and
//! signals. The server is a library too: embedding it in a Rust program is a supported use.
//!
//! Suggested reading order: [`args`] and [`config`] (what it is told), [`server`](mod@server) (what
//! it builds), [`wire`] (the protocol), [`connection`] and [`session`] (one client), [`execute`],
//! [`rows`] and [`answer`] (a plan's way to the client), [`pool`] (where plans run).

pub mod allocator;
pub mod answer;
pub mod args;
pub mod config;
pub mod connection;
pub mod copy;
pub mod cursor;
pub mod demo;
pub mod directory;
pub mod durability;
pub mod execute;
pub mod maintenance;
pub mod pool;
pub mod rows;
pub mod server;
pub mod session;
pub mod settings;
pub mod shutdown;
pub mod transaction;
pub mod waiting;
mod wire;

pub use args::{Args, Command};
pub use config::ServerConfig;
pub use server::{RunningServer, Server};

/// What the terminal shows at the start.
pub fn banner(running: &RunningServer) -> String {
    let (host, port) = (running.address().ip(), running.address().port());
    let kept = match running.data_dir() {
        Some(folder) => format!("everything is kept in {}", folder.display()),
        None => "everything is in memory and is lost when it stops".to_owned(),
    };
    format!(
        "Tidewater {version}: a streaming SQL server that speaks PostgreSQL\n\
         {kept}\n\n    \
         psql -h {host} -p {port}\n\n\
         any user, any database, no password; Ctrl-C stops the server\n",
        version = env!("CARGO_PKG_VERSION")
    )
}
