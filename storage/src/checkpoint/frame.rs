//! The bytes of a file of rows: its header, the frames and the end, and what each of them is checked
//! against.
//!
//! ```text
//! header   magic │ version │ partitions │ cluster │ table │ number │ LSN │ columns │ CRC32C    64 bytes
//! frame    magic │ partition │ rows │ … │ length │ CRC32C of payload │ CRC32C     48 bytes │ payload
//! end      as a frame of no payload, with the sums of all frames
//! ```
//! The checksum of a frame begins with the bytes of the file's header and the frame's offset, so a
//! frame that is whole but belongs elsewhere is damaged too. All numbers are little endian.

use crc32c::{crc32c, crc32c_append};

use crate::partition::PartitionId;

/// Bytes of a file's header.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes of a frame's header.
pub(super) const FRAME_HEADER_BYTES: usize = 48;
/// Version of this format.
const VERSION: u16 = 1;

const FILE_MAGIC: &[u8; 8] = b"TWROWS\r\n";
const FRAME_MAGIC: u32 = 0x4D52_4654;
const END_MAGIC: u32 = 0x444E_4554;

/// Which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) partition_count: u16,
    pub(super) cluster: u64,
    pub(super) table: u64,
    pub(super) number: u64,
    pub(super) lsn: u64,
    /// Of the table's columns.
    pub(super) fingerprint: u64,
}

/// What a frame says of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) partition: PartitionId,
    /// Rows of this frame, and of all frames of the partition.
    pub(super) rows: u32,
    pub(super) partition_rows: u64,
    /// Bytes of the payload, and those at its beginning that describe it.
    pub(super) length: u64,
    pub(super) message: u32,
}

/// What a file ends with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct End {
    pub(super) frames: u64,
    pub(super) rows: u64,
}

/// What begins at some place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A frame, with the checksum of its payload.
    Frame(FrameHeader, u32),
    End(End),
}

/// Name of a file of rows.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.rows")
}

/// The number of the file of that name, if it is one of rows.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".rows").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|number| file_name(*number) == name)
}

impl FileHeader {
    pub(super) fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(FILE_MAGIC);
        header[8..10].copy_from_slice(&VERSION.to_le_bytes());
        header[10..12].copy_from_slice(&self.partition_count.to_le_bytes());
        let numbers = [self.cluster, self.table, self.number, self.lsn, self.fingerprint];
        for (place, number) in header[16..56].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32c(&header[..60]);
        header[60..].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// Why these bytes are not this header.
    pub(super) fn check(&self, bytes: &[u8; HEADER_BYTES]) -> Result<(), String> {
        if *bytes == self.bytes() {
            return Ok(());
        }
        let is_whole = crc32c(&bytes[..60]).to_le_bytes() == bytes[60..];
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        Err(match is_whole && bytes[..8] == *FILE_MAGIC {
            true if version > VERSION => {
                format!("it has format {version}, and this server reads up to {VERSION}")
            }
            true => "it belongs to another cluster, table or checkpoint".to_owned(),
            false => "its header is damaged".to_owned(),
        })
    }
}

/// What the checksums of a file's frames begin with, and what follows from it for one place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity(u32);

impl Identity {
    pub(super) fn of(header: &FileHeader) -> Self {
        // Not over the checksum within the header: with it, all headers come to the same.
        Self(crc32c(&header.bytes()[..60]))
    }

    fn at(self, offset: u64) -> u32 {
        crc32c_append(self.0, &offset.to_le_bytes())
    }

    /// The checksum of a payload whose frame begins at `offset`.
    pub(super) fn payload(self, offset: u64, payload: &[u8]) -> u32 {
        crc32c_append(self.at(offset), payload)
    }
}

impl Part {
    /// The bytes of a frame's header, or of the end, at `offset`.
    pub(super) fn bytes(&self, identity: Identity, offset: u64) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        match self {
            Part::Frame(frame, checksum) => {
                put(0, &FRAME_MAGIC.to_le_bytes());
                put(4, &frame.partition.0.to_le_bytes());
                put(8, &frame.rows.to_le_bytes());
                put(12, &frame.message.to_le_bytes());
                put(16, &frame.partition_rows.to_le_bytes());
                put(24, &frame.length.to_le_bytes());
                put(32, &checksum.to_le_bytes());
            }
            Part::End(end) => {
                put(0, &END_MAGIC.to_le_bytes());
                put(16, &end.rows.to_le_bytes());
                put(24, &end.frames.to_le_bytes());
            }
        }
        let checksum = crc32c_append(identity.at(offset), &bytes[..44]);
        bytes[44..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// What begins at `offset`, if its header is whole.
    pub(super) fn read(
        bytes: &[u8; FRAME_HEADER_BYTES],
        identity: Identity,
        offset: u64,
    ) -> Option<Self> {
        let u32_at =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if crc32c_append(identity.at(offset), &bytes[..44]) != u32_at(44) {
            return None;
        }
        match u32_at(0) {
            FRAME_MAGIC => {
                let frame = FrameHeader {
                    partition: PartitionId(u16::from_le_bytes([bytes[4], bytes[5]])),
                    rows: u32_at(8),
                    message: u32_at(12),
                    partition_rows: u64_at(16),
                    length: u64_at(24),
                };
                Some(Part::Frame(frame, u32_at(32)))
            }
            END_MAGIC => Some(Part::End(End { rows: u64_at(16), frames: u64_at(24) })),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FileHeader = FileHeader {
        partition_count: 271,
        cluster: 1,
        table: 2,
        number: 3,
        lsn: 4,
        fingerprint: 5,
    };

    #[test]
    fn a_file_says_whose_and_which_it_is() {
        assert_eq!(number_of(&file_name(0x2A)), Some(0x2A));
        assert_eq!([number_of("2a.rows"), number_of("000000000000002A.rows")], [None, None]);
        assert_eq!(HEADER.check(&HEADER.bytes()), Ok(()));
        let others = [
            FileHeader { partition_count: 7, ..HEADER },
            FileHeader { cluster: 7, ..HEADER },
            FileHeader { table: 7, ..HEADER },
            FileHeader { number: 7, ..HEADER },
            FileHeader { lsn: 7, ..HEADER },
            FileHeader { fingerprint: 7, ..HEADER },
        ];
        for other in others {
            let why = HEADER.check(&other.bytes()).unwrap_err();
            assert_eq!(why, "it belongs to another cluster, table or checkpoint");
        }
        let mut newer = HEADER.bytes();
        newer[8] = 9;
        let sum = crc32c(&newer[..60]);
        newer[60..].copy_from_slice(&sum.to_le_bytes());
        let why = HEADER.check(&newer).unwrap_err();
        assert_eq!(why, "it has format 9, and this server reads up to 1");
    }

    #[test]
    fn a_frame_is_whole_only_in_its_file_at_its_place_and_unchanged() {
        let identity = Identity::of(&HEADER);
        let other = Identity::of(&FileHeader { number: 9, ..HEADER });
        let frame = FrameHeader {
            partition: PartitionId(7),
            rows: 3,
            partition_rows: 30,
            length: 5,
            message: 2,
        };
        for part in [Part::Frame(frame, 77), Part::End(End { frames: 8, rows: 9 })] {
            let bytes = part.bytes(identity, 64);
            assert_eq!(Part::read(&bytes, identity, 64), Some(part));
            assert_eq!(Part::read(&bytes, identity, 72), None, "elsewhere");
            assert_eq!(Part::read(&bytes, other, 64), None, "of another file");
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes;
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Part::read(&changed, identity, 64), None, "bit {bit}");
            }
        }
        assert_ne!(identity.payload(64, b"rows"), identity.payload(72, b"rows"));
        assert_ne!(identity.payload(64, b"rows"), other.payload(64, b"rows"));
    }
}
