//! Auctions: what is sold. Three in fifty events.

use arrow::{
    array::ArrayRef,
    buffer::NullBuffer,
    datatypes::{DataType, Fields, TimeUnit},
};

use super::{
    super::{random::Sequence, text},
    model::{AUCTION_EVENTS, Batch, Event, FIRST_ID, Prices, Record, hot, recent_person},
    record_fields,
};
use crate::{Error, Result};

const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// Random texts are shorter than this.
const NAME_LIMIT: u64 = 20;
const DESCRIPTION_LIMIT: u64 = 100;
/// Average bytes of an auction, filler included.
const AVERAGE_LEN: usize = 500;
/// Bytes of its numbers and times.
const FIXED_LEN: usize = 8 * 7;

/// Its fields.
pub fn fields() -> Fields {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    record_fields(&[
        ("id", DataType::Int64),
        ("item_name", DataType::Utf8),
        ("description", DataType::Utf8),
        ("initial_bid", DataType::Int64),
        ("reserve", DataType::Int64),
        ("date_time", time.clone()),
        ("expires", time),
        ("seller", DataType::Int64),
        ("category", DataType::Int64),
        ("extra", DataType::Utf8),
    ])
}

/// The column of field `position` of [`fields`].
pub fn child(batch: &Batch, position: usize, nulls: &NullBuffer) -> Result<ArrayRef> {
    let stream = |field: u64| batch.stream(200 + field);
    let (name, description) = (stream(1), stream(2));
    let (first_price, reserve) = (stream(3), stream(4));
    let random_text = |bits: u64, limit: u64| {
        let mut random = Sequence::new(bits);
        (text::word_len(&mut random, limit), random)
    };
    let integers = |value: &dyn Fn(Event) -> i64| Ok(batch.integers(Record::Auction, nulls, value));
    let texts = |write: &dyn Fn(Event, &mut Vec<u8>)| batch.texts(Record::Auction, nulls, write);
    match position {
        0 => integers(&|event| (event.last_auction + FIRST_ID) as i64),
        1 => texts(&|event, out| {
            let (length, mut random) = random_text(name.at(event.number), NAME_LIMIT);
            text::spaced(&mut random, length, b' ', out);
        }),
        2 => texts(&|event, out| {
            let (length, mut random) = random_text(description.at(event.number), DESCRIPTION_LIMIT);
            text::spaced(&mut random, length, b' ', out);
        }),
        3 => {
            let prices = Prices::new();
            integers(&|event| prices.at(first_price.at(event.number)))
        }
        4 => {
            let prices = Prices::new();
            integers(&|event| {
                prices.at(first_price.at(event.number)) + prices.at(reserve.at(event.number))
            })
        }
        5 => Ok(batch.date_times(nulls)),
        6 => {
            let length = stream(6);
            Ok(batch.timestamps(Record::Auction, nulls, |event| {
                let begin = batch.schedule.time_of(event.number);
                let later = batch.schedule.time_of(event.number + AUCTION_EVENTS);
                let horizon_ms = ((later - begin) / 1000).max(0) as u64;
                let length_ms = 1 + length.below(event.number, (2 * horizon_ms).max(1));
                batch.times[event.row] + length_ms as i64 * 1000
            }))
        }
        7 => {
            let seller = stream(7);
            integers(&|event| {
                let bits = seller.at(event.number);
                let is_hot = bits & 3 != 0;
                let person =
                    if is_hot { hot(event.last_person) } else { recent_person(event, bits) };
                (person + FIRST_ID) as i64
            })
        }
        8 => {
            let category = stream(8);
            integers(&|event| (FIRST_CATEGORY + category.below(event.number, CATEGORIES)) as i64)
        }
        9 => {
            let extra = stream(9);
            texts(&|event, out| {
                let (name_len, _) = random_text(name.at(event.number), NAME_LIMIT);
                let (text_len, _) = random_text(description.at(event.number), DESCRIPTION_LIMIT);
                let mut random = Sequence::new(extra.at(event.number));
                let size = FIXED_LEN + name_len + text_len;
                let length = text::filler_len(&mut random, size, AVERAGE_LEN);
                text::letters(&mut random, length, out);
            })
        }
        _ => Err(Error::Internal(format!("auction has no field {position}"))),
    }
}
