//! `Mailbox`: an owner's door for operations that come as bytes. It knows a repeated operation by
//! its id and answers it as the first time, so that a caller may send again whatever it heard no
//! answer to.
//!
//! ```text
//! ids of one caller   … 17 18 19 20 21 22
//!                       ──────┬─ └──┴──┴── unanswered_from = 20: answers are remembered
//!                             └─ answered, so never sent again: forgotten, and refused if one
//!                                still arrives from somewhere on the way
//! ```
//! Every request says from which id on its caller may still ask again. What is remembered is
//! therefore bounded by what one caller has under way.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::{
    codec,
    op::{Answer, Output, Request, Status},
    owner::Owner,
};
use crate::Result;

/// Answers remembered at once; more operations that change rows are told to come again.
const REMEMBERED_MAX: usize = 4096;

/// One owner's door.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// Held for a look, never while an operation runs.
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// Ids below were answered: whatever still comes of them is late.
    from: u64,
    /// Encoded answers by id; `None` while the operation runs.
    answers: BTreeMap<u64, Option<Vec<u8>>>,
}

/// What the mailbox knows of an operation before it runs.
enum Known {
    /// It is new.
    New,
    /// It was answered so.
    Answered(Vec<u8>),
    /// It may not run: late, under way, or too much is.
    Refused(Status),
}

impl Mailbox {
    /// Executes an encoded request, at most once; answers it encoded.
    pub(crate) fn receive(&self, owner: &Owner, bytes: &[u8]) -> Result<Vec<u8>> {
        let request = codec::decode_request(bytes)?;
        if !request.op.changes_rows() {
            return codec::encode_answer(owner.execute(&request));
        }
        match self.remembered.lock().ask(&request) {
            Known::New => {}
            Known::Answered(answer) => return Ok(answer),
            Known::Refused(status) => {
                let left = request.op.runs();
                return codec::encode_answer(Ok(Answer::left(status, Output::Nothing, left)));
            }
        }
        let answer = codec::encode_answer(owner.execute(&request))?;
        self.remembered.lock().answered(request.id, &answer);
        Ok(answer)
    }

    /// Number of answers remembered.
    #[cfg(test)]
    pub(crate) fn remembered_count(&self) -> usize {
        self.remembered.lock().answers.len()
    }
}

impl Remembered {
    fn ask(&mut self, request: &Request<'_>) -> Known {
        if request.unanswered_from > self.from {
            self.from = request.unanswered_from;
            self.answers = self.answers.split_off(&self.from);
        }
        if request.id < self.from {
            return Known::Refused(Status::Moved);
        }
        match self.answers.get(&request.id) {
            Some(Some(answer)) => Known::Answered(answer.clone()),
            Some(None) => Known::Refused(Status::Retry { writer: None }),
            None if self.answers.len() >= REMEMBERED_MAX => {
                Known::Refused(Status::Retry { writer: None })
            }
            None => {
                self.answers.insert(request.id, None);
                Known::New
            }
        }
    }

    fn answered(&mut self, id: u64, answer: &[u8]) {
        if let Some(place) = self.answers.get_mut(&id) {
            *place = Some(answer.to_vec());
        }
    }
}
