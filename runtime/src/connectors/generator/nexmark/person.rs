//! Persons: who sells and bids. One in fifty events.

use arrow::{
    array::ArrayRef,
    buffer::NullBuffer,
    datatypes::{DataType, Fields, TimeUnit},
};

use super::{
    super::{
        random::{Sequence, Stream},
        text,
    },
    model::{Batch, Event, FIRST_ID, Record},
    record_fields,
};
use crate::{Error, Result};

const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// Average bytes of a person, filler included.
const AVERAGE_LEN: usize = 200;
/// Four groups of four digits and the blanks between them.
const CREDIT_CARD_LEN: usize = 19;

/// Its fields.
pub fn fields() -> Fields {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    record_fields(&[
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("email_address", DataType::Utf8),
        ("credit_card", DataType::Utf8),
        ("city", DataType::Utf8),
        ("state", DataType::Utf8),
        ("date_time", time),
        ("extra", DataType::Utf8),
    ])
}

/// The draws of its fields.
struct Draws {
    name: Stream,
    email: Stream,
    card: Stream,
    city: Stream,
    state: Stream,
    extra: Stream,
}

impl Draws {
    fn first_name(&self, event: Event) -> &'static str {
        FIRST_NAMES[Sequence::new(self.name.at(event.number)).below(11) as usize]
    }

    fn last_name(&self, event: Event) -> &'static str {
        LAST_NAMES[self.name.below(!event.number, 9) as usize]
    }

    fn city(&self, event: Event) -> &'static str {
        CITIES[self.city.below(event.number, 10) as usize]
    }

    /// `word@word.com`: the lengths of its words, and where their letters come from.
    fn email(&self, event: Event) -> (usize, usize, Sequence) {
        let mut random = Sequence::new(self.email.at(event.number));
        (text::word_len(&mut random, 7), text::word_len(&mut random, 5), random)
    }

    /// Bytes of everything but the filler.
    fn len(&self, event: Event) -> usize {
        let (user, host, _) = self.email(event);
        let name = self.first_name(event).len() + 1 + self.last_name(event).len();
        8 + name + user + host + "@.com".len() + CREDIT_CARD_LEN + self.city(event).len() + 2
    }
}

/// The column of field `position` of [`fields`].
pub fn child(batch: &Batch, position: usize, nulls: &NullBuffer) -> Result<ArrayRef> {
    let stream = |field: u64| batch.stream(100 + field);
    let draws = Draws {
        name: stream(1),
        email: stream(2),
        card: stream(3),
        city: stream(4),
        state: stream(5),
        extra: stream(7),
    };
    let texts = |write: &dyn Fn(Event, &mut Vec<u8>)| batch.texts(Record::Person, nulls, write);
    match position {
        0 => {
            Ok(batch.integers(Record::Person, nulls, |event| (event.last_person + FIRST_ID) as i64))
        }
        1 => texts(&|event, out| {
            out.extend_from_slice(draws.first_name(event).as_bytes());
            out.push(b' ');
            out.extend_from_slice(draws.last_name(event).as_bytes());
        }),
        2 => texts(&|event, out| {
            let (user, host, mut random) = draws.email(event);
            text::letters(&mut random, user, out);
            out.push(b'@');
            text::letters(&mut random, host, out);
            out.extend_from_slice(b".com");
        }),
        3 => texts(&|event, out| {
            let mut random = Sequence::new(draws.card.at(event.number));
            for group in 0..4 {
                if group > 0 {
                    out.push(b' ');
                }
                text::digits(random.below(10_000), 4, out);
            }
        }),
        4 => texts(&|event, out| out.extend_from_slice(draws.city(event).as_bytes())),
        5 => texts(&|event, out| {
            let state = STATES[draws.state.below(event.number, 6) as usize];
            out.extend_from_slice(state.as_bytes());
        }),
        6 => Ok(batch.date_times(nulls)),
        7 => texts(&|event, out| {
            let mut random = Sequence::new(draws.extra.at(event.number));
            let length = text::filler_len(&mut random, draws.len(event), AVERAGE_LEN);
            text::letters(&mut random, length, out);
        }),
        _ => Err(Error::Internal(format!("person has no field {position}"))),
    }
}
