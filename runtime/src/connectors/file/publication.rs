//! How the rows of an execution become visible, each once. A file is written under a hidden name,
//! *sealed* (synced, nothing is added any more), and *published* by one rename.
//!
//! ```text
//!   rows ─► .tidewater-….tmp ─► sealed ─► named by snapshot n ─► n is good ─► renamed
//!                                             │ lost here: whoever restores n renames
//!             lost here: rows come again, the leftover is removed
//! ```
//! | promise | a file is sealed | and published |
//! | --- | --- | --- |
//! | [`Promise::AtOnce`] (guarantee `none`) | at its size, after a while, at the end | at once |
//! | [`Promise::WithSnapshot`] (all others) | at its size, at each barrier | when the snapshot is good |
//!
//! Renaming twice does no harm: a temporary file that is gone was published. So a snapshot names
//! every file that is sealed and not known to be renamed, and the restoring execution renames all it
//! is told of before it writes a row. Then it removes the temporary files of executions before it,
//! and of jobs that are no more.
//!
//! Names tell whose a file is: `.tidewater-<member>-<job>-<execution>-<instance>-<number>.tmp`.
//! Member and execution are drawn at random; nobody else's files are touched.

use std::sync::Arc;

use storage::cluster::control::ObjectId;

use super::{FileAccess, folder::Folder, settings::Settings};
use crate::{
    Error, Result,
    execution::QUERY,
    item::SnapshotId,
    job::Guarantee,
    processor::{ProcessorContext, fail_at},
};

/// When files become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// When they are sealed.
    AtOnce,
    /// When the snapshot that names them is good.
    WithSnapshot,
}

/// A file that is on its way, under both of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Hidden, until it is published.
    pub temporary: String,
    /// As readers see it.
    pub published: String,
}

/// What the sinks of one execution share.
#[derive(Debug)]
pub struct Publication {
    folder: Folder,
    settings: Settings,
    promise: Promise,
    /// `.tidewater-<member>-`.
    member: String,
    /// `<job>`; `query` of a statement.
    job: String,
    execution: u64,
}

/// The files of one instance that are sealed and not published.
#[derive(Debug)]
pub struct Unpublished {
    publication: Arc<Publication>,
    sealed: Vec<Sealed>,
}

#[derive(Debug)]
struct Sealed {
    names: Names,
    /// The last snapshot its instance had saved for: every later one names the file.
    after: SnapshotId,
    /// Whether one does.
    is_saved: bool,
}

impl Publication {
    /// Of a new execution.
    pub fn open(
        access: &FileAccess,
        settings: &Settings,
        context: &ProcessorContext,
    ) -> Result<Self> {
        let is_statement = &*context.job_name == QUERY;
        Ok(Self {
            folder: Folder::open(access, &settings.path)?,
            settings: settings.clone(),
            promise: match context.guarantee {
                Guarantee::None => Promise::AtOnce,
                Guarantee::AtLeastOnce | Guarantee::ExactlyOnce => Promise::WithSnapshot,
            },
            member: format!(".tidewater-{:016x}-", access.owner),
            job: if is_statement { QUERY.to_owned() } else { context.job_id.to_string() },
            execution: context.grid.env().rng.next_u64(),
        })
    }

    /// What it promises.
    pub fn promise(&self) -> Promise {
        self.promise
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Names of the file of that number that an instance writes.
    pub fn names(&self, instance: usize, number: u64) -> Result<Names> {
        let Self { member, job, execution, settings, .. } = self;
        let unique = format!("{execution:016x}-{instance}-{number}");
        let filling = match settings.glob.text() {
            "*" => format!("{unique}.{}", settings.extension()),
            _ => unique.clone(),
        };
        let published = settings.glob.filled(&filling).ok_or_else(|| unnameable(settings))?;
        Ok(Names { temporary: format!("{member}{job}-{unique}.tmp"), published })
    }

    /// Publishes what a restored snapshot names, and removes what executions before have left.
    pub fn recover(&self, restored: &[Names], context: &ProcessorContext) -> Result<()> {
        self.rename(restored, context)?;
        fail_at(context, "file.recovered")?;
        let state = context.grid.control().state();
        for name in self.folder.hidden()? {
            let Some(rest) = name.strip_prefix(&self.member) else { continue };
            let (job, rest) = rest.split_once('-').unwrap_or((rest, ""));
            let is_leftover = if job == QUERY {
                // A statement removes its own, and others may be at work.
                false
            } else if job == self.job {
                !rest.starts_with(&format!("{:016x}-", self.execution))
            } else {
                let id = job.parse().ok().map(ObjectId);
                id.is_some_and(|id| state.jobs.get(&id).is_none_or(|job| job.status.is_terminal()))
            };
            if is_leftover {
                self.folder.remove(&name)?;
                fail_at(context, "file.removed")?;
            }
        }
        Ok(())
    }

    /// Removes a temporary file that nobody needs; a failure only leaves it there, hidden.
    pub fn remove(&self, temporary: &str) {
        if let Err(error) = self.folder.remove(temporary) {
            tracing::warn!(job = %self.job, %error, "a temporary file stays");
        }
    }

    fn rename(&self, files: &[Names], context: &ProcessorContext) -> Result<()> {
        for Names { temporary, published } in files {
            fail_at(context, "file.publish")?;
            self.folder.rename(temporary, published)?;
            fail_at(context, "file.published")?;
        }
        if !files.is_empty() {
            self.folder.sync()?;
            fail_at(context, "file.synced")?;
        }
        Ok(())
    }
}

impl Unpublished {
    /// None yet.
    pub fn new(publication: Arc<Publication>) -> Self {
        Self { publication, sealed: Vec::new() }
    }

    /// A file has all its rows and is synced. `after` is the last snapshot its instance saved for.
    pub fn seal(
        &mut self,
        names: Names,
        after: SnapshotId,
        context: &ProcessorContext,
    ) -> Result<()> {
        self.sealed.push(Sealed { names, after, is_saved: false });
        fail_at(context, "file.sealed")?;
        match self.publication.promise {
            Promise::AtOnce => self.publish(context, |_| true),
            Promise::WithSnapshot => Ok(()),
        }
    }

    /// Files that a snapshot must name; their names are synced.
    pub fn save(&mut self, context: &ProcessorContext) -> Result<Vec<Names>> {
        if !self.sealed.is_empty() {
            self.publication.folder.sync()?;
        }
        for sealed in &mut self.sealed {
            sealed.is_saved = true;
        }
        fail_at(context, "file.saved")?;
        Ok(self.sealed.iter().map(|sealed| sealed.names.clone()).collect())
    }

    /// Snapshot `id` is good: what it names is published.
    pub fn committed(&mut self, id: SnapshotId, context: &ProcessorContext) -> Result<()> {
        let published = self.publish(context, |sealed| sealed.after < id);
        let is_statement = self.publication.job == QUERY;
        if published.is_err() && is_statement {
            // Nobody will try again, and a statement that failed leaves nothing.
            for Sealed { names, .. } in &self.sealed {
                self.publication.remove(&names.published);
            }
        }
        published
    }

    /// Removes what no snapshot names that could be restored.
    pub fn forget(&mut self) {
        let is_statement = self.publication.job == QUERY;
        for sealed in self.sealed.drain(..).filter(|sealed| is_statement || !sealed.is_saved) {
            self.publication.remove(&sealed.names.temporary);
        }
    }

    /// Publishes those that are due; snapshots name them until that is done.
    fn publish(
        &mut self,
        context: &ProcessorContext,
        is_due: impl Fn(&Sealed) -> bool,
    ) -> Result<()> {
        let due = self.sealed.iter().filter(|sealed| is_due(sealed));
        let due: Vec<Names> = due.map(|sealed| sealed.names.clone()).collect();
        self.publication.rename(&due, context)?;
        self.sealed.retain(|sealed| !is_due(sealed));
        Ok(())
    }
}

/// The refusal of a glob that names cannot be made from.
pub fn unnameable(settings: &Settings) -> Error {
    Error::Invalid {
        code: "0A000",
        message: format!(
            "files cannot be written with glob \"{}\": names are made by putting something in the \
             place of one \"*\", as in 'part-*.{}'",
            settings.glob.text(),
            settings.extension()
        ),
    }
}
