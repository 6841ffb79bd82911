//! The numbers that say how long the texts of a page are, where they are packed as differences
//! (DELTA_BINARY_PACKED). The library unpacks them into as much memory as they ask for; so they are
//! added up first.
//!
//! ```text
//!   header: values per block, miniblocks per block, number of values, first value
//!   block:  least difference, a bit width for each miniblock, the miniblocks
//! ```

/// Numbers of one page at most.
const COUNT_MAX: u64 = 16 << 20;

/// What the numbers come to.
#[derive(Debug, PartialEq, Eq)]
pub struct Lengths {
    /// How many there are.
    pub count: u64,
    /// Their sum; none is negative.
    pub sum: u64,
    /// Bytes they took.
    pub end: usize,
}

/// Adds up the numbers at the beginning of `bytes`; `None` if they are not such numbers.
pub fn lengths(bytes: &[u8]) -> Option<Lengths> {
    let mut at = 0;
    let per_block = varint(bytes, &mut at)?;
    let blocks = varint(bytes, &mut at)?;
    let count = varint(bytes, &mut at)?;
    let mut value = zigzag(bytes, &mut at)?;
    if blocks == 0 || count > COUNT_MAX || per_block > COUNT_MAX {
        return None;
    }
    let per_miniblock = per_block / blocks;
    if per_miniblock == 0 || per_miniblock % 8 != 0 {
        return None;
    }
    let mut sum = 0_u64;
    let mut left = count;
    if left > 0 {
        sum = u64::try_from(value).ok()?;
        left -= 1;
    }
    while left > 0 {
        let least = zigzag(bytes, &mut at)?;
        let widths = bytes.get(at..at.checked_add(usize::try_from(blocks).ok()?)?)?;
        at += widths.len();
        for width in widths {
            if left == 0 {
                // Miniblocks behind the last number are not written.
                break;
            }
            let size = usize::from(*width).checked_mul(per_miniblock as usize)? / 8;
            // The last may be cut where the numbers end.
            let packed = &bytes[at.min(bytes.len())..at.checked_add(size)?.min(bytes.len())];
            at += size;
            for n in 0..left.min(per_miniblock) {
                let difference = unpack(packed, n as usize, *width)?;
                value = value.wrapping_add(least).wrapping_add(difference as i64);
                // The numbers are of 32 bits, and so wrap.
                value = i64::from(value as i32);
                sum += u64::try_from(value).ok()?;
            }
            left -= left.min(per_miniblock);
        }
    }
    Some(Lengths { count, sum, end: at.min(bytes.len()) })
}

/// Number `n` of a row of numbers of so many bits, least bit first.
fn unpack(packed: &[u8], n: usize, width: u8) -> Option<u64> {
    if width == 0 {
        return Some(0);
    }
    if width > 32 {
        return None;
    }
    let bit = n * usize::from(width);
    let bytes = packed.get(bit / 8..(bit + usize::from(width)).div_ceil(8))?;
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    Some((u64::from_le_bytes(word) >> (bit % 8)) & (u64::MAX >> (64 - width)))
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let raw = varint(bytes, at)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_packed_as_differences_are_added_up() {
        // 1, 2, 3, 4, 5: of the specification; all differences are 1, so no bits are written.
        let same = [0x80, 0x01, 0x04, 0x05, 0x02, 0x02, 0, 0, 0, 0];
        assert_eq!(lengths(&same), Some(Lengths { count: 5, sum: 15, end: 10 }));
        // 7, 5, 3, 1, 2, 3, 4, 5: differences -2 and 1, the least is -2, so 0 and 3 in two bits.
        let mut mixed = vec![0x80, 0x01, 0x04, 0x08, 0x0e, 0x03, 2, 0, 0, 0];
        mixed.extend([0b1100_0000, 0b0011_1111, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lengths(&mixed), Some(Lengths { count: 8, sum: 30, end: 18 }));
    }

    #[test]
    fn what_is_too_much_or_too_short_is_refused() {
        for bad in [&[][..], &[0x80, 0x01, 0x00, 0x05, 0x02], &[0x80, 0x01, 0x04, 0x05, 0x02]] {
            assert_eq!(lengths(bad), None, "{bad:?}");
        }
        let many = [0x80, 0x01, 0x04, 0xff, 0xff, 0xff, 0xff, 0x07, 0x02, 0x02, 0, 0, 0, 0];
        assert_eq!(lengths(&many), None);
        let negative = [0x80, 0x01, 0x04, 0x05, 0x01, 0x00, 0, 0, 0, 0];
        assert_eq!(lengths(&negative), None);
    }
}
