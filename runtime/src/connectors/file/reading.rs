//! `Reading`: how the splits of one kind of file become rows, and [`RecordReading`], that of files of
//! records. It knows its position at any time; what it has read and not handed out counts as read.

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::{
    folder::Folder,
    records::Records,
    settings::{FileFormat, Settings},
    split::Split,
};
use crate::{
    Error, Result,
    connectors::options::OnError,
    decode::{csv::Header, format::Format, records::RecordDecoder},
};

/// Rows of a batch, about.
pub const BATCH_ROWS: usize = 8192;
/// Bytes decoded in one call, about: a few milliseconds of its own thread.
pub const CALL_BYTES: usize = 1 << 20;

/// Reads one split after the other.
pub trait Reading: Send {
    /// Begins a split; the last is read to its end.
    fn begin(&mut self, folder: &Folder, split: Split) -> Result<()>;

    /// What is left of the present split; `None` if there is none.
    fn rest(&self) -> Option<&Split>;

    /// Reads on until it is full or the split ends, and says whether that ended.
    fn advance(&mut self) -> Result<bool>;

    /// Whether its rows are to be taken before it reads on.
    fn is_full(&self) -> bool;

    /// The rows since the last call.
    fn take(&mut self) -> Result<Option<RecordBatch>>;

    /// Rows left out since the last call.
    fn take_skipped(&mut self) -> u64;

    /// Bytes held between calls.
    fn held(&self) -> usize;
}

/// Reads records.
#[derive(Debug)]
pub struct RecordReading {
    format: Format,
    header: Header,
    on_error: OnError,
    decoder: RecordDecoder,
    present: Option<Records>,
    /// Bytes decoded since rows were taken.
    bytes: usize,
    skipped: u64,
}

impl RecordReading {
    /// Of the columns `projection`.
    pub fn new(
        settings: &Settings,
        format: Format,
        schema: &SchemaRef,
        external: &[Option<String>],
        projection: &[usize],
    ) -> Result<Self> {
        let header = settings.header;
        let decoder = RecordDecoder::new((format, header), schema, external, projection)?;
        let on_error = settings.on_error;
        Ok(Self { format, header, on_error, decoder, present: None, bytes: 0, skipped: 0 })
    }

    /// A record that cannot be decoded.
    #[cold]
    fn poisoned(&mut self, offset: u64, poison: &crate::decode::Poison) -> Result<()> {
        if self.on_error == OnError::Skip {
            self.skipped += 1;
            return Ok(());
        }
        let message = format!(
            "cannot decode the record at byte {offset} of file \"{}\": {}; with the mapping \
             option 'on_error' = 'skip' it would be counted and left out",
            self.present.as_ref().map_or("", Records::shown),
            poison.reason
        );
        Err(Error::User { code: poison.code, message })
    }
}

impl Reading for RecordReading {
    fn begin(&mut self, folder: &Folder, split: Split) -> Result<()> {
        let has_quotes = self.format == Format::Csv;
        let start = split.next;
        let mut records = if self.header == Header::OfFile {
            let whole = Split { next: 0, is_cut: false, ..split };
            let mut records = Records::open(folder, whole, has_quotes)?;
            let shown = records.shown().to_owned();
            if let Some((_, line)) = records.next_record()? {
                self.decoder.read_header(line).map_err(|poison| Error::User {
                    code: poison.code,
                    message: format!(
                        "cannot read the header of file \"{shown}\": {}",
                        poison.reason
                    ),
                })?;
            }
            records
        } else {
            Records::open(folder, split, has_quotes)?
        };
        records.skip_to(start);
        self.present = Some(records);
        Ok(())
    }

    fn rest(&self) -> Option<&Split> {
        self.present.as_ref().map(Records::rest)
    }

    fn advance(&mut self) -> Result<bool> {
        while !self.is_full() {
            let Some(records) = &mut self.present else { return Ok(true) };
            let Some((offset, record)) = records.next_record()? else {
                self.present = None;
                return Ok(true);
            };
            self.bytes += record.len() + 1;
            let is_blank_line = record.is_empty() && self.format != Format::Csv;
            if is_blank_line {
                continue;
            }
            if let Err(poison) = self.decoder.decode(record) {
                self.poisoned(offset, &poison)?;
            }
        }
        Ok(false)
    }

    fn is_full(&self) -> bool {
        self.decoder.rows() >= BATCH_ROWS || self.bytes >= CALL_BYTES
    }

    fn take(&mut self) -> Result<Option<RecordBatch>> {
        self.bytes = 0;
        match self.decoder.rows() {
            0 => Ok(None),
            _ => self.decoder.finish().map(Some),
        }
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    fn held(&self) -> usize {
        self.present.as_ref().map_or(0, Records::held)
    }
}

/// What reads the files of a mapping; 0A000 for a column that the format cannot have.
pub fn reading(
    settings: &Settings,
    schema: &SchemaRef,
    external: &[Option<String>],
    projection: &[usize],
) -> Result<Box<dyn Reading>> {
    Ok(match settings.format {
        FileFormat::Records(format) => {
            Box::new(RecordReading::new(settings, format, schema, external, projection)?)
        }
        FileFormat::Parquet(_) => Box::new(super::parquet::reading::ParquetReading::new(
            settings, schema, external, projection,
        )?),
    })
}
