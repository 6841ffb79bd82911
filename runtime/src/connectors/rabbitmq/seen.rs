//! Which messages were read, and when the broker may forget them. A message is acknowledged when the
//! snapshot that covers its row is good, and not before; until the broker has answered, it may come
//! again, to any instance, on any connection, in the next execution. Its id is kept for so long.
//!
//! ```text
//!   delivered ── row ──► barrier n saves the id ──► n is good: acknowledged ──► answered: forgotten
//!                            │ lost here: comes again, row again     │ lost here: comes again,
//!                            └──────── its id is not in n ───────    └─ its id is in n: no row
//! ```
//! *When is it covered?* A row is covered by every snapshot later than the last one its instance had
//! saved for when it read the message. A message that comes again, to whomever, is due when that
//! snapshot is good *and* one that its new reader has saved for: `after` is the later of both.
//! An acknowledgement covers all tags before, so they go in the order of the tags.
//!
//! *When is it forgotten?* When the broker has answered. If the connection is lost first, nobody knows
//! whether the message will come again; its id is kept until the next connection has stood for
//! [`KEPT`], which is the same for the ids of a restored snapshot.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use crate::item::SnapshotId;

/// A broker that has lost a connection gives its messages to others when it notices, which takes a
/// few heartbeats.
pub const KEPT: Duration = Duration::from_secs(600);

/// The ids of one execution.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashMap<Arc<str>, Mark>>);

/// What is known of an id.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// The instance that saves it.
    owner: usize,
    /// Every later snapshot covers its row.
    after: SnapshotId,
    /// The instance whose connection it has come through last, while that stands.
    holder: Option<usize>,
    /// When it is forgotten, ns of the steady clock, unless it comes again.
    until: Option<u64>,
}

/// The messages of one instance.
#[derive(Debug)]
pub struct Ledger {
    seen: Arc<Seen>,
    index: usize,
    /// Whether ids are kept: with `exactlyOnce`.
    keeps_ids: bool,
    /// The last snapshot it has saved for.
    saved: SnapshotId,
    /// Delivered on this connection and not acknowledged, by tag.
    owed: VecDeque<Owed>,
    /// Acknowledged, and not answered.
    unanswered: VecDeque<Owed>,
}

#[derive(Debug)]
struct Owed {
    tag: u64,
    after: SnapshotId,
    id: Option<Arc<str>>,
}

impl Ledger {
    /// Of instance `index`.
    pub fn new(seen: Arc<Seen>, index: usize, keeps_ids: bool) -> Self {
        let (owed, unanswered) = Default::default();
        Self { seen, index, keeps_ids, saved: 0, owed, unanswered }
    }

    /// An id of a restored snapshot, which covers its row.
    pub fn restore(&self, id: &str) {
        let mark = Mark { owner: 0, after: 0, holder: None, until: None };
        self.seen.0.lock().entry(id.into()).or_insert(mark);
    }

    /// A message has come. Whether it is new.
    pub fn delivered(&mut self, tag: u64, id: Option<&str>) -> bool {
        let (Some(id), true) = (id, self.keeps_ids) else {
            self.owed.push_back(Owed { tag, after: self.saved, id: None });
            return true;
        };
        let mut seen = self.seen.0.lock();
        let known = seen.get_key_value(id).map(|(id, mark)| (Arc::clone(id), mark.after));
        let is_new = known.is_none();
        let (id, after) = match known {
            Some((id, after)) => (id, after.max(self.saved)),
            None => (id.into(), self.saved),
        };
        match seen.get_mut(&id) {
            Some(mark) => (mark.holder, mark.until) = (Some(self.index), None),
            None => {
                let holder = Some(self.index);
                let mark = Mark { owner: self.index, after, holder, until: None };
                seen.insert(Arc::clone(&id), mark);
            }
        }
        self.owed.push_back(Owed { tag, after, id: Some(id) });
        is_new
    }

    /// The connection is gone, and its tags with it.
    pub fn lost(&mut self) {
        let mut seen = self.seen.0.lock();
        for id in self.owed.drain(..).chain(self.unanswered.drain(..)).filter_map(|owed| owed.id) {
            // It may have come to another instance already.
            if let Some(mark) = seen.get_mut(&id)
                && mark.holder == Some(self.index)
            {
                mark.holder = None;
            }
        }
    }

    /// A connection stands: what does not come again for a while will not.
    pub fn connected(&mut self, now: u64) {
        let until = now.saturating_add(KEPT.as_nanos() as u64);
        let mut seen = self.seen.0.lock();
        let is_own = |mark: &&mut Mark| mark.owner == self.index && mark.holder.is_none();
        seen.values_mut().filter(is_own).for_each(|mark| mark.until = Some(until));
    }

    /// Snapshot `id` is taken: the ids it must name, of rows that it covers.
    pub fn save(&mut self, id: SnapshotId, now: u64) -> Vec<Arc<str>> {
        self.saved = self.saved.max(id);
        let mut seen = self.seen.0.lock();
        seen.retain(|_, mark| mark.until.is_none_or(|until| now < until));
        let own = seen.iter().filter(|(_, mark)| mark.owner == self.index);
        own.map(|(id, _)| Arc::clone(id)).collect()
    }

    /// Snapshot `id` is good: the tag up to which all is to be acknowledged.
    pub fn committed(&mut self, id: SnapshotId) -> Option<u64> {
        let mut tag = None;
        while self.owed.front().is_some_and(|owed| owed.after < id) {
            let Some(owed) = self.owed.pop_front() else { break };
            tag = Some(owed.tag);
            if owed.id.is_some() {
                self.unanswered.push_back(owed);
            }
        }
        tag
    }

    /// Without a guarantee: all that has come is to be acknowledged.
    pub fn all(&mut self) -> Option<u64> {
        let tag = self.owed.back().map(|owed| owed.tag);
        self.owed.clear();
        tag
    }

    /// The broker has forgotten all messages up to a tag.
    pub fn answered(&mut self, tag: u64) {
        let mut seen = self.seen.0.lock();
        while self.unanswered.front().is_some_and(|owed| owed.tag <= tag) {
            if let Some(id) = self.unanswered.pop_front().and_then(|owed| owed.id) {
                seen.remove(&id);
            }
        }
    }

    /// Whether messages wait for a snapshot that it has saved for.
    pub fn owes(&self) -> bool {
        self.owed.front().is_some_and(|owed| owed.after < self.saved)
    }

    /// Bytes of what is kept, about.
    pub fn held(&self) -> usize {
        const EACH: usize = 160;
        (self.owed.len() + self.unanswered.len()) * EACH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledgers(count: usize) -> Vec<Ledger> {
        let seen = Arc::new(Seen::default());
        (0..count).map(|index| Ledger::new(Arc::clone(&seen), index, true)).collect()
    }

    fn saved(ledger: &mut Ledger, id: SnapshotId, now: u64) -> Vec<String> {
        let mut ids: Vec<String> = ledger.save(id, now).iter().map(ToString::to_string).collect();
        ids.sort();
        ids
    }

    #[test]
    fn a_message_is_acknowledged_with_the_snapshot_that_covers_it() {
        let mut one = ledgers(1).remove(0);
        assert!(one.delivered(1, Some("a")) && one.delivered(2, Some("b")));
        assert_eq!(saved(&mut one, 1, 0), ["a", "b"]);
        assert!(one.delivered(3, Some("c")), "behind the barrier");
        assert_eq!(one.committed(1), Some(2));
        assert_eq!(one.committed(1), None, "it may come twice");
        assert_eq!(saved(&mut one, 2, 0), ["a", "b", "c"], "the broker has not answered");
        one.answered(2);
        assert_eq!(saved(&mut one, 3, 0), ["c"]);
        assert_eq!(one.committed(3), Some(3), "one that includes the second");
        assert!(!one.owes());
    }

    #[test]
    fn what_comes_again_is_no_row_and_waits_for_both_snapshots() {
        let mut both = ledgers(2);
        // The first has saved for snapshot 1 when it reads the message: only 2 covers it.
        saved(&mut both[0], 1, 0);
        assert!(both[0].delivered(1, Some("a")));
        both[0].lost();
        assert!(!both[1].delivered(9, Some("a")), "the second has not come to the barrier");
        saved(&mut both[1], 1, 0);
        assert_eq!(both[1].committed(1), None, "snapshot 1 does not cover the row");
        assert_eq!(saved(&mut both[0], 2, 0), ["a"], "who read it saves it");
        assert_eq!(saved(&mut both[1], 2, 0), Vec::<String>::new());
        assert_eq!(both[1].committed(2), Some(9));
        both[1].answered(9);
        assert_eq!(saved(&mut both[0], 3, 0), Vec::<String>::new());
    }

    #[test]
    fn ids_of_a_snapshot_are_kept_until_a_connection_has_stood_long_enough() {
        let mut both = ledgers(2);
        both.iter().for_each(|ledger| ledger.restore("a"));
        let kept = KEPT.as_nanos() as u64;
        assert_eq!(saved(&mut both[0], 5, 10 * kept), ["a"], "there was no connection");
        both[0].connected(10 * kept);
        assert_eq!(saved(&mut both[0], 6, 11 * kept - 1), ["a"]);
        assert!(!both[1].delivered(1, Some("a")), "it has come again");
        assert_eq!(saved(&mut both[0], 7, 20 * kept), ["a"]);
        saved(&mut both[1], 7, 20 * kept);
        assert_eq!(both[1].committed(7), Some(1));
        both[1].lost();
        assert_eq!(saved(&mut both[0], 8, 20 * kept), ["a"], "nobody knows what the broker did");
        both[0].connected(20 * kept);
        assert_eq!(saved(&mut both[0], 9, 21 * kept), Vec::<String>::new());
    }

    #[test]
    fn without_ids_everything_is_new() {
        let mut one = Ledger::new(Arc::default(), 0, false);
        assert!(one.delivered(1, Some("a")) && one.delivered(2, Some("a")));
        assert!(one.delivered(3, None));
        assert_eq!(saved(&mut one, 1, 0), Vec::<String>::new());
        assert_eq!(one.committed(1), Some(3));
        assert!(one.delivered(4, None));
        assert_eq!(one.all(), Some(4));
        assert!(!one.owes());
    }
}
