//! `TYPE File`: the files of a folder as a bounded source, and as a sink whose files appear whole.
//! Nothing outside of the server's `--file-root` is read or written.
//!
//! ```text
//!   folder ─ glob ─► files ─► splits ─► instance i reads the splits i, i + n, …   (source)
//!   rows ─► hidden temporary file ─► synced ─► snapshot is good ─► its real name  (sink)
//! ```
//! Suggested reading order: [`settings`] (OPTIONS), [`folder`] (what may be touched), [`split`] and
//! [`records`] (bytes to records), [`reading`] and [`source`]; [`writing`] and [`row_file`],
//! [`publication`] (how every row becomes visible once) and [`sink`]; [`inference`] (columns of a
//! mapping that declares none); [`parquet`] (the same, of columns instead of records).

pub mod folder;
pub mod glob;
pub mod inference;
pub mod parquet;
pub mod publication;
pub mod reading;
pub mod records;
pub mod row_file;
pub mod settings;
pub mod sink;
pub mod source;
pub mod split;
pub mod writing;

use std::{path::PathBuf, sync::Arc};

use arrow::datatypes::SchemaRef;
use storage::{
    cluster::control::MappingRecord,
    env::{Disk, Env},
};

use self::settings::Settings;
use crate::{
    Error, Result,
    connector::{Connector, MappingRequest, Source, SourceRequest},
    connectors::options::EVENT_TIME_OPTIONS,
    processor::ProcessorSupplier,
};

/// The connector.
#[derive(Debug)]
pub struct File {
    access: FileAccess,
}

/// Where files may be.
#[derive(Debug, Clone)]
pub struct FileAccess {
    disk: Arc<dyn Disk>,
    /// `--file-root`; without one mappings of type File are refused.
    root: Option<PathBuf>,
    /// Drawn once: tells temporary files of this member from those of any other.
    owner: u64,
}

impl FileAccess {
    /// Files of `env`'s disk beneath `root`.
    pub fn new(env: &Env, root: Option<PathBuf>) -> Self {
        Self { disk: Arc::clone(&env.disk), root, owner: env.rng.next_u64() }
    }
}

impl File {
    /// A connector to those files.
    pub fn new(access: FileAccess) -> Self {
        Self { access }
    }
}

impl Connector for File {
    fn name(&self) -> &'static str {
        settings::NAME
    }

    fn resolve(&self, request: &MappingRequest) -> Result<SchemaRef> {
        let settings = Settings::read(&request.options)?;
        if let Some(name) = EVENT_TIME_OPTIONS.iter().find(|n| request.options.contains_key(**n)) {
            return Err(Error::Invalid {
                code: "22023",
                message: format!(
                    "option \"{name}\" means nothing for a mapping of type File: files end, and \
                     only their end moves time"
                ),
            });
        }
        folder::check(&self.access, &settings.path)?;
        let schema = match &request.schema {
            Some(schema) => Arc::clone(schema),
            None => inference::columns(&self.access, &settings)?,
        };
        // Whatever the columns cannot be decoded from is found now, not at the first row.
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        reading::reading(&settings, &schema, &request.external_columns, &all)?;
        Ok(schema)
    }

    fn source(&self, request: &SourceRequest) -> Result<Option<Source>> {
        let settings = Settings::read(&request.mapping.options)?;
        source::source(&self.access, settings, request).map(Some)
    }

    fn sink(
        &self,
        mapping: &MappingRecord,
        _input: &SchemaRef,
    ) -> Result<Option<Arc<dyn ProcessorSupplier>>> {
        let settings = Settings::read(&mapping.options)?;
        sink::sink(&self.access, settings, mapping).map(Some)
    }
}

#[cfg(test)]
mod tests;
