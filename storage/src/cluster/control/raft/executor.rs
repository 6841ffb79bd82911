//! What openraft's tasks run on: one thread that polls what is ready and nothing else. There are no
//! timers, so the same commands always take the same steps; and it is known when nothing can go on.
//!
//! ```text
//!   run(future) ─► poll it ─► it wakes a task ─► poll that ─► … ─► nothing is ready: done, or stuck
//! ```
//! With one voter nobody ever waits for a clock: who is elected at its start stays so. Members that
//! vote will need one here, driven by [`crate::env::Clock`].

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    future::{Future, Pending, pending},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use openraft::{AsyncRuntime, OptionalSend, TokioInstant, TokioRuntime};
use parking_lot::Mutex;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// What was spawned on this thread and is in no executor yet.
    static SPAWNED: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
}

/// Polls tasks on the thread that owns it.
#[derive(Default)]
pub(super) struct Executor {
    tasks: BTreeMap<u64, (Task, Waker)>,
    last: u64,
    ready: Arc<Ready>,
}

/// Tasks to be polled, in the order in which they were woken. Bounded by what there are, since each
/// is in it once for every wake that came after its last poll.
#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

struct TaskWaker {
    id: u64,
    ready: Arc<Ready>,
}

/// The future that [`Executor::run`] is given.
const MAIN: u64 = 0;

impl Executor {
    /// Polls `future` and all tasks until nothing is ready; `None` if it is not done then, and so
    /// never will be.
    pub(super) fn run<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        let waker = self.waker(MAIN);
        waker.wake_by_ref();
        let mut output = None;
        while let Some(id) = self.ready.next() {
            if id != MAIN {
                self.poll(id);
            } else if output.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                output = Some(value);
            }
            self.take_spawned();
        }
        output
    }

    fn poll(&mut self, id: u64) {
        let Some((task, waker)) = self.tasks.get_mut(&id) else { return };
        if task.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
            self.tasks.remove(&id);
        }
    }

    fn take_spawned(&mut self) {
        for task in SPAWNED.with_borrow_mut(std::mem::take) {
            self.last += 1;
            let waker = self.waker(self.last);
            waker.wake_by_ref();
            self.tasks.insert(self.last, (task, waker));
        }
    }

    fn waker(&self, id: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { id, ready: Arc::clone(&self.ready) }))
    }
}

impl Ready {
    fn next(&self) -> Option<u64> {
        self.0.lock().pop_front()
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.0.lock();
        if !ready.contains(&self.id) {
            ready.push_back(self.id);
        }
    }
}

/// The world as openraft sees it: tasks of the executor that polls, and a time that does not pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Timeless;

/// The answer of a task.
pub(super) struct Spawned<T>(<TokioRuntime as AsyncRuntime>::OneshotReceiver<T>)
where
    T: OptionalSend;

/// A task went away without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a task of the control log has ended")]
pub(super) struct TaskEnded;

/// A future for which time does not run out.
pub(super) struct Untimed<F>(Pin<Box<F>>);

impl<T: OptionalSend> Future for Spawned<T> {
    type Output = Result<T, TaskEnded>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| TaskEnded)
    }
}

impl<F: Future> Future for Untimed<F> {
    type Output = Result<F::Output, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context).map(Ok)
    }
}

impl AsyncRuntime for Timeless {
    type JoinError = TaskEnded;
    type JoinHandle<T: OptionalSend + 'static> = Spawned<T>;
    type Sleep = Pending<()>;
    type Instant = TokioInstant;
    type TimeoutError = Infallible;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Untimed<T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        use openraft::async_runtime::AsyncOneshotSendExt as _;
        let (sender, receiver) = Self::oneshot();
        let task = async move {
            // Nobody may be waiting any more.
            let _unheard = sender.send(future.await);
        };
        SPAWNED.with_borrow_mut(|spawned| spawned.push(Box::pin(task)));
        Spawned(receiver)
    }

    fn sleep(_: Duration) -> Self::Sleep {
        pending()
    }

    fn sleep_until(_: Self::Instant) -> Self::Sleep {
        pending()
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        _: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Untimed(Box::pin(future))
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        _: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Untimed(Box::pin(future))
    }

    fn is_panic(_: &Self::JoinError) -> bool {
        false
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: OptionalSend,
    {
        TokioRuntime::oneshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_when_woken_and_what_cannot_go_on_is_known() {
        let mut executor = Executor::default();
        let sum = executor.run(async {
            let one = Timeless::spawn(async { 1 });
            let two = Timeless::spawn(async { Timeless::spawn(async { 2 }).await.unwrap() });
            two.await.unwrap() + one.await.unwrap()
        });
        assert_eq!(sum, Some(3));
        assert!(executor.tasks.is_empty(), "what is done is gone");
        assert_eq!(executor.run(Timeless::sleep(Duration::ZERO)), None);
        let lost = executor.run(async {
            let (sender, receiver) = Timeless::oneshot::<u8>();
            drop(sender);
            receiver.await.is_err()
        });
        assert_eq!(lost, Some(true));
    }
}
