//! `ParquetReading`: the rows of a split, a few at a time. Its position is a row of the file; after a
//! restart the rows before it are skipped, whole pages without being unpacked.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Fields, SchemaRef},
};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, RowSelection, RowSelector},
        parquet_to_arrow_field_levels,
    },
    schema::types::{SchemaDescriptor, Type},
};

use super::{
    broken,
    columns::{self, Matched, Wanted},
    convert::Flaws,
    footer::Footer,
    guarded,
    pages::{Opened, RowGroupPages},
};
use crate::{
    Error, Result,
    connectors::{
        file::{
            folder::Folder,
            reading::{BATCH_ROWS, CALL_BYTES, Reading},
            settings::Settings,
            split::Split,
        },
        options::OnError,
    },
};

/// Bytes that the rows decoded at once shall have: a page of each of some dozen columns.
const DECODED_BYTES: u64 = 32 << 20;

/// Reads splits of Parquet files.
#[derive(Debug)]
pub struct ParquetReading {
    on_error: OnError,
    wanted: Vec<Wanted>,
    schema: SchemaRef,
    /// The last file; splits of one file come one after the other.
    footer: Option<(String, u64, Footer)>,
    present: Option<Present>,
    batch: Option<RecordBatch>,
    skipped: u64,
}

/// The split that is read.
struct Present {
    /// `next` is the row behind those of all batches so far.
    split: Split,
    footer: Footer,
    matched: Vec<Matched>,
    group: Option<Group>,
}

/// The row group that is read.
struct Group {
    /// `None` if no column is read.
    reader: Option<ParquetRecordBatchReader>,
    opened: Arc<Opened>,
    /// What was decoded and is not converted yet.
    decoded: Option<RecordBatch>,
    /// Rows of the group that are neither decoded nor left out.
    left: u64,
    held: usize,
}

impl std::fmt::Debug for Present {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Present").field("split", &self.split).finish_non_exhaustive()
    }
}

impl ParquetReading {
    /// Of the columns `projection`.
    pub fn new(
        settings: &Settings,
        schema: &SchemaRef,
        external: &[Option<String>],
        projection: &[usize],
    ) -> Result<Self> {
        let wanted = |position: &usize| {
            let field = schema.field(*position).clone();
            let external = external.get(*position).and_then(Option::as_deref);
            let name = external.unwrap_or(field.name()).to_owned();
            Wanted { field, name }
        };
        let wanted: Vec<Wanted> = projection.iter().map(wanted).collect();
        columns::check(&wanted)?;
        Ok(Self {
            on_error: settings.on_error,
            wanted,
            schema: Arc::new(schema.project(projection)?),
            footer: None,
            present: None,
            batch: None,
            skipped: 0,
        })
    }

    /// Makes rows of the file rows of the mapping.
    fn converted(&mut self, rows: &RecordBatch, first_row: u64) -> Result<()> {
        let Some(Present { matched, footer, .. }) = &self.present else { return Ok(()) };
        let mut flaws = Flaws::default();
        let columns = rows.columns().iter().zip(matched);
        let columns: Vec<ArrayRef> = columns
            .map(|(values, matched)| matched.conversion.convert(values, &mut flaws))
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let make = |columns, schema: &SchemaRef| {
            RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        };
        let Some((row, poison)) = flaws.first() else {
            self.batch = Some(make(columns, &self.schema)?);
            return Ok(());
        };
        if self.on_error == OnError::Fail {
            let message = format!(
                "cannot read row {} of file \"{}\": {}; with the mapping option 'on_error' = \
                 'skip' it would be counted and left out",
                first_row + *row as u64 + 1,
                footer.shown,
                poison.reason
            );
            return Err(Error::User { code: poison.code, message });
        }
        // Values of flawed rows may be missing where the column allows none.
        let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
        let fields: Fields = self.schema.fields().iter().map(nullable).collect();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        let sound = filter_record_batch(&make(columns, &schema)?, &flaws.sound(rows.num_rows()))?;
        self.skipped += (rows.num_rows() - sound.num_rows()) as u64;
        if sound.num_rows() > 0 {
            let columns = sound.columns().to_vec();
            self.batch = Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        }
        Ok(())
    }
}

impl Reading for ParquetReading {
    fn begin(&mut self, folder: &Folder, split: Split) -> Result<()> {
        let footer = match self.footer.take() {
            Some((name, size, footer)) if name == split.file && size == split.size => footer,
            _ => Footer::open(folder, &split.file, split.size)?,
        };
        self.footer = Some((split.file.clone(), split.size, footer.clone()));
        let matched = columns::matched(&footer, &self.wanted)?;
        self.present = Some(Present { split, footer, matched, group: None });
        Ok(())
    }

    fn rest(&self) -> Option<&Split> {
        self.present.as_ref().map(|present| &present.split)
    }

    fn advance(&mut self) -> Result<bool> {
        let Some(present) = &mut self.present else { return Ok(true) };
        if present.group.is_none() && !present.open_group()? {
            self.present = None;
            return Ok(true);
        }
        let first_row = present.split.next;
        if let Some(rows) = present.next_rows()? {
            let count = rows.num_rows() as u64;
            self.converted(&rows, first_row)?;
            if let Some(present) = &mut self.present {
                present.split.next = first_row + count;
            }
        }
        Ok(false)
    }

    fn is_full(&self) -> bool {
        self.batch.is_some()
    }

    fn take(&mut self) -> Result<Option<RecordBatch>> {
        Ok(self.batch.take())
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    fn held(&self) -> usize {
        let group = self.present.as_ref().and_then(|present| present.group.as_ref());
        group.map_or(0, |group| group.held)
    }
}

impl Present {
    /// Goes to the row group that the next row is in; `false` behind the last of the split.
    fn open_group(&mut self) -> Result<bool> {
        let mut first = 0;
        for (n, rows) in self.footer.row_counts().enumerate() {
            let end = first + rows;
            if self.split.next < end && first < self.split.end {
                self.group = Some(self.group(n, self.split.next.saturating_sub(first), rows)?);
                return Ok(true);
            }
            first = end;
        }
        Ok(false)
    }

    /// Row group `n` behind its first `skipped` rows.
    fn group(&self, n: usize, skipped: u64, rows: u64) -> Result<Group> {
        let Footer { bytes, metadata, shown } = &self.footer;
        let left = rows - skipped;
        let leaves: Vec<usize> = self.matched.iter().map(|matched| matched.leaf).collect();
        if leaves.is_empty() {
            return Ok(Group {
                reader: None,
                opened: Arc::default(),
                decoded: None,
                left,
                held: 0,
            });
        }
        leaves.iter().try_for_each(|leaf| self.footer.check_codec(n, *leaf))?;
        let size: u64 = leaves
            .iter()
            .map(|leaf| metadata.row_group(n).column(*leaf).uncompressed_size().max(0) as u64)
            .sum();
        let batch_rows = (DECODED_BYTES / (size / rows.max(1)).max(1)).clamp(1, BATCH_ROWS as u64);
        let fields = self.matched.iter().map(|matched| Arc::clone(&matched.parquet));
        let read: Fields = self
            .matched
            .iter()
            .map(|Matched { parquet, read, .. }| {
                Field::new(parquet.name(), read.clone(), parquet.is_optional())
            })
            .collect();
        let pages = RowGroupPages::new(Arc::clone(bytes), Arc::clone(metadata), n, leaves.clone());
        let opened = pages.opened();
        let reader = guarded(shown, || {
            let root = Type::group_type_builder("rows").with_fields(fields.collect()).build()?;
            let schema = SchemaDescriptor::new(Arc::new(root));
            let levels =
                parquet_to_arrow_field_levels(&schema, ProjectionMask::all(), Some(&read))?;
            let selection = (skipped > 0).then(|| {
                let skip = RowSelector::skip(skipped as usize);
                RowSelection::from(vec![skip, RowSelector::select(left as usize)])
            });
            ParquetRecordBatchReader::try_new_with_row_groups(
                &levels,
                &pages,
                batch_rows as usize,
                selection,
            )
        })?;
        Ok(Group { reader: Some(reader), opened, decoded: None, left, held: 0 })
    }

    /// Some rows of the present group; `None` behind its last.
    fn next_rows(&mut self) -> Result<Option<RecordBatch>> {
        let Some(group) = &mut self.group else { return Ok(None) };
        if let Some(decoded) = group.decoded.take() {
            return Ok(Some(group.piece(decoded)));
        }
        if group.left == 0 {
            self.group = None;
            return Ok(None);
        }
        let Some(reader) = &mut group.reader else {
            let rows = group.left.min(BATCH_ROWS as u64);
            group.left -= rows;
            let options = RecordBatchOptions::new().with_row_count(Some(rows as usize));
            let none = Arc::new(arrow::datatypes::Schema::empty());
            return Ok(Some(RecordBatch::try_new_with_options(none, Vec::new(), &options)?));
        };
        let shown = &self.footer.shown;
        let decoded = guarded(shown, || Ok(reader.next().transpose()?))?;
        // Pages stay until the next are opened, dictionaries to the end.
        group.held = group.held.max(usize::try_from(group.opened.reset()).unwrap_or(usize::MAX));
        let short = || broken(shown, "a row group of it has fewer rows than it says");
        let decoded = decoded.filter(|rows| rows.num_rows() > 0).ok_or_else(short)?;
        let is_as_asked =
            |(rows, matched): (&ArrayRef, &Matched)| *rows.data_type() == matched.read;
        let rows = decoded.num_rows() as u64;
        if rows > group.left || !decoded.columns().iter().zip(&self.matched).all(is_as_asked) {
            return Err(broken(shown, "a row group of it has other rows than it says"));
        }
        group.left -= rows;
        Ok(Some(group.piece(decoded)))
    }
}

impl Group {
    /// The first rows, about [`CALL_BYTES`]; the others are kept for later calls. A few bytes of a
    /// dictionary may stand for the texts of many rows.
    fn piece(&mut self, decoded: RecordBatch) -> RecordBatch {
        let bytes_to = |rows: usize| -> usize {
            let of = |column: &ArrayRef| match column.data_type() {
                DataType::BinaryView => {
                    let views = &column.as_binary_view().views()[..rows];
                    views.iter().map(|view| *view as u32 as usize).sum()
                }
                _ => 0,
            };
            decoded.columns().iter().map(of).sum()
        };
        let mut rows = decoded.num_rows();
        while rows > 1 && bytes_to(rows) > CALL_BYTES {
            rows = rows.div_ceil(2);
        }
        if rows < decoded.num_rows() {
            self.decoded = Some(decoded.slice(rows, decoded.num_rows() - rows));
        }
        decoded.slice(0, rows)
    }
}
