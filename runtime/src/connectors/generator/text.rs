//! Random texts for generated columns: appended to one byte buffer, never a `String` a row.

use super::random::Sequence;

/// The shortest random word.
const WORD_LEN_MIN: u64 = 3;

/// Appends `length` random letters, eight for each draw.
///
/// A byte b becomes the letter b · 26 / 256. Every other byte is multiplied in a 16-bit lane of
/// its own, four at once.
pub fn letters(random: &mut Sequence, length: usize, out: &mut Vec<u8>) {
    const LANES: u64 = 0x00FF_00FF_00FF_00FF;
    const FIRST_LETTERS: u64 = 0x0101_0101_0101_0101 * b'a' as u64;
    let end = out.len() + length;
    while out.len() < end {
        let bits = random.draw();
        let even = (((bits & LANES) * 26) >> 8) & LANES;
        let odd = (((bits >> 8) & LANES) * 26) & !LANES;
        out.extend_from_slice(&((even | odd) + FIRST_LETTERS).to_le_bytes());
    }
    out.truncate(end);
}

/// Length of the random word that begins at `random`: 3 up to below `limit`.
pub fn word_len(random: &mut Sequence, limit: u64) -> usize {
    (WORD_LEN_MIN + random.below(limit - WORD_LEN_MIN)) as usize
}

/// Appends a random text of `length` letters in which some inner ones are `gap`.
pub fn spaced(random: &mut Sequence, length: usize, gap: u8, out: &mut Vec<u8>) {
    let start = out.len();
    letters(random, length, out);
    for position in (start + 1..out.len().saturating_sub(1)).step_by(8) {
        let bits = random.draw();
        // One of the eight letters becomes a gap, three times out of four.
        let at = position + (bits & 7) as usize;
        if bits >> 62 != 0 && at + 1 < out.len() {
            out[at] = gap;
        }
    }
}

/// Appends a number in decimal digits, padded with zeros to `width`.
pub fn digits(mut number: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = [b'0'; 20];
    let mut start = buffer.len();
    while number > 0 || buffer.len() - start < width.max(1) {
        start -= 1;
        buffer[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&buffer[start..]);
}

/// The random part of a filler that brings a row of `size` bytes to `average` ± 20 %; 0 if it is
/// already as long.
pub fn filler_len(random: &mut Sequence, size: usize, average: usize) -> usize {
    if size > average {
        return 0;
    }
    let wanted = average - size;
    let delta = (wanted + 2) / 5;
    let spread = if delta == 0 { 0 } else { random.below(2 * delta as u64) as usize };
    wanted - delta + spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_padded() {
        let mut out = Vec::new();
        digits(0, 1, &mut out);
        digits(42, 4, &mut out);
        digits(u64::MAX, 1, &mut out);
        assert_eq!(out, b"0004218446744073709551615");
    }

    #[test]
    fn letters_are_all_of_the_alphabet_and_nothing_else() {
        let mut out = Vec::new();
        letters(&mut Sequence::new(1), 9_999, &mut out);
        assert_eq!(out.len(), 9_999);
        for letter in b'a'..=b'z' {
            let count = out.iter().filter(|byte| **byte == letter).count();
            assert!((300..480).contains(&count), "{} times {}", count, char::from(letter));
        }
        assert!(out.iter().all(u8::is_ascii_lowercase));
    }

    #[test]
    fn spaced_texts_neither_begin_nor_end_with_a_gap() {
        for seed in 0..500 {
            let mut out = Vec::new();
            spaced(&mut Sequence::new(seed), 3 + seed as usize % 40, b' ', &mut out);
            assert_eq!(out.len(), 3 + seed as usize % 40);
            assert!(out[0] != b' ' && out[out.len() - 1] != b' ');
        }
    }
}
