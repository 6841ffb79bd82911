//! What the control log's records say: votes, entries and cuts of the end; the bytes of each, in
//! pieces if they are many.
//!
//! ```text
//!   record   version │ piece: WHOLE, FIRST, MIDDLE or LAST │ bytes of the piece
//!   bytes    postcard of [`Record`]
//! ```
//! An entry of which only the first pieces are there was never acknowledged; what comes after it
//! begins anew. The types are ours and not openraft's, so that another version of that reads them.

use std::collections::BTreeSet;

use openraft::CommittedLeaderId;
use serde::{Deserialize, Serialize};

use super::types::{Entry, LogId, Payload, StoredVoters, Vote, Voters};
use crate::{
    Error, Result,
    log::{Log, Lsn, SegmentSize},
};

/// Version of the records' format.
const VERSION: u8 = 1;
/// Segments of the control log: there is little in it.
pub(super) const SEGMENTS: SegmentSize =
    if cfg!(test) { SegmentSize::LARGE } else { SegmentSize::SMALL };
/// Bytes of one piece.
const PIECE_BYTES: usize = SEGMENTS.record_bytes_max() - 2;
/// Bytes of one encoded command at most: with all of its pieces it is surely within the room that
/// [`Log::admit`] promises, which is half a segment.
pub(super) const COMMAND_BYTES_MAX: usize = 4 * SEGMENTS.record_bytes_max() - 1024;

const WHOLE: u8 = 0;
const FIRST: u8 = 1;
const MIDDLE: u8 = 2;
const LAST: u8 = 3;

/// A record of the control log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record {
    /// Whom this member voted for last.
    Vote { term: u64, node: u64, is_committed: bool },
    /// An entry, and its place.
    Entry(Place, What),
    /// All entries from this index on are void.
    CutFrom(u64),
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    term: u64,
    node: u64,
    index: u64,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// Somebody was elected.
    Nothing,
    /// A command, encoded.
    Command(Vec<u8>),
    /// Who votes.
    Voters(VoterSets),
}

/// Who votes: one set of members, or two of which both must agree; and all members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VoterSets {
    sets: Vec<BTreeSet<u64>>,
    members: BTreeSet<u64>,
}

/// Puts records together of their pieces, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Pieces(Option<(Lsn, Vec<u8>)>);

/// Appends a record, of any length; its first piece's place. Durable when the log says so.
pub(super) fn append(log: &Log, record: &[u8]) -> Lsn {
    let mut pieces = record.chunks(PIECE_BYTES).peekable();
    let mut first = None;
    while let Some(piece) = pieces.next() {
        let kind = match (first.is_none(), pieces.peek().is_none()) {
            (true, true) => WHOLE,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        let lsn = log.append(|out| {
            out.extend_from_slice(&[VERSION, kind]);
            out.extend_from_slice(piece);
        });
        first.get_or_insert(lsn);
    }
    first.expect("no record is empty")
}

impl Pieces {
    /// Takes the next piece; the place and the bytes of the record that it completes.
    pub(super) fn take(&mut self, lsn: Lsn, piece: &[u8]) -> Result<Option<(Lsn, Vec<u8>)>> {
        let damaged = |why: String| {
            Err(Error::Damaged(format!("record {} of the control log: {why}", lsn.0)))
        };
        let Some((&[version, kind], bytes)) = piece.split_first_chunk() else {
            return damaged("it is empty".to_owned());
        };
        if version != VERSION {
            return damaged(format!("it has format {version}, and this server reads {VERSION}"));
        }
        match kind {
            WHOLE => {
                self.0 = None;
                Ok(Some((lsn, bytes.to_vec())))
            }
            FIRST => {
                self.0 = Some((lsn, bytes.to_vec()));
                Ok(None)
            }
            MIDDLE | LAST => {
                // Where the log was cut there may be the end of what was cut.
                let Some((_, gathered)) = &mut self.0 else { return Ok(None) };
                gathered.extend_from_slice(bytes);
                Ok(if kind == LAST { self.0.take() } else { None })
            }
            other => damaged(format!("piece {other} is unknown")),
        }
    }
}

impl Record {
    pub(super) fn of_vote(vote: &Vote) -> Self {
        let (term, node) = (vote.leader_id.term, vote.leader_id.node_id);
        Record::Vote { term, node, is_committed: vote.committed }
    }

    pub(super) fn of_entry(entry: Entry) -> Self {
        let what = match entry.payload {
            Payload::Blank => What::Nothing,
            Payload::Normal(command) => What::Command(command),
            Payload::Membership(voters) => What::Voters(VoterSets::of(&voters)),
        };
        Record::Entry(Place::of(&entry.log_id), what)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(|error| Error::Internal(error.to_string()))
    }

    pub(super) fn decode(lsn: Lsn, bytes: &[u8]) -> Result<Self> {
        postcard::from_bytes(bytes).map_err(|error| {
            Error::Damaged(format!("record {} of the control log: {error}", lsn.0))
        })
    }
}

impl Place {
    pub(super) fn of(id: &LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }

    pub(super) fn log_id(self) -> LogId {
        LogId::new(CommittedLeaderId::new(self.term, self.node), self.index)
    }
}

impl What {
    pub(super) fn entry(self, place: Place) -> Entry {
        let payload = match self {
            What::Nothing => Payload::Blank,
            What::Command(command) => Payload::Normal(command),
            What::Voters(voters) => Payload::Membership(voters.voters()),
        };
        Entry { log_id: place.log_id(), payload }
    }
}

impl VoterSets {
    pub(super) fn of(voters: &Voters) -> Self {
        Self {
            sets: voters.get_joint_config().clone(),
            members: voters.nodes().map(|(id, ())| *id).collect(),
        }
    }

    pub(super) fn voters(self) -> Voters {
        Voters::new(self.sets, self.members)
    }
}

/// Who votes, and by which entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredSets(Option<Place>, VoterSets);

impl StoredSets {
    pub(super) fn of(stored: &StoredVoters) -> Self {
        Self(stored.log_id().as_ref().map(Place::of), VoterSets::of(stored.membership()))
    }

    pub(super) fn stored(self) -> StoredVoters {
        StoredVoters::new(self.0.map(Place::log_id), self.1.voters())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(version: u8, kind: u8, text: &str) -> Vec<u8> {
        [&[version, kind], text.as_bytes()].concat()
    }

    #[test]
    fn pieces_make_a_record_and_what_was_begun_and_not_ended_is_none() {
        let mut pieces = Pieces::default();
        let mut taken = Vec::new();
        let all = [
            // The end of what was cut, one begun and left, one in three pieces, one whole.
            (LAST, "lost"),
            (FIRST, "left"),
            (FIRST, "a"),
            (MIDDLE, "b"),
            (LAST, "c"),
            (FIRST, "left again"),
            (WHOLE, "d"),
            (LAST, "of nothing"),
        ];
        for (position, (kind, text)) in all.into_iter().enumerate() {
            let lsn = Lsn(position as u64);
            taken.extend(pieces.take(lsn, &piece(VERSION, kind, text)).unwrap());
        }
        assert_eq!(taken, [(Lsn(2), b"abc".to_vec()), (Lsn(6), b"d".to_vec())]);
    }

    #[test]
    fn a_record_of_another_format_is_refused_by_its_version() {
        let error = Pieces::default().take(Lsn(7), &piece(2, WHOLE, "what")).unwrap_err();
        let expected = "record 7 of the control log: it has format 2, and this server reads 1";
        assert_eq!((error.sqlstate(), error.to_string().as_str()), ("XX001", expected));
    }
}
