//! DECLARE, FETCH, MOVE, CLOSE. A cursor is a portal whose rows are kept as batches, because each
//! FETCH may ask for another format. Over a stream, FETCH n waits until n rows came.

use std::sync::Arc;

use planner::{Error, OutputColumn, Statement};

use crate::{
    answer::Progress,
    connection::{Connection, Failure},
    execute::{Started, Work},
    rows::{Chunk, RowSource},
    session::{OpenRows, Portal, PortalState, RowTag},
    wire::{
        outbound::FLUSH_BYTES,
        types::{Format, RowEncoder},
    },
};

impl Connection {
    /// DECLARE name CURSOR FOR query.
    pub async fn declare(
        &mut self,
        name: &str,
        statement: Statement,
        is_hold: bool,
    ) -> Result<&'static str, Failure> {
        if !is_hold {
            self.require_block("DECLARE CURSOR")?;
        }
        let started = self.start(Work::Statement(statement), Vec::new(), true).await?;
        let Started::Rows { columns, source, tag } = started else {
            return Err(Error::new("42601", "a cursor needs a query that returns rows").into());
        };
        let open = OpenRows { columns, source, tag, is_hold };
        let portal = Portal {
            entry: None,
            values: Vec::new(),
            formats: Vec::new(),
            state: PortalState::Open(open),
        };
        self.session.add_portal(name, portal)?;
        Ok("DECLARE CURSOR")
    }

    /// FETCH and MOVE. The rows are sent by the caller, as those of any statement.
    pub async fn fetch(
        &mut self,
        name: &str,
        count: Option<u64>,
        is_move: bool,
        formats: &[Format],
    ) -> Result<Progress, Failure> {
        let (name, mut portal) =
            self.session.portals.remove_entry(name).ok_or_else(|| no_such_cursor(name))?;
        let result = match &mut portal.state {
            PortalState::Open(open) => self.fetch_from(open, count, is_move, formats).await,
            PortalState::Bound | PortalState::Done(_) => Err(no_such_cursor(&name).into()),
        };
        // An error closes the cursor: its block has failed, or its rows have.
        if result.is_ok() {
            self.session.portals.insert(name, portal);
        }
        result
    }

    async fn fetch_from(
        &mut self,
        open: &mut OpenRows,
        count: Option<u64>,
        is_move: bool,
        formats: &[Format],
    ) -> Result<Progress, Failure> {
        if is_move {
            let skipped = self.drain(&mut open.source, count, None).await?;
            return Ok(Progress::Done(RowTag::Counted("MOVE").text(skipped.rows)));
        }
        let encoder = RowEncoder::new(&open.columns, formats, self.session.zone)?;
        let chunks = self.gather(open, count, &encoder).await?;
        Ok(Progress::Rows(OpenRows {
            columns: Arc::clone(&open.columns),
            source: RowSource::ready(chunks),
            tag: RowTag::Counted("FETCH"),
            is_hold: false,
        }))
    }

    /// Waits for the rows of a FETCH. They are encoded aside, because in the simple protocol their
    /// description must come first; at most [`FETCH_BYTES_MAX`] of them.
    async fn gather(
        &mut self,
        open: &mut OpenRows,
        count: Option<u64>,
        encoder: &RowEncoder,
    ) -> Result<Vec<Chunk>, Failure> {
        let mut chunks = Vec::new();
        let mut left = count.unwrap_or(u64::MAX);
        let mut bytes = 0;
        while left > 0 {
            let Self { inbound, guard, shared, .. } = self;
            let next = open.source.next();
            let next = Self::guarded(inbound, guard, &shared.shutdown, next).await??;
            let Some(mut chunk) = next else { break };
            if chunk.rows() as u64 > left {
                let rest = chunk.split_off(left as usize);
                open.source.put_back(rest);
            }
            let rows = chunk.rows();
            let mut frames = bytes::BytesMut::new();
            chunk.write(encoder, &mut frames)?;
            open.source.sent(rows);
            left -= rows as u64;
            bytes += frames.len();
            if bytes > FETCH_BYTES_MAX {
                let message = format!("a FETCH answers at most {FETCH_BYTES_MAX} bytes");
                let hint = "Fetch fewer rows at a time.";
                return Err(Error::new("54000", message).with_hint(hint).into());
            }
            chunks.push(Chunk::Frames { frames, rows });
        }
        Ok(chunks)
    }

    /// CLOSE name, CLOSE ALL.
    pub fn close_cursor(&mut self, name: Option<&str>) -> Result<&'static str, Error> {
        match name {
            Some(name) => {
                self.session.portals.remove(name).ok_or_else(|| no_such_cursor(name))?;
                Ok("CLOSE CURSOR")
            }
            None => {
                self.session
                    .portals
                    .retain(|_, portal| !matches!(portal.state, PortalState::Open(_)));
                Ok("CLOSE CURSOR ALL")
            }
        }
    }

    /// Columns of an open cursor.
    pub fn cursor_columns(&self, name: &str) -> Result<Arc<[OutputColumn]>, Error> {
        match self.session.portals.get(name).map(|portal| &portal.state) {
            Some(PortalState::Open(open)) => Ok(Arc::clone(&open.columns)),
            _ => Err(no_such_cursor(name)),
        }
    }
}

/// Bytes that one FETCH gathers at most.
const FETCH_BYTES_MAX: usize = 4096 * FLUSH_BYTES;

fn no_such_cursor(name: &str) -> Error {
    Error::new("34000", format!("cursor \"{name}\" does not exist"))
}
