//! `Backstage`: where a job does what may take its time, off the workers: the snapshots of an
//! execution, and starting the next one. It runs on threads; the simulator runs it in an order of
//! its own, with the messages under way for as long as it likes.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use super::execution_snapshots::{ExecutionSnapshots, Message};
use crate::{Error, Result};

/// Stack of a thread that plans a restarted job: planning recurses over the query.
const STACK_BYTES: usize = 16 << 20;

/// Hands over a message; never blocks. Nobody takes it when the execution is over.
pub(super) type Tell = Arc<dyn Fn(Message) + Send + Sync>;

/// Runs what is not for workers.
pub(super) trait Backstage: Send + Sync {
    /// Runs the snapshots of one execution until it is over; how they are told. Limit if it cannot.
    fn run_snapshots(&self, name: String, snapshots: ExecutionSnapshots) -> Result<Tell>;

    /// Does something once. Limit if it cannot.
    fn run(&self, name: String, task: Box<dyn FnOnce() + Send>) -> Result<()>;
}

/// A thread for each.
pub(super) struct Threads;

impl Backstage for Threads {
    fn run_snapshots(&self, name: String, snapshots: ExecutionSnapshots) -> Result<Tell> {
        let (sender, receiver) = mpsc::channel();
        spawn(name, Box::new(move || serve(snapshots, &receiver)))?;
        Ok(Arc::new(move |message| drop(sender.send(message))))
    }

    fn run(&self, name: String, task: Box<dyn FnOnce() + Send>) -> Result<()> {
        spawn(name, task)
    }
}

fn spawn(name: String, task: Box<dyn FnOnce() + Send>) -> Result<()> {
    let thread = std::thread::Builder::new().name(name).stack_size(STACK_BYTES);
    let spawned = thread.spawn(task);
    spawned.map(drop).map_err(|error| Error::Limit(format!("could not start a thread: {error}")))
}

/// Hands over messages, and the time when it matters.
fn serve(mut snapshots: ExecutionSnapshots, messages: &mpsc::Receiver<Message>) {
    while !snapshots.is_over() {
        let message = match snapshots.due_in() {
            None => messages.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(micros) => messages.recv_timeout(Duration::from_micros(micros)),
        };
        match message {
            Ok(message) => snapshots.receive(message),
            Err(mpsc::RecvTimeoutError::Timeout) => snapshots.tick(),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}
