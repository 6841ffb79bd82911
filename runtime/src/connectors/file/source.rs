//! `FileSource`: the processor that reads. Split s belongs to instance s mod parallelism; its state
//! is what is left of its splits. It has a thread of its own, because a disk may take its time.
//!
//! Files end, so it sends no watermark: a window over files closes when they do, and no row is late,
//! whatever the order of the files.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use arrow::datatypes::SchemaRef;
use storage::metrics::Metric;

use super::{
    FileAccess,
    folder::Folder,
    parquet::footer,
    reading::{Reading, reading},
    settings::{FileFormat, Settings},
    split::{self, PIECE_BYTES, Split},
};
use crate::{
    Error, Result,
    connector::{Source, SourceRequest},
    decode::format::Format,
    delta::DeltaBatch,
    execution::{StateMemory, memory::batch_bytes},
    item::Item,
    processor::{
        Cooperation, Done, Outbox, Processor, ProcessorContext, ProcessorSupplier, fail_at,
    },
    state::{EVERY_INSTANCE, StateChunk, StateWriter},
};

/// A source over a File mapping.
pub fn source(access: &FileAccess, settings: Settings, request: &SourceRequest) -> Result<Source> {
    let schema = Arc::new(request.mapping.schema.project(&request.projection)?);
    let parallelism = settings.parallelism;
    let (access, request) = (access.clone(), request.clone());
    let supplier = Arc::new(FileSupplier { access, settings, request, schema });
    Ok(Source { supplier, is_bounded: true, parallelism })
}

struct FileSupplier {
    access: FileAccess,
    settings: Settings,
    request: SourceRequest,
    schema: SchemaRef,
}

impl ProcessorSupplier for FileSupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        let mapping = &self.request.mapping;
        let external: Vec<Option<String>> =
            mapping.columns.iter().map(|column| column.external_name.clone()).collect();
        let plan: Arc<OnceLock<Plan>> = Arc::default();
        (0..count)
            .map(|_| {
                let projection = &self.request.projection;
                let reading = reading(&self.settings, &mapping.schema, &external, projection)?;
                Ok(Box::new(FileSource {
                    access: self.access.clone(),
                    settings: self.settings.clone(),
                    mapping: mapping.name.name.as_str().into(),
                    reading,
                    plan: Arc::clone(&plan),
                    restored: None,
                    splits: None,
                    pending: None,
                    skipped: Metric::default(),
                    context: None,
                }) as Box<dyn Processor>)
            })
            .collect()
    }

    fn describe(&self) -> String {
        let names: Vec<&str> =
            self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let Settings { path, glob, .. } = &self.settings;
        format!("file({path}/{}, columns=[{}])", glob.text(), names.join(", "))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn state(&self) -> Option<String> {
        // Positions in files, whatever is read of a record.
        let (path, format) = (&self.settings.path, self.settings.extension());
        Some(format!("positions in {format} files of folder \"{path}\""))
    }
}

/// What the instances of one execution agree on.
struct Plan {
    folder: Folder,
    /// Of all instances, when nothing is restored.
    splits: Vec<Split>,
}

/// The processor.
struct FileSource {
    access: FileAccess,
    settings: Settings,
    mapping: Arc<str>,
    reading: Box<dyn Reading>,
    /// Made by the first instance that is initialised.
    plan: Arc<OnceLock<Plan>>,
    /// Splits of all instances from a saved state, if there is one.
    restored: Option<Vec<Split>>,
    /// What is left to this instance, without the present one; `None` before the first call.
    splits: Option<VecDeque<Split>>,
    /// A batch the outbox refused. Its records count as read; `epoch` sends it before a save.
    pending: Option<Item>,
    skipped: Metric,
    context: Option<ProcessorContext>,
}

impl Processor for FileSource {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        let metrics = context.grid.metrics();
        let labels = [("mapping", &*self.mapping), ("job", &*context.job_name)];
        self.skipped = metrics.register("tidewater_skipped_rows_total", &labels);
        self.context = Some(context.clone());
        if self.plan.get().is_none() {
            let plan = self.plan()?;
            // Instances are initialised one after the other, so nobody was faster.
            let _ = self.plan.set(plan);
        }
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        if !self.emit_pending(outbox) {
            return Ok(Done::No);
        }
        let is_exhausted = self.read()?;
        self.skipped.add(self.reading.take_skipped() as i64);
        if let Some(batch) = self.reading.take()? {
            self.pending = Some(Item::Batch(DeltaBatch::insertions(batch)));
        }
        let is_sent = self.emit_pending(outbox);
        self.memory()?.hold(self.held());
        Ok(if is_exhausted && is_sent { Done::Yes } else { Done::No })
    }

    fn epoch(&mut self, _epoch: u64, outbox: &mut Outbox) -> Result<Done> {
        Ok(if self.emit_pending(outbox) { Done::Yes } else { Done::No })
    }

    fn complete(&mut self, _ordinal: usize, outbox: &mut Outbox) -> Result<Done> {
        Ok(if self.emit_pending(outbox) { Done::Yes } else { Done::No })
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        self.begin()?;
        let present = self.reading.rest().into_iter();
        let left = present.chain(self.splits.iter().flatten());
        let left: Vec<&Split> = left.filter(|split| split.next < split.end).collect();
        let rows = split::to_rows(&left)?;
        state.put(StateChunk { partition: EVERY_INSTANCE, tag: 0, rows });
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        self.restored.get_or_insert_default().extend(split::from_rows(&chunk.rows));
        Ok(())
    }

    fn cooperation(&self) -> Cooperation {
        Cooperation::Blocking
    }
}

impl FileSource {
    fn plan(&self) -> Result<Plan> {
        let Settings { path, glob, ignores_not_found, format, .. } = &self.settings;
        let folder = Folder::open(&self.access, path)?;
        let files = folder.files(glob)?;
        if files.is_empty() && !ignores_not_found {
            let glob = glob.text();
            return Err(Error::Invalid {
                code: "58P01",
                message: format!(
                    "no file in folder \"{path}\" matches \"{glob}\"; with the mapping option \
                     'ignoreFileNotFound' = 'true' there would be no rows"
                ),
            });
        }
        let splits = match format {
            FileFormat::Records(format) => split::splits(&files, *format != Format::Csv),
            FileFormat::Parquet(_) => {
                let splits = files.iter().map(|file| footer::splits(&folder, file, PIECE_BYTES));
                splits.collect::<Result<Vec<_>>>()?.concat()
            }
        };
        Ok(Plan { folder, splits })
    }

    fn context(&self) -> Result<&ProcessorContext> {
        let early = || Error::Internal("a file source runs before init".to_owned());
        self.context.as_ref().ok_or_else(early)
    }

    fn memory(&self) -> Result<&StateMemory> {
        Ok(&self.context()?.memory)
    }

    /// Takes its splits at the first call.
    fn begin(&mut self) -> Result<()> {
        if self.splits.is_some() {
            return Ok(());
        }
        let (index, parallelism) = (self.context()?.index, self.context()?.parallelism);
        let mut all = match self.restored.take() {
            Some(restored) => restored,
            None => self.plan.get().map(|plan| plan.splits.clone()).unwrap_or_default(),
        };
        // Chunks come in any order; every instance must count in the same.
        all.sort_by(|left, right| (&left.file, left.end).cmp(&(&right.file, right.end)));
        let own = all.into_iter().enumerate().filter(|(n, _)| n % parallelism == index);
        self.splits = Some(own.map(|(_, split)| split).collect());
        Ok(())
    }

    /// Reads up to a batch; whether nothing is left.
    fn read(&mut self) -> Result<bool> {
        self.begin()?;
        while !self.reading.is_full() {
            if self.reading.rest().is_none() && !self.open_next()? {
                return Ok(true);
            }
            if self.reading.advance()? {
                fail_at(self.context()?, "file.split_read")?;
            }
        }
        Ok(false)
    }

    /// Opens the next split; `false` if there is none.
    fn open_next(&mut self) -> Result<bool> {
        let Some(split) = self.splits.as_mut().and_then(VecDeque::pop_front) else {
            return Ok(false);
        };
        let missing = || Error::Internal("a file source has no plan".to_owned());
        let folder = &self.plan.get().ok_or_else(missing)?.folder;
        self.reading.begin(folder, split)?;
        Ok(true)
    }

    fn held(&self) -> usize {
        let pending = match &self.pending {
            Some(Item::Batch(batch)) => batch_bytes(&batch.rows),
            _ => 0,
        };
        pending + self.reading.held()
    }

    /// Whether nothing is pending any more.
    fn emit_pending(&mut self, outbox: &mut Outbox) -> bool {
        if let Some(item) = self.pending.take() {
            self.pending = outbox.offer(item);
        }
        self.pending.is_none()
    }
}
