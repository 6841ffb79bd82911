//! Bids: 46 in fifty events, so the only record whose speed matters.

use arrow::{
    array::ArrayRef,
    buffer::NullBuffer,
    datatypes::{DataType, Fields, TimeUnit},
};

use super::{
    super::{
        random::{Sequence, Stream, scale},
        text,
    },
    model::{Batch, Event, FIRST_ID, Prices, Record, hot, recent_auction, recent_person},
    record_fields,
};
use crate::{Error, Result};

const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
/// Channels that are not hot.
const CHANNELS: u64 = 10_000;
/// Average bytes of a bid, filler included, and those of its numbers and time.
const AVERAGE_LEN: usize = 100;
const FIXED_LEN: usize = 32;

/// Its fields.
pub fn fields() -> Fields {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    record_fields(&[
        ("auction", DataType::Int64),
        ("bidder", DataType::Int64),
        ("price", DataType::Int64),
        ("channel", DataType::Utf8),
        ("url", DataType::Utf8),
        ("date_time", time),
        ("extra", DataType::Utf8),
    ])
}

/// Where a bid came from.
#[derive(Debug, Clone, Copy)]
enum Channel {
    Hot(usize),
    Other(u64),
}

fn channel(draws: Stream, event: Event) -> Channel {
    let bits = draws.at(event.number);
    let is_hot = bits & 1 == 0;
    if is_hot {
        return Channel::Hot((bits >> 1 & 3) as usize);
    }
    Channel::Other(scale(bits, CHANNELS))
}

/// Appends the url of a channel: fixed for each, nine of ten cold ones with a `channel_id`.
fn write_url(urls: Stream, channel: Channel, out: &mut Vec<u8>) {
    let place = match channel {
        Channel::Hot(index) => CHANNELS + index as u64,
        Channel::Other(number) => number,
    };
    let mut random = Sequence::new(urls.at(place));
    out.extend_from_slice(b"https://www.nexmark.com/");
    for _ in 0..3 {
        let length = text::word_len(&mut random, 5);
        text::spaced(&mut random, length, b'_', out);
        out.push(b'/');
    }
    out.extend_from_slice(b"item.htm?query=1");
    if let Channel::Other(number) = channel
        && random.below(10) > 0
    {
        out.extend_from_slice(b"&channel_id=");
        let reversed = (number as u32).reverse_bits() as i32;
        text::digits(u64::from(reversed.unsigned_abs()), 1, out);
    }
}

/// The column of field `position` of [`fields`].
pub fn child(batch: &Batch, position: usize, nulls: &NullBuffer) -> Result<ArrayRef> {
    let stream = |field: u64| batch.stream(300 + field);
    let channels = stream(4);
    match position {
        0 => {
            let draws = stream(1);
            Ok(batch.integers(Record::Bid, nulls, |event| {
                let bits = draws.at(event.number);
                let is_hot = bits & 1 == 0;
                let recent = recent_auction(event, bits);
                let auction = if is_hot { hot(event.last_auction) } else { recent };
                (auction + FIRST_ID) as i64
            }))
        }
        1 => {
            let draws = stream(2);
            Ok(batch.integers(Record::Bid, nulls, |event| {
                let bits = draws.at(event.number);
                let is_hot = bits & 3 != 0;
                let recent = recent_person(event, bits);
                let person = if is_hot { hot(event.last_person) + 1 } else { recent };
                (person + FIRST_ID) as i64
            }))
        }
        2 => {
            let (draws, prices) = (stream(3), Prices::new());
            Ok(batch.integers(Record::Bid, nulls, |event| prices.at(draws.at(event.number))))
        }
        3 => batch.texts(Record::Bid, nulls, |event, out| match channel(channels, event) {
            Channel::Hot(index) => out.extend_from_slice(HOT_CHANNELS[index].as_bytes()),
            Channel::Other(number) => {
                out.extend_from_slice(b"channel-");
                text::digits(number, 1, out);
            }
        }),
        4 => {
            let urls = stream(5);
            batch.texts(Record::Bid, nulls, |event, out| {
                write_url(urls, channel(channels, event), out);
            })
        }
        5 => Ok(batch.date_times(nulls)),
        6 => {
            let draws = stream(7);
            batch.texts(Record::Bid, nulls, |event, out| {
                let mut random = Sequence::new(draws.at(event.number));
                let length = text::filler_len(&mut random, FIXED_LEN, AVERAGE_LEN);
                text::letters(&mut random, length, out);
            })
        }
        _ => Err(Error::Internal(format!("bid has no field {position}"))),
    }
}
