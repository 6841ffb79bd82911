//! `Piece`: what a source of changes emits at once, and `cut`, which makes them: a piece holds whole
//! commits, so that a sink nets what one commit says of a key, in whatever order it says it.
//!
//! ```text
//!   stamps   5 5 6 7 7 7 │ 8 8 8 8 8 8 8 8 8 8 8 8 8 8 │ 9 …       7 rows a piece, say
//!   pieces   └─────────┘   all come, or all go: └─┴─┘     some come and some go: one piece
//! ```

use std::collections::VecDeque;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int64Type,
};

/// Rows of a piece, unless one commit with rows that come and rows that go is larger.
pub(super) const PIECE_ROWS: usize = 8_192;

/// What is emitted at once.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// Rows of the start.
    Rows(RecordBatch),
    /// Changes.
    Changes {
        /// Columns of the table, time and diff.
        rows: RecordBatch,
        /// The time of the last one.
        stamp: u64,
        /// Whether its commit ends with it.
        is_end: bool,
    },
}

impl Piece {
    /// The time of its last change; 0 for rows of the start.
    pub(super) fn stamp(&self) -> u64 {
        match self {
            Self::Rows(_) => 0,
            Self::Changes { stamp, .. } => *stamp,
        }
    }
}

/// Cuts changes, whose times rise.
pub(super) fn cut(changes: &RecordBatch) -> VecDeque<Piece> {
    let numbers = |from_end: usize| {
        let column = changes.column(changes.num_columns() - from_end);
        column.as_primitive::<Int64Type>().values()
    };
    let (times, diffs) = (numbers(2), numbers(1));
    let mut pieces = VecDeque::new();
    let mut push = |start: usize, end: usize, is_end: bool| {
        if start < end {
            let (rows, stamp) = (changes.slice(start, end - start), times[end - 1] as u64);
            pieces.push_back(Piece::Changes { rows, stamp, is_end });
        }
    };
    let (mut start, mut commit) = (0, 0);
    while commit < times.len() {
        let end = commit + times[commit..].partition_point(|time| *time == times[commit]);
        if end - start > PIECE_ROWS {
            push(start, commit, true);
            start = commit;
        }
        let is_one_way = || diffs[commit..end].iter().all(|diff| *diff == diffs[commit]);
        if end - start > PIECE_ROWS && is_one_way() {
            while end - start > PIECE_ROWS {
                push(start, start + PIECE_ROWS, false);
                start += PIECE_ROWS;
            }
            push(start, end, true);
            start = end;
        }
        commit = end;
    }
    push(start, times.len(), true);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bigint_batch, bigint_schema};

    /// Rows, stamp and whether it is an end, of each piece of commits of so many rows with these diffs.
    fn pieces(commits: &[(usize, &[i64])]) -> Vec<(usize, u64, bool)> {
        let (mut times, mut diffs) = (Vec::new(), Vec::new());
        for (time, (rows, signs)) in (1..).zip(commits) {
            times.extend(std::iter::repeat_n(time, *rows));
            diffs.extend(signs.iter().cycle().take(*rows));
        }
        let changes = bigint_batch(&bigint_schema(&["_time", "_diff"]), &[&times, &diffs]);
        let of_piece = |piece: Piece| match piece {
            Piece::Changes { rows, stamp, is_end } => (rows.num_rows(), stamp, is_end),
            Piece::Rows(_) => panic!("no rows of a start"),
        };
        cut(&changes).into_iter().map(of_piece).collect()
    }

    #[test]
    fn commits_stay_whole_but_for_large_ones_that_only_add_or_only_remove() {
        let both: &[i64] = &[-1, 1];
        assert_eq!(pieces(&[(2, both), (1, &[1]), (3, &[-1])]), [(6, 3, true)]);
        let rest = PIECE_ROWS - 1;
        assert_eq!(pieces(&[(rest, &[1]), (2, both)]), [(rest, 1, true), (2, 2, true)]);
        let large = 2 * PIECE_ROWS + 3;
        assert_eq!(
            pieces(&[(1, &[1]), (large, &[-1]), (1, &[1])]),
            [
                (1, 1, true),
                (PIECE_ROWS, 2, false),
                (PIECE_ROWS, 2, false),
                (3, 2, true),
                (1, 3, true)
            ]
        );
        assert_eq!(pieces(&[(large, both), (1, &[1])]), [(large, 1, true), (1, 2, true)]);
        assert_eq!(pieces(&[(PIECE_ROWS, both)]), [(PIECE_ROWS, 1, true)]);
        assert_eq!(pieces(&[]), []);
    }
}
