//! The bytes of a pack: a file of chunks, each under a checksum that covers which chunk it is, in
//! which file and where.
//!
//! ```text
//! header   magic │ version │ cluster │ job │ number │ CRC32C                             64 bytes
//! frame    magic │ zeros │ chunk │ length │ CRC32C of bytes │ CRC32C │ bytes │ zeros up to 8
//! ```
//! Where a frame is broken the next whole one is looked for, at any multiple of eight: what is damaged
//! costs the chunks it hits and no other. All numbers are little endian.

use crc32c::{crc32c, crc32c_append};

/// Bytes of a pack's header.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes before a chunk's.
pub(super) const FRAME_HEADER_BYTES: usize = 32;
/// What a frame begins at a multiple of.
pub(super) const ALIGNMENT: u64 = 8;
/// Version of this format.
const VERSION: u16 = 1;

const PACK_MAGIC: &[u8; 8] = b"TWPACK\r\n";
const FRAME_MAGIC: u32 = 0x4B4E_4843;

/// Which pack it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackId {
    pub(super) cluster: u64,
    pub(super) job: u64,
    pub(super) number: u64,
}

/// What a frame says of its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) chunk: u64,
    pub(super) length: u64,
    checksum: u32,
}

/// File name of a pack.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.pack")
}

/// The number of the pack of that name, if it is one's.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".pack").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|number| file_name(*number) == name)
}

impl PackId {
    pub(super) fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(PACK_MAGIC);
        header[8..10].copy_from_slice(&VERSION.to_le_bytes());
        let numbers = [self.cluster, self.job, self.number];
        for (place, number) in header[16..40].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32c(&header[..60]);
        header[60..].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// Why these bytes are not this pack's header.
    pub(super) fn check(&self, bytes: &[u8; HEADER_BYTES]) -> Result<(), String> {
        if *bytes == self.header() {
            return Ok(());
        }
        let is_whole = crc32c(&bytes[..60]).to_le_bytes() == bytes[60..];
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        Err(match is_whole && bytes[..8] == *PACK_MAGIC {
            true if version > VERSION => {
                format!("it has format {version}, and this server reads up to {VERSION}")
            }
            true => "it belongs to another cluster, job or place".to_owned(),
            false => "its header is damaged".to_owned(),
        })
    }

    /// What checksums at `offset` begin with.
    fn at(&self, offset: u64) -> u32 {
        // Not over the checksum within the header: with it, all headers come to the same.
        crc32c_append(crc32c(&self.header()[..60]), &offset.to_le_bytes())
    }

    /// Appends the frame of a chunk that lies at `offset`.
    pub(super) fn put(&self, out: &mut Vec<u8>, offset: u64, chunk: u64, bytes: &[u8]) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        out.extend_from_slice(bytes);
        out.resize(start + frame_bytes(bytes.len() as u64) as usize, 0);
        let (header, padded) = out[start..].split_at_mut(FRAME_HEADER_BYTES);
        header[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        header[8..16].copy_from_slice(&chunk.to_le_bytes());
        header[16..24].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        let checksum = crc32c_append(self.at(offset), padded);
        header[24..28].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32c_append(self.at(offset), &header[..28]);
        header[28..].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The frame whose header these bytes are, if they are one's at `offset`.
    pub(super) fn frame(&self, offset: u64, header: &[u8; FRAME_HEADER_BYTES]) -> Option<Frame> {
        let u32_at =
            |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let u64_at =
            |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let is_whole =
            u32_at(0) == FRAME_MAGIC && crc32c_append(self.at(offset), &header[..28]) == u32_at(28);
        is_whole.then(|| Frame { chunk: u64_at(8), length: u64_at(16), checksum: u32_at(24) })
    }

    /// Whether these are the bytes of a frame's chunk, with the zeros after them.
    pub(super) fn is_whole(&self, offset: u64, frame: &Frame, padded: &[u8]) -> bool {
        crc32c_append(self.at(offset), padded) == frame.checksum
    }
}

/// Bytes of the frame of a chunk of so many.
pub(super) fn frame_bytes(length: u64) -> u64 {
    FRAME_HEADER_BYTES as u64 + length.next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PackId = PackId { cluster: 1, job: 2, number: 3 };
    const OTHERS: [PackId; 3] =
        [PackId { cluster: 7, ..ID }, PackId { job: 7, ..ID }, PackId { number: 7, ..ID }];

    #[test]
    fn a_pack_says_whose_and_which_it_is() {
        assert_eq!(number_of(&file_name(0x2A)), Some(0x2A));
        assert_eq!([number_of("2a.pack"), number_of("000000000000002A.pack")], [None, None]);
        assert_eq!(ID.check(&ID.header()), Ok(()));
        for other in OTHERS {
            let why = ID.check(&other.header()).unwrap_err();
            assert_eq!(why, "it belongs to another cluster, job or place");
        }
        for bit in 0..HEADER_BYTES * 8 {
            let mut changed = ID.header();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ID.check(&changed).unwrap_err(), "its header is damaged");
        }
        let mut newer = ID.header();
        newer[8] = 9;
        let sum = crc32c(&newer[..60]);
        newer[60..].copy_from_slice(&sum.to_le_bytes());
        let why = ID.check(&newer).unwrap_err();
        assert_eq!(why, "it has format 9, and this server reads up to 1");
    }

    #[test]
    fn a_chunk_is_whole_only_in_its_pack_at_its_place_and_unchanged() {
        let mut bytes = Vec::new();
        ID.put(&mut bytes, 64, 41, b"some state");
        assert_eq!(bytes.len() as u64, frame_bytes(10));
        let read = |id: &PackId, offset: u64, bytes: &[u8]| {
            let (header, padded) = bytes.split_first_chunk().unwrap();
            let frame = id.frame(offset, header)?;
            id.is_whole(offset, &frame, padded).then_some((frame.chunk, frame.length))
        };
        assert_eq!(read(&ID, 64, &bytes), Some((41, 10)));
        assert_eq!(read(&ID, 72, &bytes), None, "elsewhere");
        assert!(OTHERS.iter().all(|other| read(other, 64, &bytes).is_none()), "in another pack");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&ID, 64, &changed), None, "bit {bit}");
        }
    }
}
