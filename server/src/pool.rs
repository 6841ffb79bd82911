//! The query pool: the threads on which statements are parsed, planned and run, so that the
//! network's threads never wait for a plan. Big stacks: one deep expression must not end the
//! process. How many statements plan at once is limited; others wait their turn.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use planner::Result;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Semaphore,
};

use crate::wire::error::panicked;

/// Stack of a query thread. The planner's depth limits are chosen to fit it.
const STACK_BYTES: usize = 16 << 20;

/// Statements planned at once, for each core.
const STATEMENTS_PER_CORE: usize = 8;

/// How long an idle thread waits for the next statement.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// The query pool. Dropping it abandons what still runs.
#[derive(Debug)]
pub struct QueryPool {
    runtime: Option<Runtime>,
    handle: Handle,
    admission: Arc<Semaphore>,
}

impl QueryPool {
    /// A pool for `core_count` cores.
    pub fn start(core_count: usize) -> std::io::Result<Self> {
        let statement_max = core_count * STATEMENTS_PER_CORE;
        let runtime = Builder::new_multi_thread()
            .worker_threads(core_count)
            .max_blocking_threads(statement_max)
            .thread_stack_size(STACK_BYTES)
            .thread_keep_alive(KEEP_ALIVE)
            .thread_name("query")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let admission = Arc::new(Semaphore::new(statement_max));
        Ok(Self { runtime: Some(runtime), handle, admission })
    }

    /// Where streams of rows are polled.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `work` on a thread of the pool, with `state` lent to it. The state comes back even if
    /// the work panics, which is an error like any other.
    pub async fn run<S, T>(
        &self,
        mut state: S,
        work: impl FnOnce(&mut S) -> Result<T> + Send + 'static,
    ) -> (S, Result<T>)
    where
        S: Send + Default + 'static,
        T: Send + 'static,
    {
        let permit = Arc::clone(&self.admission).acquire_owned().await;
        let task = self.handle.spawn_blocking(move || {
            let _permit = permit;
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(&mut state)));
            let result = result.unwrap_or_else(|payload| Err(panicked(payload.as_ref())));
            (state, result)
        });
        task.await.unwrap_or_else(|error| {
            (S::default(), Err(planner::Error::new("57P01", format!("query pool: {error}"))))
        })
    }

    /// Stops taking work and does not wait for what runs.
    pub fn close(&mut self) {
        self.admission.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for QueryPool {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_becomes_an_error_and_the_state_comes_back() {
        let pool = QueryPool::start(1).unwrap();
        let (state, result) = pool.run(7, |_| -> Result<()> { panic!("broken") }).await;
        assert_eq!(state, 7);
        let error = result.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), ("XX000", "internal error: broken"));
        let (_, result) = pool.run(7, |state| Ok(*state + 1)).await;
        assert_eq!(result.unwrap(), 8);
    }
}
