//! The bytes of a log: segments, blocks, records; what they look like whole, torn and damaged.
//!
//! ```text
//! segment   0000000000000041.log            named after its first record, of a fixed size
//! ┌────────┬───────┬──────────┬─────────────────────────┐
//! │ header │ block │ block    │ zeros …                 │
//! └────────┴───────┴──────────┴─────────────────────────┘
//! block     magic │ length │ first record │ count │ CRC32C │ records │ zeros up to 8
//! record    length │ bytes
//! ```
//! A block is what one sync makes durable, and the next one is written only after it: so a broken
//! block with a whole one behind it was durable and is *damaged*, while one with nothing behind it
//! is *torn*, and nobody was told of it. The checksum covers the log's name, the block's place and
//! all of its bytes: a block that is whole but lies elsewhere is broken too.

use crc32c::{crc32c, crc32c_append};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Bytes of a segment: its room is taken when it is made, and all of it is read when the log is
/// opened, what is behind the last block too. A log keeps the size it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSize(u64);

/// Bytes of the largest segment.
const SEGMENT_BYTES_MAX: u64 = if cfg!(test) { 1 << 16 } else { 16 << 20 };
/// Bytes of a segment's header.
pub(super) const HEADER_BYTES: u64 = 64;
/// Bytes before a block's records.
pub(super) const BLOCK_HEADER_BYTES: usize = 32;
/// Version of this format.
const VERSION: u16 = 1;

const SEGMENT_MAGIC: &[u8; 8] = b"TWLOGSEG";
const BLOCK_MAGIC: u32 = 0x4B4C_4254;
const ALIGNMENT: u64 = 8;

impl SegmentSize {
    /// Of a log that everything goes through.
    pub const LARGE: Self = Self(SEGMENT_BYTES_MAX);
    /// Of a log of little: a quarter of the room, and of the time to open it.
    pub const SMALL: Self = Self(SEGMENT_BYTES_MAX / 4);

    pub(super) const fn bytes(self) -> u64 {
        self.0
    }

    /// Bytes of the records of a block at most; any block fits into an empty segment.
    pub(super) const fn block_bytes_max(self) -> usize {
        self.0 as usize / 2
    }

    /// Bytes of one record at most; what is larger has a file of its own, or is split.
    pub const fn record_bytes_max(self) -> usize {
        self.block_bytes_max() / 8
    }
}

/// A record's place in the order of all, from 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
pub struct Lsn(pub u64);

/// What is said before the records of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// Bytes of the records.
    pub(super) length: usize,
    pub(super) first: Lsn,
    pub(super) count: u64,
    checksum: u32,
}

/// File name of the segment that begins with a record.
pub(super) fn segment_name(first: Lsn) -> String {
    format!("{:016x}.log", first.0)
}

/// The first record of the segment of that name, if it is one's.
pub(super) fn first_of(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().map(Lsn).filter(|first| segment_name(*first) == name)
}

/// The header of a segment of log `log` that begins with record `first`.
pub(super) fn segment_header(log: u64, first: Lsn) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(SEGMENT_MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&log.to_le_bytes());
    header[24..32].copy_from_slice(&first.0.to_le_bytes());
    let checksum = crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Checks a segment's header: a `Damaged` text, without the file's name, if it is not that of log
/// `log` and record `first`.
pub(super) fn check_segment_header(bytes: &[u8], log: u64, first: Lsn) -> Result<(), String> {
    let bytes = bytes.get(..HEADER_BYTES as usize).ok_or("it is cut within its header")?;
    if bytes == segment_header(log, first) {
        return Ok(());
    }
    let is_whole = crc32c(&bytes[..60]).to_le_bytes() == bytes[60..];
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    Err(match is_whole && bytes[..8] == *SEGMENT_MAGIC {
        true if version > VERSION => {
            format!("it has format {version}, and this server reads up to {VERSION}")
        }
        true => "it belongs to another log or place".to_owned(),
        false => "its header is damaged".to_owned(),
    })
}

/// Appends a block of these records, `count` of them from `first` on, that lies at `offset` of its
/// segment.
pub(super) fn put_block(
    out: &mut Vec<u8>,
    (log, offset): (u64, u64),
    (first, count): (Lsn, u64),
    records: &[u8],
) {
    let start = out.len();
    out.extend_from_slice(&BLOCK_MAGIC.to_le_bytes());
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    out.extend_from_slice(&first.0.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    let checksum = checksum(log, offset, &out[start..], records);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(records);
    out.resize(start + block_bytes(records.len()), 0);
}

/// Bytes of a block with so many bytes of records.
pub(super) fn block_bytes(length: usize) -> usize {
    (BLOCK_HEADER_BYTES + length).next_multiple_of(ALIGNMENT as usize)
}

/// The header of the block at the beginning of `bytes`, if there is one; nothing of it is checked.
pub(super) fn block_header(bytes: &[u8]) -> Option<BlockHeader> {
    // Asked of every place of a segment when it is opened: mostly this is all.
    if !bytes.starts_with(&BLOCK_MAGIC.to_le_bytes()) {
        return None;
    }
    let bytes = bytes.get(..BLOCK_HEADER_BYTES)?;
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let header = BlockHeader {
        length: u32_at(4) as usize,
        first: Lsn(u64_at(8)),
        count: u64_at(16),
        checksum: u32_at(24),
    };
    let is_possible = header.length <= SegmentSize::LARGE.block_bytes_max()
        && header.count > 0
        && u32_at(28) == 0;
    is_possible.then_some(header)
}

impl BlockHeader {
    /// The records of the block that begins `bytes`, at `offset` of its segment, if it is whole.
    pub(super) fn records<'a>(&self, bytes: &'a [u8], log: u64, offset: u64) -> Option<&'a [u8]> {
        let all = bytes.get(..block_bytes(self.length))?;
        let (records, padding) = all[BLOCK_HEADER_BYTES..].split_at(self.length);
        let is_whole = checksum(log, offset, &all[..24], records) == self.checksum
            && padding.iter().all(|byte| *byte == 0);
        is_whole.then_some(records)
    }
}

/// Splits records; Internal if their lengths do not add up, which the checksum rules out.
pub(super) fn split_records(mut records: &[u8]) -> impl Iterator<Item = Result<&[u8]>> {
    std::iter::from_fn(move || {
        if records.is_empty() {
            return None;
        }
        let (length, rest) = records.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let Some((record, rest)) = rest.split_at_checked(length) else {
            records = &[];
            return Some(Err(Error::Internal("the records of a block do not fit it".to_owned())));
        };
        records = rest;
        Some(Ok(record))
    })
}

/// Takes as many records as have `bytes_max` bytes together, at least one, and says how many.
pub(super) fn take_records<'a>(records: &mut &'a [u8], bytes_max: usize) -> (&'a [u8], u64) {
    let (mut end, mut count) = (0, 0);
    for record in split_records(records).map_while(Result::ok) {
        let next = end + 4 + record.len();
        if count > 0 && next > bytes_max {
            break;
        }
        (end, count) = (next, count + 1);
    }
    let (taken, left) = records.split_at(end);
    *records = left;
    (taken, count)
}

/// Where blocks may begin.
pub(super) fn places(from: u64, to: u64) -> impl Iterator<Item = u64> {
    (from..to).step_by(ALIGNMENT as usize)
}

fn checksum(log: u64, offset: u64, header: &[u8], records: &[u8]) -> u32 {
    let place = crc32c_append(crc32c(&log.to_le_bytes()), &offset.to_le_bytes());
    crc32c_append(crc32c_append(place, header), records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_whole_only_in_its_place_and_unchanged() {
        let mut records = Vec::new();
        for text in ["one", "", "three"] {
            records.extend_from_slice(&(text.len() as u32).to_le_bytes());
            records.extend_from_slice(text.as_bytes());
        }
        let mut bytes = Vec::new();
        put_block(&mut bytes, (7, 64), (Lsn(5), 3), &records);
        let header = block_header(&bytes).unwrap();
        assert_eq!((header.first, header.count), (Lsn(5), 3));
        let whole = header.records(&bytes, 7, 64).unwrap();
        let texts: Vec<_> = split_records(whole).map(|record| record.unwrap().to_vec()).collect();
        assert_eq!(texts, [b"one".to_vec(), vec![], b"three".to_vec()]);
        assert!(header.records(&bytes, 7, 72).is_none(), "elsewhere");
        assert!(header.records(&bytes, 8, 64).is_none(), "of another log");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let found = block_header(&changed)
                .is_some_and(|header| header.records(&changed, 7, 64).is_some());
            assert!(!found, "bit {bit}");
        }
    }

    #[test]
    fn a_segment_says_whose_and_which_it_is() {
        let header = segment_header(7, Lsn(41));
        assert_eq!(first_of(&segment_name(Lsn(41))), Some(Lsn(41)));
        assert_eq!([first_of("41.log"), first_of("000000000000002A.log")], [None, None]);
        assert_eq!(check_segment_header(&header, 7, Lsn(41)), Ok(()));
        let other = check_segment_header(&header, 7, Lsn(42)).unwrap_err();
        assert_eq!(other, "it belongs to another log or place");
        let mut newer = header;
        newer[8] = 9;
        let sum = crc32c(&newer[..60]);
        newer[60..].copy_from_slice(&sum.to_le_bytes());
        let error = check_segment_header(&newer, 7, Lsn(41)).unwrap_err();
        assert_eq!(error, "it has format 9, and this server reads up to 1");
    }
}
