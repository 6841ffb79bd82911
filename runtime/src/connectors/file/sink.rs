//! `FileSink`: the processor that writes. Which rows are visible when is [`super::publication`]'s;
//! here rows go into files, and files are sealed: at their size, at each barrier, at the end. Every
//! instance has a thread of its own, because a disk may take its time.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use arrow::{
    array::{AsArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use storage::cluster::control::MappingRecord;

use super::{
    FileAccess,
    parquet::writing::ParquetSpelling,
    publication::{Names, Promise, Publication, Unpublished, unnameable},
    row_file::RowSpelling,
    settings::{FileFormat, Settings},
    writing::{Spelling, Writing},
};
use crate::{
    Error, Result,
    encode::format::Encoder,
    item::SnapshotId,
    job::Guarantee,
    processor::{Cooperation, Done, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{EVERY_INSTANCE, StateChunk, StateWriter},
};

/// Without a guarantee, so long after its first row a file is published at the latest: a trickle of
/// rows must be seen before it has filled a file, and each file costs two syncs.
const AGE_MAX: Duration = Duration::from_secs(10);

/// A sink into a File mapping.
pub fn sink(
    access: &FileAccess,
    settings: Settings,
    mapping: &MappingRecord,
) -> Result<Arc<dyn ProcessorSupplier>> {
    settings.glob.filled("").ok_or_else(|| unnameable(&settings))?;
    let fields: Vec<Field> =
        mapping.schema.fields().iter().map(|field| (**field).clone()).collect();
    let columns: Vec<(usize, String)> = fields
        .iter()
        .enumerate()
        .map(|(position, field)| {
            let external = mapping.columns.get(position).and_then(|c| c.external_name.clone());
            (position, external.unwrap_or_else(|| field.name().clone()))
        })
        .collect();
    let spelling: Arc<dyn Spelling> = match settings.format {
        FileFormat::Records(format) => {
            let encoder = Encoder::new(format, &columns, &fields, settings.header)?;
            Arc::new(RowSpelling::new(encoder, fields))
        }
        FileFormat::Parquet(compression) => {
            Arc::new(ParquetSpelling::new(&fields, &columns, compression)?)
        }
    };
    Ok(Arc::new(FileSinkSupplier { access: access.clone(), settings, spelling }))
}

struct FileSinkSupplier {
    access: FileAccess,
    settings: Settings,
    spelling: Arc<dyn Spelling>,
}

impl ProcessorSupplier for FileSinkSupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        let publication: Arc<OnceLock<Arc<Publication>>> = Arc::default();
        let sink = |_| -> Box<dyn Processor> {
            Box::new(FileSink {
                access: self.access.clone(),
                settings: self.settings.clone(),
                spelling: Arc::clone(&self.spelling),
                shared: Arc::clone(&publication),
                unpublished: None,
                present: None,
                number: 0,
                saved: 0,
                restored: Vec::new(),
                has_begun: false,
                context: None,
            })
        };
        Ok((0..count).map(sink).collect())
    }

    fn describe(&self) -> String {
        let Settings { path, glob, .. } = &self.settings;
        format!("file({path}/{})", glob.text())
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn commits(&self) -> bool {
        true
    }

    fn state(&self) -> Option<String> {
        Some(format!("files to be published in folder \"{}\"", self.settings.path))
    }

    fn is_state_of_job(&self, guarantee: Guarantee) -> bool {
        // Two jobs would rename the same files; without a guarantee none are left to rename.
        guarantee != Guarantee::None
    }
}

/// The processor.
struct FileSink {
    access: FileAccess,
    settings: Settings,
    spelling: Arc<dyn Spelling>,
    /// Of all instances; made by the first that is initialised.
    shared: Arc<OnceLock<Arc<Publication>>>,
    /// Of this instance, from `init` on.
    unpublished: Option<Unpublished>,
    present: Option<Present>,
    /// Of the next file.
    number: u64,
    /// The last snapshot this instance has saved for.
    saved: SnapshotId,
    /// What a snapshot names; the first instance publishes it.
    restored: Vec<Names>,
    has_begun: bool,
    context: Option<ProcessorContext>,
}

/// The file that is written now.
struct Present {
    file: Box<dyn Writing>,
    names: Names,
    /// When it was begun, ns of the steady clock.
    since: u64,
}

impl Processor for FileSink {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        let publication = match self.shared.get() {
            Some(publication) => Arc::clone(publication),
            None => {
                let made = Publication::open(&self.access, &self.settings, context)?;
                // Instances are initialised one after the other, so nobody was faster.
                Arc::clone(self.shared.get_or_init(|| Arc::new(made)))
            }
        };
        self.unpublished = Some(Unpublished::new(publication));
        self.context = Some(context.clone());
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, _outbox: &mut Outbox) -> Result<()> {
        self.begin()?;
        while let Some(batch) = inbox.take() {
            self.write(&batch.into_added("a file")?)?;
        }
        self.seal_what_is_old()
    }

    fn idle(&mut self, _outbox: &mut Outbox) -> Result<Done> {
        self.begin()?;
        self.seal_what_is_old()?;
        Ok(Done::No)
    }

    fn complete(&mut self, ordinal: usize, _outbox: &mut Outbox) -> Result<Done> {
        self.begin()?;
        let is_end_of_all = ordinal == usize::MAX;
        if is_end_of_all {
            self.seal()?;
        }
        Ok(Done::Yes)
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        self.begin()?;
        self.seal()?;
        let (unpublished, context) = self.unpublished()?;
        let names = unpublished.save(context)?;
        if !names.is_empty() {
            state.put(StateChunk { partition: EVERY_INSTANCE, tag: 0, rows: to_rows(&names)? });
        }
        self.saved = self.saved.max(state.snapshot);
        Ok(Done::Yes)
    }

    fn committed(&mut self, id: SnapshotId) -> Result<Done> {
        let (unpublished, context) = self.unpublished()?;
        unpublished.committed(id, context)?;
        Ok(Done::Yes)
    }

    fn awaits_commit(&self) -> bool {
        self.publication().is_ok_and(|one| one.promise() == Promise::WithSnapshot)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        if self.context()?.index == 0 {
            self.restored.extend(from_rows(&chunk.rows));
        }
        Ok(())
    }

    fn cooperation(&self) -> Cooperation {
        Cooperation::Blocking
    }
}

impl FileSink {
    fn context(&self) -> Result<&ProcessorContext> {
        self.context.as_ref().ok_or_else(early)
    }

    fn publication(&self) -> Result<&Publication> {
        self.shared.get().map(Arc::as_ref).ok_or_else(early)
    }

    fn unpublished(&mut self) -> Result<(&mut Unpublished, &ProcessorContext)> {
        match (&mut self.unpublished, &self.context) {
            (Some(unpublished), Some(context)) => Ok((unpublished, context)),
            _ => Err(early()),
        }
    }

    /// Before the first row: what is restored is published, what is left over removed.
    fn begin(&mut self) -> Result<()> {
        if self.has_begun {
            return Ok(());
        }
        if self.context()?.index == 0 {
            self.publication()?.recover(&self.restored, self.context()?)?;
            self.restored.clear();
        }
        self.has_begun = true;
        Ok(())
    }

    fn now(&self) -> Result<u64> {
        Ok(self.context()?.grid.env().clock.monotonic_nanos())
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let mut present = match self.present.take() {
            Some(present) => present,
            None => self.open()?,
        };
        let written = present.file.write(rows);
        let (size, held) = (present.file.size(), present.file.held());
        self.present = Some(present);
        written?;
        self.context()?.memory.hold(held);
        if size >= self.settings.file_size_max {
            self.seal()?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Present> {
        let publication = self.publication()?;
        let names = publication.names(self.context()?.index, self.number)?;
        let folder = publication.folder();
        let file = folder.create(&names.temporary)?;
        let shown = folder.shown(&names.published);
        let file = self.spelling.begin(file, shown)?;
        let since = self.now()?;
        self.number += 1;
        Ok(Present { file, names, since })
    }

    fn seal(&mut self) -> Result<()> {
        let Some(Present { file, names, .. }) = self.present.take() else { return Ok(()) };
        self.context()?.memory.hold(0);
        if let Err(error) = file.finish() {
            self.publication()?.remove(&names.temporary);
            return Err(error);
        }
        let saved = self.saved;
        let (unpublished, context) = self.unpublished()?;
        unpublished.seal(names, saved, context)
    }

    fn seal_what_is_old(&mut self) -> Result<()> {
        let Some(Present { since, .. }) = &self.present else { return Ok(()) };
        let is_old = self.now()?.saturating_sub(*since) >= AGE_MAX.as_nanos() as u64;
        match is_old && self.publication()?.promise() == Promise::AtOnce {
            true => self.seal(),
            false => Ok(()),
        }
    }
}

impl Drop for FileSink {
    /// An execution that ends, however that is: without a guarantee its rows stay, else those that
    /// no snapshot names will come again.
    fn drop(&mut self) {
        let Ok(promise) = self.publication().map(Publication::promise) else { return };
        if promise == Promise::AtOnce {
            if let Err(error) = self.seal() {
                tracing::warn!(%error, "the last rows of a file are lost");
            }
            return;
        }
        if let (Some(present), Ok(publication)) = (&self.present, self.publication()) {
            publication.remove(&present.names.temporary);
        }
        if let Some(unpublished) = &mut self.unpublished {
            unpublished.forget();
        }
    }
}

#[cold]
fn early() -> Error {
    Error::Internal("a file sink runs before init".to_owned())
}

fn to_rows(names: &[Names]) -> Result<RecordBatch> {
    let fields = ["temporary", "published"].map(|name| Field::new(name, DataType::Utf8, false));
    let temporary: StringArray = names.iter().map(|names| Some(&names.temporary)).collect();
    let published: StringArray = names.iter().map(|names| Some(&names.published)).collect();
    let columns = vec![Arc::new(temporary) as _, Arc::new(published) as _];
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns)?)
}

fn from_rows(rows: &RecordBatch) -> Vec<Names> {
    let text =
        |column: usize, row: usize| rows.column(column).as_string::<i32>().value(row).to_owned();
    let names = |row| Names { temporary: text(0, row), published: text(1, row) };
    (0..rows.num_rows()).map(names).collect()
}
