//! The pages of one row group as the library takes them, each checked between the file and the
//! decoder: a page must not make the decoder ask for more memory than its own bytes come to.
//!
//! | page | the decoder would | checked here |
//! | --- | --- | --- |
//! | any | keep it while its rows are read | all of one batch come to [`BATCH_BYTES_MAX`] at most |
//! | gzip | unpack whatever is in it | unpacked here, to [`PAGE_BYTES_MAX`] at most |
//! | dictionary | make room for as many values as it says | it has bytes for them |
//! | texts by length | make room for as many lengths as it says | the lengths add up to its bytes |
//! | texts by what differs | write out every text | they add up to [`PAGE_BYTES_MAX`] at most |

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::{
    arrow::arrow_reader::RowGroups,
    basic::{Compression, Encoding, Type},
    column::page::{Page, PageIterator, PageMetadata, PageReader},
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::{ParquetMetaData, RowGroupMetaData},
        reader::SerializedPageReader,
    },
};

use super::{
    bytes::{FileBytes, PAGE_BYTES_MAX},
    delta,
};

/// Bytes of the pages that are opened for one batch of rows, uncompressed. A batch is some thousand
/// rows of the columns that are read, so a page or two of each.
const BATCH_BYTES_MAX: u64 = 1 << 30;

/// The pages of some columns of one row group.
#[derive(Debug)]
pub struct RowGroupPages {
    bytes: Arc<FileBytes>,
    metadata: Arc<ParquetMetaData>,
    row_group: usize,
    /// Which column of the file each column that is read is.
    leaves: Vec<usize>,
    opened: Arc<Opened>,
}

/// Bytes of the pages that were opened since the last batch.
#[derive(Debug, Default)]
pub struct Opened(AtomicU64);

impl Opened {
    /// A batch was made of them. What it was made of.
    pub fn reset(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) -> ParquetResult<()> {
        let all = self.0.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        match all > BATCH_BYTES_MAX {
            true => Err(flaw(format!("the pages of a few rows of it have {all} bytes"))),
            false => Ok(()),
        }
    }
}

impl RowGroupPages {
    /// Of row group `row_group`, read as the columns `leaves` of the file.
    pub fn new(
        bytes: Arc<FileBytes>,
        metadata: Arc<ParquetMetaData>,
        row_group: usize,
        leaves: Vec<usize>,
    ) -> Self {
        Self { bytes, metadata, row_group, leaves, opened: Arc::default() }
    }

    /// What counts the bytes of its pages.
    pub fn opened(&self) -> Arc<Opened> {
        Arc::clone(&self.opened)
    }

    fn group(&self) -> &RowGroupMetaData {
        self.metadata.row_group(self.row_group)
    }
}

impl RowGroups for RowGroupPages {
    fn num_rows(&self) -> usize {
        self.group().num_rows() as usize
    }

    fn column_chunks(&self, column: usize) -> ParquetResult<Box<dyn PageIterator>> {
        let chunk = self.group().column(self.leaves[column]);
        let codec = chunk.compression();
        let bytes = Arc::clone(&self.bytes);
        let inner = match codec {
            Compression::GZIP(_) => {
                let builder = chunk.clone().into_builder();
                let packed = builder.set_compression(Compression::UNCOMPRESSED).build()?;
                SerializedPageReader::new(bytes, &packed, self.num_rows(), None)?
            }
            _ => SerializedPageReader::new(bytes, chunk, self.num_rows(), None)?,
        };
        let pages = CheckedPages {
            inner,
            is_gzip: matches!(codec, Compression::GZIP(_)),
            physical: chunk.column_type(),
            has_levels: chunk.column_descr().max_def_level() > 0,
            opened: Arc::clone(&self.opened),
        };
        Ok(Box::new(OneChunk(Some(pages))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.group()))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The library asks for the pages of a column in all its row groups; here it is one.
struct OneChunk(Option<CheckedPages>);

impl Iterator for OneChunk {
    type Item = ParquetResult<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(|pages| Ok(Box::new(pages) as Box<dyn PageReader>))
    }
}

impl PageIterator for OneChunk {}

/// The pages of one column.
struct CheckedPages {
    inner: SerializedPageReader<FileBytes>,
    /// Whether they still are compressed when they come here.
    is_gzip: bool,
    physical: Type,
    /// Whether a page begins with which values are NULL.
    has_levels: bool,
    opened: Arc<Opened>,
}

impl Iterator for CheckedPages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let Some(page) = self.inner.get_next_page()? else { return Ok(None) };
        let page = if self.is_gzip { unpacked(page)? } else { page };
        self.opened.add(page.buffer().len())?;
        self.check(&page)?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> ParquetResult<bool> {
        self.inner.at_record_boundary()
    }
}

impl CheckedPages {
    fn check(&self, page: &Page) -> ParquetResult<()> {
        let values = match page {
            Page::DictionaryPage { buf, num_values, .. } => {
                let least = match self.physical {
                    Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
                    Type::INT64 | Type::DOUBLE => 8,
                    Type::INT96 => 12,
                    Type::FIXED_LEN_BYTE_ARRAY | Type::BOOLEAN => 1,
                };
                return match *num_values as usize <= buf.len() / least {
                    true => Ok(()),
                    false => Err(flaw("a dictionary of it has fewer values than it says")),
                };
            }
            Page::DataPage { buf, def_level_encoding, .. } => {
                let levels = match self.has_levels {
                    false => 0,
                    true if *def_level_encoding == Encoding::RLE => {
                        let length = buf.first_chunk().map(|length| u32::from_le_bytes(*length));
                        length.map_or(buf.len(), |length| length as usize + 4)
                    }
                    true => return self.check_values(page.encoding(), None),
                };
                buf.get(levels..)
            }
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                buf.get(*def_levels_byte_len as usize + *rep_levels_byte_len as usize..)
            }
        };
        self.check_values(page.encoding(), values)
    }

    /// Checks values whose number the decoder takes from themselves.
    fn check_values(&self, encoding: Encoding, values: Option<&[u8]>) -> ParquetResult<()> {
        let wrong = || flaw("the lengths of texts in a page of it are wrong");
        match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => {
                let values = values.ok_or_else(wrong)?;
                let lengths = delta::lengths(values).ok_or_else(wrong)?;
                let has_them = lengths.sum <= (values.len() - lengths.end) as u64;
                if has_them { Ok(()) } else { Err(wrong()) }
            }
            Encoding::DELTA_BYTE_ARRAY => {
                let values = values.ok_or_else(wrong)?;
                let prefixes = delta::lengths(values).ok_or_else(wrong)?;
                let rest = delta::lengths(&values[prefixes.end..]).ok_or_else(wrong)?;
                if prefixes.count != rest.count {
                    return Err(wrong());
                }
                let bytes = prefixes.sum + rest.sum;
                if bytes > PAGE_BYTES_MAX as u64 {
                    return Err(flaw(format!("the texts of a page of it have {bytes} bytes")));
                }
                self.opened.add(bytes as usize)
            }
            _ => Ok(()),
        }
    }
}

/// A page whose values were compressed with gzip, which does not say what comes out.
fn unpacked(mut page: Page) -> ParquetResult<Page> {
    let (packed, levels) = match &mut page {
        Page::DataPageV2 { is_compressed: false, .. } => return Ok(page),
        Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
            (buf, *def_levels_byte_len as usize + *rep_levels_byte_len as usize)
        }
        Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => (buf, 0),
    };
    let short = || flaw("a page of it is shorter than it says");
    let mut bytes = packed.get(..levels).ok_or_else(short)?.to_vec();
    let values = &packed[levels..];
    if !values.is_empty() {
        let limit = PAGE_BYTES_MAX as u64 + 1;
        MultiGzDecoder::new(values).take(limit).read_to_end(&mut bytes)?;
    }
    if bytes.len() > PAGE_BYTES_MAX {
        return Err(flaw(format!("a page of it has more than {PAGE_BYTES_MAX} bytes")));
    }
    *packed = Bytes::from(bytes);
    if let Page::DataPageV2 { is_compressed, .. } = &mut page {
        *is_compressed = false;
    }
    Ok(page)
}

fn flaw(reason: impl Into<String>) -> ParquetError {
    ParquetError::General(reason.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression as Level, write::GzEncoder};

    use super::*;

    #[test]
    fn a_page_of_gzip_that_unpacks_to_too_much_is_refused() {
        let page = |pieces: usize| {
            let mut packed = GzEncoder::new(Vec::new(), Level::fast());
            let piece = vec![0; 1 << 20];
            (0..pieces).for_each(|_| packed.write_all(&piece).unwrap());
            let buf = Bytes::from(packed.finish().unwrap());
            Page::DictionaryPage { buf, num_values: 1, encoding: Encoding::PLAIN, is_sorted: false }
        };
        assert_eq!(unpacked(page(1)).unwrap().buffer().len(), 1 << 20);
        let error = unpacked(page((PAGE_BYTES_MAX >> 20) + 1)).unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
    }

    #[test]
    fn the_pages_of_one_batch_have_a_bound() {
        let opened = Opened::default();
        let half = BATCH_BYTES_MAX as usize / 2 + 1;
        opened.add(half).unwrap();
        assert!(opened.add(half).is_err());
        assert_eq!(opened.reset(), 2 * half as u64);
        opened.add(half).unwrap();
    }
}
