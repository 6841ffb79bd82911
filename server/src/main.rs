//! The `tidewater` binary: start, say so, wait for a signal, stop. All else is the library's.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;
use tidewater::{Args, Command, Server, ServerConfig, shutdown::End};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidewater::allocator::configure();
    let args = Args::parse();
    let filter = EnvFilter::try_from_env("TIDEWATER_LOG").unwrap_or_else(|_| "warn".into());
    // It tells each step of an agreement of one.
    let filter = filter.add_directive("openraft=error".parse().expect("it is one"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("tidewater: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let config = ServerConfig::from_args(args)?;
    let running = Server::start(config)?;
    let address = running.address();
    say(format_args!("{}", tidewater::banner(&running)));
    let mut stdout = std::io::stdout();
    // Whoever started us may have stopped listening; the clients have not.
    if let Err(error) = writeln!(stdout, "ready on {address}").and_then(|()| stdout.flush()) {
        tracing::warn!(%error, "nobody reads that the server is ready");
    }
    // Hangs up when the process stops, which ends the demo.
    let (_stop, stopped) = std::sync::mpsc::channel();
    if args.command == Some(Command::Demo) {
        let show = move || {
            if let Err(error) = tidewater::demo::run(address, &stopped) {
                say(format_args!("tidewater: demo: {error}\n"));
            }
        };
        std::thread::Builder::new().name("demo".to_owned()).spawn(show)?;
    }
    let end = tidewater::shutdown::wait(running.broken())?;
    say(format_args!("\n{end}: stopping\n"));
    running.stop();
    match end {
        End::Signal(_) => Ok(()),
        End::Broken => Err("the disk failed: what was not acknowledged may be lost".into()),
    }
}

/// Tells the terminal, if there still is one: `eprint!` would panic without.
fn say(text: std::fmt::Arguments<'_>) {
    drop(std::io::stderr().write_fmt(text));
}
