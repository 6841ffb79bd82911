//! `Plan` → effect: the half that runs on a thread of the query pool. What comes back is ready to
//! be framed by the connection; rows follow through a [`RowSource`].

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::BytesMut;
use futures::stream;
use planner::{
    Error, OutputColumn, Plan, Planner, Prepared, Result, Statement,
    plan::{CommandOutcome, CopyIn, CopyOptions, ModifyPlan, RowStream, SessionStatement},
};
use storage::Datum;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{
    connection::Stage,
    directory::{Directory, QueryListing},
    rows::{Chunk, Delivery, RowSource},
    session::RowTag,
    wire::{
        copy_out::CopyWriter,
        error::cancelled,
        types::{Format, RowEncoder, TimeZone, datum::data_row},
    },
};

/// What to run.
pub enum Work {
    /// A parsed statement without parameters.
    Statement(Statement),
    /// A prepared one with its values.
    Prepared(Arc<Prepared>, Vec<Datum>),
}

/// How to run it, and for whom.
pub struct Request {
    /// The front door.
    pub planner: Arc<Planner>,
    /// Where it is listed while it runs.
    pub directory: Arc<Directory>,
    /// Result formats of Bind; none for text.
    pub formats: Vec<Format>,
    /// Whether rows are kept as batches: DECLARE.
    pub is_cursor: bool,
    /// The session's zone.
    pub zone: TimeZone,
    /// Stops it.
    pub cancel: CancellationToken,
    /// Whether it may still be left behind.
    pub stage: Arc<Stage>,
}

/// A statement that has begun, or is already done.
pub enum Started {
    /// Done, nothing to send but its tag.
    Done {
        /// Command tag.
        tag: String,
    },
    /// Rows.
    Rows {
        /// Columns.
        columns: Arc<[OutputColumn]>,
        /// Rows.
        source: RowSource,
        /// Tag at the end.
        tag: RowTag,
    },
    /// DDL or a job statement that is done.
    Command(CommandOutcome),
    /// What only the session can do.
    Session(SessionStatement),
    /// COPY FROM STDIN: wants data.
    CopyIn(Box<CopyIn>),
    /// COPY TO STDOUT: CopyData frames.
    CopyOut {
        /// Number of columns.
        column_count: usize,
        /// Frames.
        source: RowSource,
    },
}

impl Request {
    /// Plans and starts `work` on the present thread, which is one of the query pool.
    pub fn start(&self, session: &mut planner::Session, work: Work) -> Result<Started> {
        let (prepared, values) = match work {
            Work::Statement(statement) => {
                let prepared = self.planner.prepare(session, &statement, &[])?;
                if !prepared.parameters.is_empty() {
                    return Err(Error::new("42P02", "there is no parameter $1"));
                }
                (prepared, Vec::new())
            }
            Work::Prepared(prepared, values) => (prepared, values),
        };
        let plan = self.planner.bind(session, &prepared, &values)?;
        self.stage.begin()?;
        self.run(session, plan, &prepared.statement.sql)
    }

    fn run(&self, session: &mut planner::Session, plan: Plan, sql: &str) -> Result<Started> {
        match plan {
            Plan::Keyed(plan, values) => {
                let outcome = plan.run(session, &values)?;
                let Some(columns) = &plan.columns else {
                    return Ok(Started::Done { tag: outcome.tag });
                };
                let mut frames = BytesMut::new();
                for row in &outcome.rows {
                    data_row(row, columns, &self.formats, &self.zone, &mut frames)?;
                }
                let chunk = Chunk::Frames { frames, rows: outcome.rows.len() };
                Ok(Started::Rows {
                    columns: columns.as_slice().into(),
                    source: RowSource::ready([chunk]),
                    tag: RowTag::Fixed(outcome.tag),
                })
            }
            Plan::Modify(plan) => self.modify(session, plan, sql),
            Plan::Command(plan) => Ok(Started::Command(plan.run(session)?)),
            Plan::Session(statement) => Ok(Started::Session(statement)),
            Plan::CopyIn(copy) => {
                if let Some(writer) = copy.block_writer() {
                    session.writer = Some(writer);
                }
                Ok(Started::CopyIn(Box::new(copy)))
            }
            Plan::CopyOut { source, options } => {
                let rows = self.open(session, *source, sql)?;
                self.copy_out(rows, options)
            }
            plan @ (Plan::Query(_) | Plan::Stream(_) | Plan::Rows { .. }) => {
                let rows = self.open(session, plan, sql)?;
                self.rows(rows)
            }
        }
    }

    fn modify(
        &self,
        session: &mut planner::Session,
        plan: ModifyPlan,
        sql: &str,
    ) -> Result<Started> {
        let _listing = self.list(session, sql, false);
        let columns = plan.columns.clone();
        let outcome = Handle::current().block_on(async {
            tokio::select! {
                biased;
                outcome = plan.execute(session) => outcome,
                () = self.cancel.cancelled() => Err(cancelled()),
            }
        })?;
        let Some(columns) = columns else { return Ok(Started::Done { tag: outcome.tag }) };
        let stream = ready_stream(outcome.batches);
        self.rows(Rows { columns, stream, tag: RowTag::Fixed(outcome.tag), listing: None })
    }

    /// Begins a plan that has rows.
    fn open(&self, session: &planner::Session, plan: Plan, sql: &str) -> Result<Rows> {
        match plan {
            Plan::Query(plan) => {
                let listing = self.list(session, sql, false);
                let columns = plan.columns.clone();
                let stream = plan.execute(session)?;
                Ok(Rows { columns, stream, tag: SELECT, listing: Some((listing, false)) })
            }
            Plan::Stream(plan) => {
                let listing = self.list(session, sql, true);
                let columns = plan.columns.clone();
                let stream = plan.start(listing.id())?;
                Ok(Rows { columns, stream, tag: SELECT, listing: Some((listing, true)) })
            }
            Plan::Rows { columns, batches, tag } => {
                let stream = ready_stream(batches);
                Ok(Rows { columns, stream, tag: RowTag::Fixed(tag.to_owned()), listing: None })
            }
            _ => Err(Error::new("42601", "this statement returns no rows to copy")),
        }
    }

    fn list(&self, session: &planner::Session, sql: &str, is_stream: bool) -> QueryListing {
        self.directory.begin_query(session.id, sql, is_stream)
    }

    fn rows(&self, rows: Rows) -> Result<Started> {
        let delivery = match self.is_cursor {
            true => Delivery::Batches,
            false => Delivery::DataRows(RowEncoder::new(&rows.columns, &self.formats, self.zone)?),
        };
        let (columns, tag) = (rows.columns.as_slice().into(), rows.tag.clone());
        Ok(Started::Rows { columns, source: rows.pump(delivery), tag })
    }

    fn copy_out(&self, rows: Rows, options: CopyOptions) -> Result<Started> {
        let column_count = rows.columns.len();
        let mut writer = CopyWriter::new(&rows.columns, options, self.zone)?;
        let mut header = BytesMut::new();
        writer.take_header(&mut header);
        let mut source = rows.pump(Delivery::CopyData(writer));
        if !header.is_empty() {
            source.put_back(Chunk::Frames { frames: header, rows: 0 });
        }
        Ok(Started::CopyOut { column_count, source })
    }
}

const SELECT: RowTag = RowTag::Counted("SELECT");

/// A plan with rows that has begun.
struct Rows {
    columns: Vec<OutputColumn>,
    stream: RowStream,
    tag: RowTag,
    /// Its listing, and whether it is a stream.
    listing: Option<(QueryListing, bool)>,
}

impl Rows {
    fn pump(self, delivery: Delivery) -> RowSource {
        let (listing, is_stream) = self.listing.unzip();
        let mut source = RowSource::start(self.stream, delivery, listing);
        source.is_stream = is_stream.unwrap_or(false);
        source
    }
}

fn ready_stream(batches: Vec<RecordBatch>) -> RowStream {
    Box::pin(stream::iter(batches.into_iter().map(Ok)))
}
