//! What a durable change of the catalog costs: time of a command from its submission to its answer,
//! beside a sync of the same file system, and of a start over so many commands.
//! Run with `--release`; it prints and asserts nothing, since the answer is the machine's.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::{path::Path, sync::Arc};

use tidewater_storage::{
    DataDir, Result,
    cluster::control::{Command, Control},
    env::Env,
};

const COMMANDS: usize = 20_000;
const SYNCS: usize = 2_000;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "control-costs".to_owned());
    let env = Env::real();
    let data = DataDir::open(&env.disk, &env.rng, Path::new(&folder), 271)?;
    let open = || {
        let id = data.cluster_id() ^ 1;
        Control::open(&env.disk, &data.control(), id, |_| Ok(()), |_, _, _| {})
    };
    let in_memory = Control::default();
    timed(&env, "command in memory", COMMANDS, || {
        (0..COMMANDS).try_for_each(|_| in_memory.submit(&Command::ReserveId).map(drop))
    })?;
    let region = env.disk.create_region(&data.root().join("syncs"), (SYNCS * 4096) as u64);
    let mut region = region.expect("there is room");
    timed(&env, "write of 4 KiB and sync", SYNCS, || {
        (0..SYNCS).for_each(|place| {
            let written = region.write_at((place * 4096) as u64, &[1; 4096]);
            written.and_then(|()| region.sync()).expect("the disk works");
        });
        Ok(())
    })?;
    env.disk.remove(&data.root().join("syncs")).expect("it was made above");
    let control = timed(&env, "start, founding", 1, open)?;
    timed(&env, "durable command", COMMANDS, || {
        (0..COMMANDS).try_for_each(|_| control.submit(&Command::ReserveId).map(drop))
    })?;
    let control = Arc::new(control);
    timed(&env, "durable command, 8 threads", COMMANDS, || {
        std::thread::scope(|scope| {
            let submit = || {
                (0..COMMANDS / 8).try_for_each(|_| control.submit(&Command::ReserveId).map(drop))
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(submit)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
        })
    })?;
    drop(control);
    let control = timed(&env, "start over all of them", 1, open)?;
    println!("state after {} commands", control.state().version);
    Ok(())
}

fn timed<T>(env: &Env, name: &str, count: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = env.clock.monotonic_nanos();
    let done = work()?;
    let micros = (env.clock.monotonic_nanos() - started) as f64 / 1e3;
    println!("{name:<28} {:>10.1} µs each", micros / count as f64);
    Ok(done)
}
