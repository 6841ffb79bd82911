//! The `tidewater` binary: start, say so, wait for a signal, stop. All else is the library's.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use tidewater::{Args, Command, Server, ServerConfig};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidewater::allocator::configure();
    let args = Args::parse();
    let filter = EnvFilter::try_from_env("TIDEWATER_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidewater: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let config = ServerConfig::from_args(args)?;
    let running = Server::start(config)?;
    let address = running.address();
    eprint!("{}", tidewater::banner(address));
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready on {address}")?;
    stdout.flush()?;
    // Hangs up when the process stops, which ends the demo.
    let (_stop, stopped) = std::sync::mpsc::channel();
    if args.command == Some(Command::Demo) {
        let show = move || {
            if let Err(error) = tidewater::demo::run(address, &stopped) {
                eprintln!("tidewater: demo: {error}");
            }
        };
        std::thread::Builder::new().name("demo".to_owned()).spawn(show)?;
    }
    let signal = tidewater::shutdown::wait()?;
    eprintln!("\n{signal}: stopping");
    running.stop();
    Ok(())
}
