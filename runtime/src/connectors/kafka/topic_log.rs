//! `TopicLog`: what the sink asks of a topic: send, wait for acknowledgements, and transactions that
//! carry a *mark*, the id of the newest snapshot whose rows they made visible. librdkafka's half is
//! [`super::producer`]; the tests put a simulated log behind it, which can abort, fence, lose the
//! answer to a commit and die at every step.

use super::encoder::Messages;
use crate::Error;

/// Why a call did not do what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// Not yet, or the broker is away: nothing is lost, call again.
    Later,
    /// The open transaction is no more, or must be aborted: `abort`, then all of it again.
    Aborted,
    /// For good.
    Failed(Error),
}

/// An answer of a log.
pub type Answer<T> = Result<T, Failure>;

/// A topic as one producer writes it. Called from one thread; a call may block for a while, and
/// says [`Failure::Later`] when that was not enough: it goes on with what it began at the next call.
pub trait TopicLog: Send {
    /// Takes messages from `from` on, as many as there is room for, and says how many.
    fn send(&mut self, messages: &Messages, from: usize) -> Answer<usize>;

    /// Waits until everything that was sent is acknowledged.
    fn flush(&mut self) -> Answer<()>;

    /// Serves events. Bytes that wait to be acknowledged, and why they do if a broker is away.
    fn serve(&mut self) -> Answer<Waiting>;

    /// Becomes the only producer of its transactional id: what others have open is aborted, and
    /// they can do nothing any more. Before anything else of a transaction.
    fn init(&mut self) -> Answer<()>;

    /// The mark of the newest committed transaction of its transactional id; after `init`.
    fn mark(&mut self) -> Answer<Option<i64>>;

    /// Begins a transaction.
    fn begin(&mut self) -> Answer<()>;

    /// Commits the open transaction, with everything sent in it and the mark. `Later` leaves open
    /// whether it was: the next call tells.
    fn commit(&mut self, mark: i64) -> Answer<()>;

    /// Aborts the open transaction.
    fn abort(&mut self) -> Answer<()>;
}

/// What a log holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Bytes of messages that are not acknowledged, about.
    pub bytes: usize,
    /// Why a broker counts as away.
    pub trouble: Option<String>,
}
