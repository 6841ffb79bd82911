//! `Link`: the way between a router and owners that are not in its own hands: operations and
//! answers go as bytes over a [`Network`], and what gets no answer is sent again under its id.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::{
    codec,
    mailbox::Mailbox,
    op::{Answer, Request},
    owner::Owner,
};
use crate::{
    Error, Result,
    env::network::{Delivery, Network},
};

/// How often one operation is sent before its owner counts as unreachable. A network that loses a
/// quarter of everything does so this often once in 10³⁸ operations.
const SENDINGS_MAX: u32 = 64;

/// Delayed messages on the way at once; then the oldest is lost for good.
const LATE_MAX: usize = 64;

/// The network side of a router.
#[derive(Debug)]
pub(crate) struct Link {
    network: Network,
    /// One for each owner.
    mailboxes: Vec<Mailbox>,
    /// Requests that will arrive once more, and where.
    late: Mutex<Vec<(u16, Vec<u8>)>>,
    /// The last id given away, and those without an answer.
    ids: Mutex<Ids>,
}

#[derive(Debug, Default)]
struct Ids {
    last: u64,
    unanswered: BTreeSet<u64>,
}

impl Link {
    /// A link to `count` owners.
    pub(crate) fn new(network: Network, count: u16) -> Self {
        let mailboxes = (0..count).map(|_| Mailbox::default()).collect();
        Self { network, mailboxes, late: Mutex::default(), ids: Mutex::default() }
    }

    /// Gives a request its id; it is sent again until [`Self::close`] says it is answered.
    pub(crate) fn open(&self, request: &mut Request<'_>) {
        let mut ids = self.ids.lock();
        ids.last += 1;
        request.id = ids.last;
        ids.unanswered.insert(request.id);
        request.unanswered_from = ids.unanswered.first().copied().unwrap_or(request.id);
    }

    /// Nobody waits for the answer to request `id` any more.
    pub(crate) fn close(&self, id: u64) {
        self.ids.lock().unanswered.remove(&id);
    }

    /// Sends an encoded request to owner number `number` until an answer arrives. Unavailable
    /// (naming no partition of its own, so 0) if none ever does.
    pub(crate) fn send(&self, owners: &[Owner], number: u16, bytes: &[u8]) -> Result<Answer> {
        for _ in 0..SENDINGS_MAX {
            self.deliver_late(owners)?;
            let delivery = self.network.delivery();
            if delivery == Delivery::RequestLost {
                continue;
            }
            let answer = self.deliver(owners, number, bytes)?;
            match delivery {
                Delivery::AnswerLost | Delivery::RequestLost => {}
                Delivery::Once => return codec::decode_answer(&answer),
                Delivery::Twice => {
                    let again = self.deliver(owners, number, bytes)?;
                    return codec::decode_answer(&again);
                }
                Delivery::AgainLater => {
                    let mut late = self.late.lock();
                    if late.len() == LATE_MAX {
                        late.remove(0);
                    }
                    late.push((number, bytes.to_vec()));
                    drop(late);
                    return codec::decode_answer(&answer);
                }
            }
        }
        Err(Error::Unavailable(0))
    }

    /// Lets a delayed request arrive, perhaps; its answer finds nobody.
    fn deliver_late(&self, owners: &[Owner]) -> Result<()> {
        let arrived = {
            let mut late = self.late.lock();
            self.network.late_arrival(late.len()).map(|index| late.swap_remove(index))
        };
        match arrived {
            Some((number, bytes)) => self.deliver(owners, number, &bytes).map(drop),
            None => Ok(()),
        }
    }

    fn deliver(&self, owners: &[Owner], number: u16, bytes: &[u8]) -> Result<Vec<u8>> {
        let number = usize::from(number);
        self.mailboxes[number].receive(&owners[number], bytes)
    }

    /// Answers that all owners remember.
    #[cfg(test)]
    pub(crate) fn remembered_count(&self) -> usize {
        self.mailboxes.iter().map(Mailbox::remembered_count).sum()
    }
}
