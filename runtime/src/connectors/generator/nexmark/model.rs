//! What the three records share: which number is which record, who refers to whom, prices, and the
//! loops that fill a column of one record within a batch.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BooleanBufferBuilder, Int64Array, StringArray, new_null_array},
    buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::DataType,
};

use super::super::{
    random::{Stream, scale},
    schedule::Schedule,
    sequence::time_or_integer,
};
use crate::Result;

/// Events of one epoch.
const EPOCH: u64 = 50;

/// Ids of persons and auctions begin here.
pub const FIRST_ID: u64 = 1000;
/// References to persons go to the last so many …
const ACTIVE_PEOPLE: u64 = 1000;
/// … and to so many that do not exist yet.
const ID_LEAD: u64 = 10;
/// Bids go to the last so many auctions.
const AUCTIONS_IN_FLIGHT: u64 = 100;
/// One person and one auction of each block of so many is hot.
const HOT_BLOCK: u64 = 100;
/// An auction is open until about so many events later: 100 auctions.
pub const AUCTION_EVENTS: u64 = AUCTIONS_IN_FLIGHT * EPOCH / 3;

/// Steps of the table of powers: 10^(6·i/1024) · 100.
const POWERS: usize = 1024;
/// 10^(6/1024), written out so that every machine makes the same prices.
const POWER_STEP: f64 = 1.013_583_133_334_065_8;
/// ln(10) · 6/1024.
const LOG_STEP: f64 = 0.013_491_709_529_261_986;

/// One of the three kinds of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// `event_type` 0.
    Person,
    /// `event_type` 1.
    Auction,
    /// `event_type` 2.
    Bid,
}

impl Record {
    /// Its numbers modulo 50.
    fn turns(self) -> Range<u64> {
        match self {
            Record::Person => 0..1,
            Record::Auction => 1..4,
            Record::Bid => 4..EPOCH,
        }
    }
}

/// An event of one record.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Row in the batch.
    pub row: usize,
    /// Its number.
    pub number: u64,
    /// The newest person before it, counted from 0.
    pub last_person: u64,
    /// The newest auction up to it, counted from 0.
    pub last_auction: u64,
}

/// A run of numbers to make columns of.
pub struct Batch<'a> {
    first: u64,
    /// Rows.
    pub length: usize,
    seed: u64,
    /// When events happen.
    pub schedule: &'a Schedule,
    /// Their event times, µs.
    pub times: &'a [i64],
}

impl<'a> Batch<'a> {
    /// The numbers `first .. first + length`; `times` are their event times.
    pub fn new(
        first: u64,
        length: usize,
        seed: u64,
        schedule: &'a Schedule,
        times: &'a [i64],
    ) -> Self {
        Self { first, length, seed, schedule, times }
    }

    /// The draws of one field.
    pub fn stream(&self, field: u64) -> Stream {
        Stream::new(self.seed, field)
    }

    /// `event_type` of each row.
    pub fn kinds(&self) -> impl Iterator<Item = i32> {
        let first = self.first;
        (0..self.length as u64).map(move |row| match (first + row) % EPOCH {
            0 => 0,
            1..4 => 1,
            _ => 2,
        })
    }

    /// Rows that are not of `record` are null.
    pub fn nulls(&self, record: Record) -> NullBuffer {
        let mut valid = BooleanBufferBuilder::new(self.length);
        self.runs(record, |rows, _| {
            valid.append_n(rows.start - valid.len(), false);
            valid.append_n(rows.len(), true);
        });
        valid.append_n(self.length - valid.len(), false);
        NullBuffer::new(valid.finish())
    }

    /// A child nobody reads.
    pub fn unread(&self, data_type: &DataType, nulls: &NullBuffer) -> Result<ArrayRef> {
        Ok(match data_type {
            DataType::Int64 | DataType::Timestamp(_, _) => {
                let zeros = time_or_integer(vec![0; self.length], data_type);
                with_nulls(&zeros, nulls)?
            }
            other => new_null_array(other, self.length),
        })
    }

    /// A BIGINT child.
    pub fn integers(
        &self,
        record: Record,
        nulls: &NullBuffer,
        value: impl Fn(Event) -> i64,
    ) -> ArrayRef {
        Arc::new(Int64Array::new(self.fill(record, value), Some(nulls.clone())))
    }

    /// A TIMESTAMP child.
    pub fn timestamps(
        &self,
        record: Record,
        nulls: &NullBuffer,
        value: impl Fn(Event) -> i64,
    ) -> ArrayRef {
        let values = self.fill(record, value);
        Arc::new(arrow::array::TimestampMicrosecondArray::new(values, Some(nulls.clone())))
    }

    /// `date_time` of a record: the event's.
    pub fn date_times(&self, nulls: &NullBuffer) -> ArrayRef {
        let values = ScalarBuffer::from(self.times.to_vec());
        Arc::new(arrow::array::TimestampMicrosecondArray::new(values, Some(nulls.clone())))
    }

    /// A TEXT child: `write` appends the ASCII text of an event.
    pub fn texts(
        &self,
        record: Record,
        nulls: &NullBuffer,
        write: impl Fn(Event, &mut Vec<u8>),
    ) -> Result<ArrayRef> {
        let mut bytes = Vec::new();
        let mut offsets: Vec<i32> = Vec::with_capacity(self.length + 1);
        offsets.push(0);
        self.each(record, |event| {
            // Rows of other records before this one are empty.
            offsets.resize(event.row + 1, bytes.len() as i32);
            write(event, &mut bytes);
            offsets.push(bytes.len() as i32);
        });
        offsets.resize(self.length + 1, bytes.len() as i32);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let array = StringArray::try_new(offsets, Buffer::from_vec(bytes), Some(nulls.clone()))?;
        Ok(Arc::new(array))
    }

    fn fill(&self, record: Record, value: impl Fn(Event) -> i64) -> ScalarBuffer<i64> {
        let mut values = vec![0; self.length];
        self.each(record, |event| values[event.row] = value(event));
        ScalarBuffer::from(values)
    }

    fn each(&self, record: Record, mut visit: impl FnMut(Event)) {
        let first = self.first;
        self.runs(record, |rows, epoch| {
            for row in rows {
                let number = first + row as u64;
                // Auctions count themselves, bids all three of their epoch; no person asks.
                let turn = (number - epoch * EPOCH).min(3);
                let last_auction = (epoch * 3 + turn).saturating_sub(1);
                visit(Event { row, number, last_person: epoch, last_auction });
            }
        });
    }

    /// Calls `visit` with each run of rows of `record` and its epoch: no division per row.
    fn runs(&self, record: Record, mut visit: impl FnMut(Range<usize>, u64)) {
        let end = self.first + self.length as u64;
        let turns = record.turns();
        for epoch in self.first / EPOCH..=(end - 1) / EPOCH {
            let from = (epoch * EPOCH + turns.start).max(self.first);
            let to = (epoch * EPOCH + turns.end).min(end);
            if from < to {
                visit((from - self.first) as usize..(to - self.first) as usize, epoch);
            }
        }
    }
}

fn with_nulls(array: &ArrayRef, nulls: &NullBuffer) -> Result<ArrayRef> {
    let data = array.to_data().into_builder().nulls(Some(nulls.clone())).build()?;
    Ok(arrow::array::make_array(data))
}

/// A person that events refer to now: one of the last 1000, or of the next 10. Without the offset.
pub fn recent_person(event: Event, bits: u64) -> u64 {
    let people = event.last_person + 1;
    let active = people.min(ACTIVE_PEOPLE);
    people - active + scale(bits, active + ID_LEAD)
}

/// An auction that is bid on now: one of the last 100, or of the next 10. Without the offset.
pub fn recent_auction(event: Event, bits: u64) -> u64 {
    let oldest = event.last_auction.saturating_sub(AUCTIONS_IN_FLIGHT);
    oldest + scale(bits, event.last_auction - oldest + 1 + ID_LEAD)
}

/// The first of the block of 100 that `last` is in.
pub fn hot(last: u64) -> u64 {
    last / HOT_BLOCK * HOT_BLOCK
}

/// Prices: 10^(6u) · 100 for a uniform u, rounded: as many below 10 000 as above a million.
pub struct Prices(Box<[f64; POWERS]>);

impl Prices {
    /// The table of powers.
    pub fn new() -> Self {
        let mut powers = Box::new([100.0; POWERS]);
        for index in 1..POWERS {
            powers[index] = powers[index - 1] * POWER_STEP;
        }
        Self(powers)
    }

    /// The price of 64 random bits. The rest beyond the table's step is e^y by its series; y is
    /// below 0.014, so four terms are exact to a hundredth.
    #[inline]
    pub fn at(&self, bits: u64) -> i64 {
        let index = (bits >> 54) as usize;
        let rest = ((bits << 10) >> 11) as f64 / (1_u64 << 53) as f64;
        let y = rest * LOG_STEP;
        let power = 1.0 + y * (1.0 + y * (0.5 + y * (1.0 / 6.0 + y / 24.0)));
        (self.0[index] * power + 0.5) as i64
    }
}
