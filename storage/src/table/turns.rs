//! `Turns`: who waits for which writer without holding a thread, in the order they came.
//!
//! ```text
//! writer 5 ←─ a b c      5 ends:  it is a's turn;  b and c wait for a, which takes the key now
//! writer 8 ←─ b c        8 is a's own writer; a statement without one ends at once, so b goes, too
//! ```
//! Who was woken tries again; who waits for another key than the one before it tries again after a
//! while by itself. A writer that would wait for itself through others is refused at once: each of
//! them waits for one other, so the way back is a walk along a chain.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use super::writers::Writers;
use crate::{Error, Result};

/// Those who wait, under the lock of [`Writers`].
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// By the writer that is waited for.
    queues: HashMap<u64, VecDeque<Arc<Waiting>>>,
    /// The writer that a waiting one has met. Not known of those who have moved up: they have yet to
    /// see who holds their key now.
    waits_for: HashMap<u64, u64>,
}

/// One who waits.
#[derive(Debug)]
struct Waiting {
    /// The writer it waits with; `None` for a statement that commits by itself.
    own: Option<u64>,
    place: Mutex<Place>,
}

/// Where it stands. Changed under the lock of [`Writers`].
#[derive(Debug)]
enum Place {
    /// In the queue of a writer; whom to wake.
    Queue(u64, Option<Waker>),
    /// It may try.
    Front,
}

/// Ready when it is the waiting statement's turn to try again. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Turn {
    writers: Arc<Writers>,
    waiting: Arc<Waiting>,
}

impl Turn {
    /// The turn of a statement with writer `own` that met `blocker`, at once if that has ended.
    /// Deadlock if `blocker` waits for `own`, directly or through others.
    pub(crate) fn after(writers: &Arc<Writers>, blocker: u64, own: Option<u64>) -> Result<Self> {
        let waiting = Arc::new(Waiting { own, place: Mutex::new(Place::Front) });
        writers.with_turns(|turns, is_open| match is_open(blocker) {
            true => turns.join(blocker, &waiting),
            false => Ok(()),
        })?;
        Ok(Self { writers: Arc::clone(writers), waiting })
    }
}

impl Future for Turn {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self.waiting.place.lock() {
            Place::Queue(_, waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Place::Front => Poll::Ready(()),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.writers.with_turns(|turns, _| turns.leave(&self.waiting));
    }
}

impl Turns {
    fn join(&mut self, blocker: u64, waiting: &Arc<Waiting>) -> Result<()> {
        if let Some(own) = waiting.own {
            let mut next = Some(blocker);
            while let Some(writer) = next {
                if writer == own {
                    return Err(Error::Deadlock);
                }
                next = self.waits_for.get(&writer).copied();
            }
            self.waits_for.insert(own, blocker);
        }
        *waiting.place.lock() = Place::Queue(blocker, None);
        self.queues.entry(blocker).or_default().push_back(Arc::clone(waiting));
        Ok(())
    }

    fn leave(&mut self, waiting: &Arc<Waiting>) {
        let Place::Queue(blocker, _) = *waiting.place.lock() else { return };
        if let Some(own) = waiting.own {
            self.waits_for.remove(&own);
        }
        if let Some(queue) = self.queues.get_mut(&blocker) {
            queue.retain(|other| !Arc::ptr_eq(other, waiting));
            if queue.is_empty() {
                self.queues.remove(&blocker);
            }
        }
    }

    /// A writer has ended: the next may try.
    pub(crate) fn pass_on(&mut self, ended: u64, is_open: impl Fn(u64) -> bool) {
        let Some(mut queue) = self.queues.remove(&ended) else { return };
        while let Some(first) = queue.pop_front() {
            if let Some(own) = first.own {
                self.waits_for.remove(&own);
            }
            if let Place::Queue(_, Some(waker)) =
                std::mem::replace(&mut *first.place.lock(), Place::Front)
            {
                waker.wake();
            }
            if let Some(own) = first.own.filter(|own| is_open(*own)) {
                return self.move_up(queue, own);
            }
        }
    }

    /// Those behind the one whose turn it is wait for its writer.
    fn move_up(&mut self, queue: VecDeque<Arc<Waiting>>, blocker: u64) {
        if queue.is_empty() {
            return;
        }
        for waiting in &queue {
            if let Some(own) = waiting.own {
                self.waits_for.remove(&own);
            }
            if let Place::Queue(place, _) = &mut *waiting.place.lock() {
                *place = blocker;
            }
        }
        self.queues.entry(blocker).or_default().extend(queue);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;
    use crate::table::writer_cell::WriterCell;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn after(writers: &Arc<Writers>, blocker: &WriterCell, own: Option<&WriterCell>) -> Turn {
        Turn::after(writers, blocker.id(), own.map(WriterCell::id)).unwrap()
    }

    fn is_ready(turn: &mut Turn) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(turn).poll(&mut context).is_ready()
    }

    #[test]
    fn turns_come_in_order_from_writer_to_writer() {
        let writers = Writers::new();
        let [holder, a, b] = [(); 3].map(|()| writers.begin(None));
        let (mut first, mut second) =
            (after(&writers, &holder, Some(&a)), after(&writers, &holder, Some(&b)));
        let mut third = after(&writers, &holder, None);
        assert!(writers.end(&holder, true));
        assert_eq!([&mut first, &mut second, &mut third].map(is_ready), [true, false, false]);
        drop(first);
        assert!(writers.end(&a, false));
        assert_eq!([&mut second, &mut third].map(is_ready), [true, false]);
        assert!(writers.end(&b, true));
        assert!(is_ready(&mut third));
        assert!(is_ready(&mut after(&writers, &holder, None)), "it ended long ago");
    }

    #[test]
    fn statements_that_commit_by_themselves_hold_nobody_up() {
        let writers = Writers::new();
        let [holder, a] = [(); 2].map(|()| writers.begin(None));
        let mut turns = [None, None, Some(&*a), None].map(|own| after(&writers, &holder, own));
        assert!(writers.end(&holder, true));
        assert_eq!(turns.each_mut().map(is_ready), [true, true, true, false]);
    }

    #[test]
    fn waiting_task_is_woken_once_and_who_left_is_passed_over() {
        let writers = Writers::new();
        let [holder, a] = [(); 2].map(|()| writers.begin(None));
        let gone = after(&writers, &holder, Some(&a));
        let mut stays = after(&writers, &holder, None);
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        for _ in 0..2 {
            assert!(Pin::new(&mut stays).poll(&mut context).is_pending());
        }
        drop(gone);
        assert!(writers.end(&holder, true));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(Pin::new(&mut stays).poll(&mut context).is_ready());
    }

    #[test]
    fn circle_of_writers_is_refused_and_a_chain_is_not() {
        let writers = Writers::new();
        let [a, b, c] = [(); 3].map(|()| writers.begin(None));
        let (_first, second) = (after(&writers, &b, Some(&a)), after(&writers, &c, Some(&b)));
        let circle = Turn::after(&writers, a.id(), Some(c.id()));
        assert!(matches!(circle, Err(Error::Deadlock)));
        assert!(!is_ready(&mut after(&writers, &a, None)), "who holds nothing is in no circle");
        drop(second);
        assert!(!is_ready(&mut after(&writers, &a, Some(&c))), "b waits no longer");
    }
}
