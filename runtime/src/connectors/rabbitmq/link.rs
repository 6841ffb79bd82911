//! `Link`: the seam to a broker: what one instance hears and says. Nothing waits here; whoever holds
//! the other end wakes the instance when there is news.
//!
//! A tag is of one connection. What is said about tags of a connection that is gone is not passed on.

use std::sync::Arc;

use crate::{Error, Result, processor::ProcessorContext};

/// What an instance hears.
#[derive(Debug)]
pub enum Event {
    /// A connection stands; tags begin anew.
    Connected,
    /// A message.
    Delivered(Delivery),
    /// The broker has forgotten all messages up to a tag.
    Answered(u64),
    /// The connection is gone; another one will stand later.
    Lost,
    /// There will be none.
    Failed(Error),
}

/// A message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What it is acknowledged by.
    pub tag: u64,
    /// `message_id`.
    pub id: Option<String>,
    /// What is in it.
    pub body: Vec<u8>,
}

/// One instance's end of a connection.
pub trait Link: Send {
    /// What has happened next; `None` if nothing has.
    fn next(&mut self) -> Option<Event>;

    /// Acknowledges all messages of the present connection up to a tag. An answer follows.
    fn acknowledge(&mut self, up_to: u64);

    /// Messages that have come and were not heard of, and their bytes.
    fn waiting(&self) -> (usize, usize);
}

/// What links lead to.
pub trait Broker: Send + Sync {
    /// A link for an instance, with or without a connection.
    fn link(&self, context: &ProcessorContext) -> Result<Box<dyn Link>>;
}

/// A broker that the instances of one execution share.
pub type SharedBroker = Arc<dyn Broker>;
