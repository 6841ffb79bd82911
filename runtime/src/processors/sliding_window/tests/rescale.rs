//! State that moves into another number of instances: the windows that come out are the same.

use storage::{
    Grid, GridConfig,
    env::{Env, Rng},
    partition::{hash_columns, partition_of_hash},
};

use super::{
    model::{Event, delta, model_spec, random_events, row_text},
    *,
};
use crate::{
    item::{Item, Watermark},
    processor::{Done, Inbox, Outbox, Processor, ProcessorContext},
    processors::sliding_window::split::taken,
    state::{StateChunk, StateWriter, instance_of},
    testing,
};

/// The instances of a window vertex, and what they have emitted.
struct Vertex {
    grid: Arc<Grid>,
    instances: Vec<Box<dyn Processor>>,
    outbox: Outbox,
    emitted: Vec<String>,
}

impl Vertex {
    fn new(grid: &Arc<Grid>, spec: &SlidingWindowSpec, parallelism: usize) -> Self {
        let mut instances = sliding_window(spec.clone()).create(parallelism).unwrap();
        for (index, instance) in instances.iter_mut().enumerate() {
            let context = ProcessorContext { index, parallelism, ..testing::context(grid) };
            instance.init(&context).unwrap();
        }
        let (grid, emitted) = (Arc::clone(grid), Vec::new());
        Self { grid, instances, outbox: Outbox::new(1 << 16), emitted }
    }

    /// As a partitioned edge and its tasklets do.
    fn take(&mut self, event: &Event) {
        match event {
            Event::Rows(rows) => {
                let batch = delta(rows);
                let mut hashes = Vec::new();
                hash_columns(&batch.rows.columns()[1..2], &mut hashes).unwrap();
                let partition_count = self.grid.config().partition_count;
                let count = self.instances.len();
                for (index, instance) in self.instances.iter_mut().enumerate() {
                    let is_its = |hash| {
                        instance_of(partition_of_hash(hash, partition_count), count) == index
                    };
                    let positions = (0..hashes.len()).filter(|&row| is_its(hashes[row]));
                    let part = taken(&batch, positions.map(|row| row as u32).collect()).unwrap();
                    let mut inbox = Inbox::default();
                    inbox.push(part);
                    while !inbox.is_empty() {
                        instance.process(0, &mut inbox, &mut self.outbox).unwrap();
                    }
                }
            }
            Event::Watermark(time) => {
                let watermark = Watermark { key: 0, time: *time };
                for instance in &mut self.instances {
                    while instance.watermark(watermark, &mut self.outbox).unwrap() == Done::No {}
                }
            }
        }
        self.collect();
    }

    fn end(&mut self) {
        for instance in &mut self.instances {
            while instance.complete(usize::MAX, &mut self.outbox).unwrap() == Done::No {}
        }
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(item) = self.outbox.take() {
            if let Item::Batch(batch) = item {
                let texts = (0..batch.len()).map(|row| row_text(&batch.rows, row));
                self.emitted.extend(texts);
            }
        }
    }

    fn save(&mut self) -> Vec<StateChunk> {
        let mut chunks = Vec::new();
        for instance in &mut self.instances {
            while instance.epoch(1, &mut self.outbox).unwrap() == Done::No {}
            let mut state = StateWriter::default();
            assert_eq!(instance.save(&mut state).unwrap(), Done::Yes);
            chunks.extend(state.chunks);
        }
        self.collect();
        chunks
    }

    fn restore(&mut self, chunks: &[StateChunk]) {
        let count = self.instances.len();
        for (index, instance) in self.instances.iter_mut().enumerate() {
            let ours = |chunk: &&StateChunk| instance_of(chunk.partition, count) == index;
            chunks.iter().filter(ours).for_each(|chunk| instance.restore(chunk).unwrap());
        }
    }
}

/// What comes out when the vertex is saved and restored after each event, into as many instances
/// as `parallelism` says in turn.
fn emitted(spec: &SlidingWindowSpec, events: &[Event], parallelism: &[usize]) -> Vec<String> {
    let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
    let mut counts = parallelism.iter().cycle();
    let mut vertex = Vertex::new(&grid, spec, *counts.next().unwrap());
    for event in events {
        vertex.take(event);
        if parallelism.len() > 1 {
            let chunks = vertex.save();
            let mut next = Vertex::new(&grid, spec, *counts.next().unwrap());
            next.restore(&chunks);
            next.emitted = vertex.emitted;
            vertex = next;
        }
    }
    vertex.end();
    vertex.emitted.sort();
    vertex.emitted
}

#[test]
fn state_restored_into_another_parallelism_gives_the_same_windows() {
    for seed in 0..6 {
        let (size, slide) = [(10, 10), (10, 4), (12, 1)][seed as usize % 3];
        let mut spec = model_spec(size, slide, 0);
        spec.is_append_only = seed % 2 == 0;
        let events = random_events(&Rng::seeded(500 + seed), spec.is_append_only);
        let wanted = emitted(&spec, &events, &[1]);
        assert!(wanted.len() > 20, "seed {seed} shows too little");
        assert_eq!(emitted(&spec, &events, &[3]), wanted, "seed {seed}, no restore");
        for counts in [&[1, 4][..], &[4, 1], &[3, 2], &[2, 3, 1, 5]] {
            assert_eq!(emitted(&spec, &events, counts), wanted, "seed {seed}, {counts:?}");
        }
    }
}
