//! What was typed: the command line and its `TIDEWATER_…` environment. Nothing is checked here
//! beyond its syntax; `config.rs` decides what it means.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "tidewater",
    version,
    max_term_width = 100,
    about = "A SQL streaming database server that PostgreSQL clients talk to.\n\n\
        Tables live in memory, partitioned by key, and on disk; continuous queries over Kafka and\n\
        generators run as jobs. Connect with psql, or any PostgreSQL driver, as any user to any database.",
    long_about = None,
    after_help = "Every option is also read from the environment, as TIDEWATER_LISTEN and so on; \
        TIDEWATER_LOG=info says more on stderr.\n\n\
        Examples:\n  \
        tidewater                         serve on 127.0.0.1:5433\n  \
        tidewater demo                    the same, with a stream and a windowed job to look at\n  \
        tidewater --listen 127.0.0.1:0    serve on a free port; stdout says `ready on ADDRESS`\n  \
        psql -h 127.0.0.1 -p 5433         connect"
)]
pub struct Args {
    /// Address to serve SQL on; port 0 picks a free one [default: 127.0.0.1:5433]
    #[arg(long, env = "TIDEWATER_LISTEN", hide_env = true, value_name = "ADDRESS", global = true)]
    pub listen: Option<SocketAddr>,

    /// Keep everything in memory alone, and lose it when the server stops
    #[arg(
        long,
        env = "TIDEWATER_IN_MEMORY",
        hide_env = true,
        global = true,
        conflicts_with = "data_dir"
    )]
    pub in_memory: bool,

    /// Directory to keep everything in [default: tidewater-data, made if it is not there]
    #[arg(long, env = "TIDEWATER_DATA_DIR", hide_env = true, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,

    /// Directory that mappings of type File may read and write beneath [default: none, they are
    /// refused]
    #[arg(long, env = "TIDEWATER_FILE_ROOT", hide_env = true, value_name = "DIR", global = true)]
    pub file_root: Option<PathBuf>,

    /// Worker threads for jobs and streaming queries [default: one a core]
    #[arg(long, env = "TIDEWATER_WORKERS", hide_env = true, value_name = "N", global = true)]
    pub workers: Option<usize>,

    /// Megabytes the rows of all tables together may take [default: no limit]
    #[arg(
        long,
        env = "TIDEWATER_TABLE_MEMORY_MB",
        hide_env = true,
        value_name = "MB",
        global = true
    )]
    pub table_memory_mb: Option<usize>,

    /// Megabytes all running queries together may take for sorts and hash tables [default: 4096]
    #[arg(
        long,
        env = "TIDEWATER_QUERY_MEMORY_MB",
        hide_env = true,
        value_name = "MB",
        global = true
    )]
    pub query_memory_mb: Option<usize>,

    /// Megabytes one job or streaming query may take, unless its maxMemory says otherwise
    /// [default: 2048]
    #[arg(
        long,
        env = "TIDEWATER_JOB_MEMORY_MB",
        hide_env = true,
        value_name = "MB",
        global = true
    )]
    pub job_memory_mb: Option<usize>,

    /// TOML file with further settings; the command line counts more than the file
    #[arg(long, env = "TIDEWATER_CONFIG", hide_env = true, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// What to do instead of just serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Subcommands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve, and show a windowed job over a generated auction stream filling a table
    Demo,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_behind_the_subcommand() {
        for line in
            [["tidewater", "demo", "--workers", "2"], ["tidewater", "--workers", "2", "demo"]]
        {
            let args = Args::try_parse_from(line).unwrap();
            assert_eq!((args.workers, args.command), (Some(2), Some(Command::Demo)));
        }
    }
}
