//! The metadata of a Parquet file is in Thrift's compact protocol. Here it is walked once before the
//! library reads it, because the library believes counts and nesting that a hostile file may state:
//! it would ask for memory that nobody has, and the member would be gone.
//!
//! A structure is a row of fields; a field says how far its number is from the last, and its kind:
//!
//! ```text
//!   15 04 │ 19 4c … │ 16 c8 01 │ 00        field 1: i32 2 · field 2: list of 4 structures ·
//!   ┬─ ┬─             ┬─ ┬────   ┬         field 3: i64 100 · end
//!   │  zigzag varint  │  └ varint of 7-bit groups
//!   └ distance 1, kind 5             kind 5 = i32, 6 = i64, 8 = bytes, 9 = list, 12 = structure
//! ```
//! Every field that the library knows must be of the kind it takes it for ([`Shape`]), every count
//! must fit into the bytes that are left, and nesting ends at a bound. What passes is then read by
//! the library to the same effect, within memory in proportion to the bytes.

use super::shape::Shape;

/// Nesting of structures in fields the library does not know; it skips as deep itself.
const DEPTH_MAX: usize = 32;
/// Nesting of the columns of a file. The library descends by recursion.
const SCHEMA_DEPTH_MAX: usize = 64;
/// Nodes of the tree of columns.
const SCHEMA_NODES_MAX: usize = 100_000;
/// Row groups of a file; the library counts them with 16 bits.
const ROW_GROUPS_MAX: usize = i16::MAX as usize;

/// Why metadata is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// The bytes end before the structure does.
    Short,
    /// Anything else, in words.
    Wrong(String),
}

fn wrong<T>(reason: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw::Wrong(reason.into()))
}

const BOOLS: [u8; 2] = [1, 2];
const I8: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LISTS: [u8; 2] = [9, 10];
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// A walk through bytes.
#[derive(Debug)]
pub struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Children of each node of the tree of columns, in the order of the file.
    children: Vec<i64>,
    /// The largest size that a page states for itself uncompressed.
    page_bytes: i64,
}

/// Checks the metadata of a file.
pub fn check_footer(bytes: &[u8], shape: &'static Shape) -> Result<(), Flaw> {
    let mut walk = Walk { bytes, at: 0, children: Vec::new(), page_bytes: 0 };
    walk.value(STRUCT, shape, 0)?;
    check_tree(&walk.children)
}

/// Checks the header of a page at the beginning of `bytes`: its length, and the bytes that the page
/// says it has uncompressed.
pub fn check_page_header(bytes: &[u8], shape: &'static Shape) -> Result<(usize, i64), Flaw> {
    let mut walk = Walk { bytes, at: 0, children: Vec::new(), page_bytes: 0 };
    walk.value(STRUCT, shape, 0)?;
    Ok((walk.at, walk.page_bytes))
}

/// The tree of columns is written node by node, parents first.
fn check_tree(children: &[i64]) -> Result<(), Flaw> {
    // How many children are still to come, of each node from the root down.
    let mut open: Vec<i64> = Vec::new();
    for (node, count) in children.iter().enumerate() {
        if node > 0 {
            while open.last() == Some(&0) {
                open.pop();
            }
            match open.last_mut() {
                Some(left) => *left -= 1,
                None => return wrong("its tree of columns has several roots"),
            }
        }
        if *count < 0 || *count > children.len() as i64 {
            return wrong(format!("a column says that it has {count} children"));
        }
        open.push(*count);
        if open.len() > SCHEMA_DEPTH_MAX {
            return wrong(format!("its columns are nested deeper than {SCHEMA_DEPTH_MAX}"));
        }
    }
    if open.iter().any(|left| *left > 0) {
        return wrong("its tree of columns is not complete");
    }
    Ok(())
}

impl Walk<'_> {
    fn byte(&mut self) -> Result<u8, Flaw> {
        let byte = *self.bytes.get(self.at).ok_or(Flaw::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: u64) -> Result<(), Flaw> {
        let left = (self.bytes.len() - self.at) as u64;
        if count > left {
            return Err(Flaw::Short);
        }
        self.at += count as usize;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Flaw> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        wrong("a number in its metadata is too long")
    }

    fn integer(&mut self, range: std::ops::RangeInclusive<i64>) -> Result<i64, Flaw> {
        let raw = self.varint()?;
        let value = (raw >> 1) as i64 ^ -((raw & 1) as i64);
        match range.contains(&value) {
            true => Ok(value),
            false => wrong(format!("number {value} in its metadata is out of range")),
        }
    }

    fn fields(&mut self, fields: &'static [(i16, Shape)], depth: usize) -> Result<(), Flaw> {
        let mut last = 0_i16;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if head == 0 {
                return Ok(());
            }
            let number = match head >> 4 {
                0 => self.integer(0..=i64::from(i16::MAX))? as i16,
                distance => match last.checked_add(i16::from(distance)) {
                    Some(number) => number,
                    None => return wrong("a field of its metadata has no number"),
                },
            };
            last = number;
            let known = fields.iter().find(|(known, _)| *known == number);
            self.value(kind, known.map_or(&Shape::Any, |(_, shape)| shape), depth + 1)?;
        }
    }

    /// The elements of a list: their kind and number.
    fn list(&mut self) -> Result<(u8, u64), Flaw> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        // Each takes a byte or more.
        if count > (self.bytes.len() - self.at) as u64 {
            return Err(Flaw::Short);
        }
        Ok((head & 0x0f, count))
    }

    fn value(&mut self, kind: u8, shape: &'static Shape, depth: usize) -> Result<(), Flaw> {
        if depth > DEPTH_MAX {
            return wrong("its metadata is nested too deep");
        }
        const I32_RANGE: std::ops::RangeInclusive<i64> = i32::MIN as i64..=i32::MAX as i64;
        match (shape, kind) {
            (Shape::Bool, _) if BOOLS.contains(&kind) => Ok(()),
            (Shape::I8, I8) => self.skip(1),
            (Shape::I16, I16) => self.integer(i64::from(i16::MIN)..=i64::from(i16::MAX)).map(drop),
            (Shape::I32, I32) => self.integer(I32_RANGE).map(drop),
            (Shape::I64, I64) => self.integer(i64::MIN..=i64::MAX).map(drop),
            (Shape::Double, DOUBLE) => self.skip(8),
            (Shape::Binary, BINARY) => self.varint().and_then(|length| self.skip(length)),
            (Shape::ChildCount, I32) => {
                let count = self.integer(I32_RANGE)?;
                self.children.last_mut().into_iter().for_each(|last| *last = count);
                Ok(())
            }
            (Shape::PageBytes, I32) => {
                let bytes = self.integer(0..=i64::from(i32::MAX))?;
                self.page_bytes = self.page_bytes.max(bytes);
                Ok(())
            }
            (Shape::Node(fields), STRUCT) => {
                if self.children.len() == SCHEMA_NODES_MAX {
                    return wrong(format!("it has more than {SCHEMA_NODES_MAX} columns"));
                }
                self.children.push(0);
                self.fields(fields, depth)
            }
            (Shape::Struct(fields), STRUCT) => self.fields(fields, depth),
            (Shape::List(_) | Shape::RowGroups(_), _) if LISTS.contains(&kind) => {
                let (element, count) = self.list()?;
                let shape = match shape {
                    Shape::List(shape) => *shape,
                    Shape::RowGroups(_) if count > ROW_GROUPS_MAX as u64 => {
                        return wrong(format!("it has more than {ROW_GROUPS_MAX} row groups"));
                    }
                    Shape::RowGroups(shape) => *shape,
                    _ => &Shape::Any,
                };
                (0..count).try_for_each(|_| self.element(element, shape, depth + 1))
            }
            (Shape::Any, _) => self.any(kind, depth),
            _ => wrong(format!("a field of its metadata has kind {kind}")),
        }
    }

    fn element(&mut self, kind: u8, shape: &'static Shape, depth: usize) -> Result<(), Flaw> {
        match BOOLS.contains(&kind) {
            // In a list a truth value takes a byte, which is its kind elsewhere.
            true if matches!(shape, Shape::Bool | Shape::Any) => self.skip(1),
            _ => self.value(kind, shape, depth),
        }
    }

    /// A field that is not known, which the library skips.
    fn any(&mut self, kind: u8, depth: usize) -> Result<(), Flaw> {
        match kind {
            _ if BOOLS.contains(&kind) => Ok(()),
            I8 => self.skip(1),
            I16 | I32 | I64 => self.varint().map(drop),
            DOUBLE => self.skip(8),
            BINARY => self.varint().and_then(|length| self.skip(length)),
            _ if LISTS.contains(&kind) => {
                let (element, count) = self.list()?;
                (0..count).try_for_each(|_| self.element(element, &Shape::Any, depth + 1))
            }
            MAP => {
                let count = self.varint()?;
                if count > (self.bytes.len() - self.at) as u64 {
                    return Err(Flaw::Short);
                }
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.element(kinds >> 4, &Shape::Any, depth + 1)?;
                    self.element(kinds & 0x0f, &Shape::Any, depth + 1)
                })
            }
            STRUCT => self.fields(&[], depth),
            _ => wrong(format!("its metadata has a field of unknown kind {kind}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::shape::PAGE_HEADER, *};

    /// A tree of columns whose nodes say so many children.
    fn tree(children: &[i64]) -> Result<(), Flaw> {
        check_tree(children)
    }

    #[test]
    fn a_tree_of_columns_must_be_whole_and_flat_enough() {
        assert_eq!(tree(&[2, 0, 1, 0]), Ok(()));
        assert_eq!(tree(&[0]), Ok(()));
        for bad in [&[2, 0][..], &[1, 0, 0], &[-1], &[3, 0, 0], &[i64::from(i32::MAX)]] {
            assert!(tree(bad).is_err(), "{bad:?}");
        }
        let mut deep = vec![1; SCHEMA_DEPTH_MAX + 1];
        deep.push(0);
        assert!(tree(&deep).is_err());
    }

    #[test]
    fn a_page_header_tells_its_length_and_the_largest_size_it_states() {
        // type 0, 300 bytes uncompressed, 20 compressed.
        let header = [0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x28, 0x00, 0xff];
        assert_eq!(check_page_header(&header, &PAGE_HEADER), Ok((8, 300)));
        assert_eq!(check_page_header(&header[..5], &PAGE_HEADER), Err(Flaw::Short));
        // The size a second time, by its number: the library would take the last.
        let twice = [0x15, 0x00, 0x15, 0x02, 0x05, 0x04, 0xd8, 0x04, 0x00];
        assert_eq!(check_page_header(&twice, &PAGE_HEADER), Ok((9, 300)));
    }

    #[test]
    fn fields_of_another_kind_and_long_counts_are_refused() {
        // The size as bytes.
        let other = [0x15, 0x00, 0x18, 0x01, 0x00, 0x00];
        assert!(matches!(check_page_header(&other, &PAGE_HEADER), Err(Flaw::Wrong(_))));
        // An unknown list of 2^32 elements.
        let long = [0x99, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
        assert!(check_page_header(&long, &PAGE_HEADER).is_err());
        let nested = vec![0x9c; 1000];
        assert!(matches!(check_page_header(&nested, &PAGE_HEADER), Err(Flaw::Wrong(_))));
    }
}
