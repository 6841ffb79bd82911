//! The seal of a small file: what it is, in which version, whose, and that every byte is as it was
//! written.
//!
//! ```text
//! magic │ version │ zeros │ owner, 2 × u64 │ length │ CRC32C of payload │ CRC32C of header │ payload
//!   8       2         6          16            8            4                   4
//! ```
//! The header keeps this layout in every version, so that a file of a newer format is refused with
//! its version and never taken for a damaged one. All numbers are little endian.

use crc32c::crc32c;

/// Bytes before the payload.
const HEADER_BYTES: usize = 48;

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// What kind of file it is.
    pub magic: [u8; 8],
    /// Version of the payload's format: the one that is written, and the newest that is read.
    pub version: u16,
    /// Whose it is and which: a cluster's id and a table's, say. A file of another owner is refused.
    pub owner: [u64; 2],
}

/// Why a file is not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was written by a newer server.
    #[error("it has format {found}, and this server reads up to {newest}")]
    Newer {
        /// Its version.
        found: u16,
        /// The newest one that can be read.
        newest: u16,
    },
    /// It is whole, and another's.
    #[error("it belongs to another cluster or place")]
    Foreign,
    /// It is not as it was written.
    #[error("{0}")]
    Damaged(&'static str),
}

/// The bytes of a file.
pub fn seal(seal: &Seal, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&seal.magic);
    bytes.extend_from_slice(&seal.version.to_le_bytes());
    bytes.extend_from_slice(&[0; 6]);
    seal.owner.iter().for_each(|part| bytes.extend_from_slice(&part.to_le_bytes()));
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32c(payload).to_le_bytes());
    let checksum = crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The version and the payload of a file, if it is whole and what `seal` says.
pub fn unseal<'a>(seal: &Seal, bytes: &'a [u8]) -> Result<(u16, &'a [u8]), SealError> {
    let cut = SealError::Damaged("it is cut within its header");
    let (header, payload) = bytes.split_at_checked(HEADER_BYTES).ok_or(cut)?;
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let u64_at =
        |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    if crc32c(&header[..44]) != u32_at(44) || header[..8] != seal.magic {
        return Err(SealError::Damaged("its header is damaged"));
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version > seal.version {
        return Err(SealError::Newer { found: version, newest: seal.version });
    }
    if [u64_at(16), u64_at(24)] != seal.owner {
        return Err(SealError::Foreign);
    }
    if payload.len() as u64 != u64_at(32) {
        return Err(SealError::Damaged("it has another length than it was written with"));
    }
    if crc32c(payload) != u32_at(40) {
        return Err(SealError::Damaged("its contents are damaged"));
    }
    Ok((version, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal { magic: *b"TWTESTED", version: 2, owner: [7, 8] };

    #[test]
    fn what_was_sealed_is_there_and_no_bit_of_it_may_change() {
        for payload in [&b""[..], b"some text"] {
            let bytes = seal(&SEAL, payload);
            assert_eq!(unseal(&SEAL, &bytes), Ok((2, payload)));
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let damaged = unseal(&SEAL, &changed);
                assert!(matches!(damaged, Err(SealError::Damaged(_))), "bit {bit}");
            }
            for size in 0..bytes.len() {
                assert!(matches!(unseal(&SEAL, &bytes[..size]), Err(SealError::Damaged(_))));
            }
        }
    }

    #[test]
    fn a_newer_one_is_named_an_older_one_is_read_and_anothers_is_refused() {
        let newer = unseal(&SEAL, &seal(&Seal { version: 9, ..SEAL }, b"")).unwrap_err();
        assert_eq!(newer.to_string(), "it has format 9, and this server reads up to 2");
        let older = seal(&Seal { version: 1, ..SEAL }, b"text");
        assert_eq!(unseal(&SEAL, &older), Ok((1, &b"text"[..])));
        let foreign = seal(&Seal { owner: [7, 9], ..SEAL }, b"");
        assert_eq!(unseal(&SEAL, &foreign), Err(SealError::Foreign));
    }
}
