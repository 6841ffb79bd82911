//! Routes what an instance emits to the queues of its targets. The next item leaves only when every
//! target has the one before, so order holds on every queue.

use std::sync::Arc;

use super::{
    queue::{Pushed, Queue},
    split::Splitter,
};
use crate::{Result, item::Item, processor::Outbox};

/// How rows leave on one edge; control items always go to every queue.
pub enum Router {
    /// To any queue with room.
    Any,
    /// By key.
    Key(Splitter),
    /// To every queue. Also for edges with one queue (isolated, to-one).
    All,
}

/// One outgoing edge of one instance.
pub struct OutEdge {
    router: Router,
    queues: Vec<Arc<Queue>>,
    /// Queue that unicast tries first.
    next: usize,
}

/// All outgoing edges of one instance.
pub struct Outbound {
    edges: Vec<OutEdge>,
    /// Parts of the present item that are still to be delivered.
    deliveries: Vec<Delivery>,
}

struct Delivery {
    edge: usize,
    /// `None`: any queue with room.
    queue: Option<usize>,
    item: Item,
}

/// What a flush came to.
pub struct Flushed {
    /// Something was delivered.
    pub has_moved: bool,
    /// Nothing is left.
    pub is_clear: bool,
}

impl OutEdge {
    /// An edge to these queues.
    pub fn new(router: Router, queues: Vec<Arc<Queue>>) -> Self {
        Self { router, queues, next: 0 }
    }
}

impl Outbound {
    /// Whether nothing leaves: the instance is a sink's.
    pub fn is_nowhere(&self) -> bool {
        self.edges.is_empty()
    }

    /// Over the edges of an instance.
    pub fn new(edges: Vec<OutEdge>) -> Self {
        Self { edges, deliveries: Vec::new() }
    }

    /// Delivers what is in the outbox until a queue refuses. `seen` is shown every item once.
    pub fn flush(&mut self, outbox: &mut Outbox, mut seen: impl FnMut(&Item)) -> Result<Flushed> {
        let mut has_moved = self.deliver();
        while self.deliveries.is_empty() {
            let Some(item) = outbox.take() else {
                return Ok(Flushed { has_moved, is_clear: true });
            };
            seen(&item);
            has_moved = true;
            self.stage(item)?;
            self.deliver();
        }
        Ok(Flushed { has_moved, is_clear: false })
    }

    /// Whether there were targets and all have ended: nobody needs what comes.
    pub fn is_abandoned(&self) -> bool {
        !self.edges.is_empty()
            && self.edges.iter().all(|edge| edge.queues.iter().all(|queue| queue.is_closed()))
    }

    fn stage(&mut self, item: Item) -> Result<()> {
        let Self { edges, deliveries } = self;
        let Some(last) = edges.len().checked_sub(1) else { return Ok(()) };
        for (edge, out) in edges.iter_mut().enumerate().take(last) {
            out.stage(edge, item.clone(), deliveries)?;
        }
        edges[last].stage(last, item, deliveries)
    }

    /// Tries every delivery once; whether one succeeded.
    fn deliver(&mut self) -> bool {
        let before = self.deliveries.len();
        let mut kept = 0;
        for index in 0..before {
            let delivery = &mut self.deliveries[index];
            let item = std::mem::replace(&mut delivery.item, Item::Done);
            if let Some(refused) = self.edges[delivery.edge].push(delivery.queue, item) {
                delivery.item = refused;
                self.deliveries.swap(kept, index);
                kept += 1;
            }
        }
        self.deliveries.truncate(kept);
        kept < before
    }
}

impl OutEdge {
    fn stage(&mut self, edge: usize, item: Item, out: &mut Vec<Delivery>) -> Result<()> {
        match (&mut self.router, item) {
            (Router::Any, item @ Item::Batch(_)) => out.push(Delivery { edge, queue: None, item }),
            (Router::Key(splitter), Item::Batch(batch)) => {
                splitter.split(batch, |target, part| {
                    let item = Item::Batch(part);
                    out.push(Delivery { edge, queue: Some(target), item });
                })?;
            }
            (_, item) => {
                let Some(last) = self.queues.len().checked_sub(1) else { return Ok(()) };
                let to = |queue, item| Delivery { edge, queue: Some(queue), item };
                out.extend((0..last).map(|queue| to(queue, item.clone())));
                out.push(to(last, item));
            }
        }
        Ok(())
    }

    /// Pushes; hands the item back if there is no room.
    fn push(&mut self, queue: Option<usize>, mut item: Item) -> Option<Item> {
        if let Some(queue) = queue {
            return match self.queues[queue].push(item) {
                Pushed::Full(item) => Some(item),
                Pushed::Taken | Pushed::Closed => None,
            };
        }
        let mut open = 0;
        for _ in 0..self.queues.len() {
            let queue = self.next;
            self.next = (self.next + 1) % self.queues.len();
            if self.queues[queue].is_closed() {
                continue;
            }
            open += 1;
            match self.queues[queue].push(item) {
                Pushed::Taken => return None,
                Pushed::Closed => return None,
                Pushed::Full(refused) => item = refused,
            }
        }
        (open > 0).then_some(item)
    }
}
