//! State that moves into another number of instances, saved whole or by what has changed: the windows
//! that come out are the same.

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
    state::{SectionChange, Sections, StateChunk, StateWriter, instance_of, unmixed},
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
            chunks.extend(state.into_chunks(271).unwrap());
        }
        self.collect();
        chunks
    }

    /// A snapshot after `saved`, which is the last one of these instances, or of none of them.
    fn save_changes(&mut self, saved: &mut Saved, is_incremental: bool) {
        let begun = self.begin_save(saved.id + 1, is_incremental);
        self.end_save(begun, saved);
    }

    /// What a barrier does, and nothing that may come behind it.
    fn begin_save(&mut self, id: u64, is_incremental: bool) -> Begun {
        let mut states = Vec::new();
        for instance in &mut self.instances {
            while instance.epoch(1, &mut self.outbox).unwrap() == Done::No {}
            let mut state = StateWriter::new(id, is_incremental);
            assert_eq!(instance.save(&mut state).unwrap(), Done::Yes);
            states.push((state, Done::No));
        }
        self.collect();
        Begun { states, emitted: self.emitted.clone() }
    }

    /// A slice of what is left of a save, of each instance.
    fn save_slice(&mut self, begun: &mut Begun) -> Done {
        for (instance, (state, done)) in self.instances.iter_mut().zip(&mut begun.states) {
            if *done == Done::No {
                *done = instance.save_rest(state).unwrap();
            }
        }
        let is_done = begun.states.iter().all(|(_, done)| *done == Done::Yes);
        if is_done { Done::Yes } else { Done::No }
    }

    /// The snapshot is good.
    fn end_save(&mut self, mut begun: Begun, saved: &mut Saved) {
        while self.save_slice(&mut begun) == Done::No {}
        saved.id += 1;
        saved.sections.resize_with(self.instances.len(), Sections::default);
        saved.chunks.clear();
        for ((state, _), sections) in begun.states.into_iter().zip(&mut saved.sections) {
            saved.chunks.extend(state.chunks);
            if !state.is_incremental {
                sections.clear();
            }
            for change in &state.changes {
                saved.rows_written += match change {
                    SectionChange::Replace((0, _), _) | SectionChange::Forget(_) => 0,
                    SectionChange::Append(_, rows) | SectionChange::Replace(_, rows) => {
                        rows.rows.num_rows()
                    }
                };
                sections.apply(change, 271, Ok::<_, crate::Error>).unwrap();
            }
        }
        saved.emitted = begun.emitted;
    }

    fn restore(&mut self, chunks: &[StateChunk]) {
        let count = self.instances.len();
        for (index, instance) in self.instances.iter_mut().enumerate() {
            let ours = |chunk: &&StateChunk| instance_of(chunk.partition, count) == index;
            chunks.iter().filter(ours).for_each(|chunk| instance.restore(chunk).unwrap());
        }
    }
}

/// A snapshot that is being taken.
struct Begun {
    /// Of each instance, and whether that is all.
    states: Vec<(StateWriter, Done)>,
    emitted: Vec<String>,
}

/// A snapshot of a vertex.
#[derive(Default)]
struct Saved {
    id: u64,
    chunks: Vec<StateChunk>,
    sections: Vec<Sections<StateChunk>>,
    emitted: Vec<String>,
    /// The event that follows.
    position: usize,
    rows_written: usize,
}

impl Saved {
    fn all_chunks(&self) -> Vec<StateChunk> {
        let sections = self.sections.iter().flat_map(Sections::iter);
        let all = self.chunks.iter().chain(sections).cloned();
        all.flat_map(|chunk| unmixed(chunk, 271).unwrap()).collect()
    }
}

/// What comes out when the vertex takes snapshots of what has changed, and is lost now and then.
fn emitted_with_losses(spec: &SlidingWindowSpec, events: &[Event], rng: &Rng) -> Vec<String> {
    let below = |bound: u64| rng.next_u64() % bound;
    let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
    let mut vertex = Vertex::new(&grid, spec, 2);
    let mut saved = Saved::default();
    let mut is_incremental = false;
    let mut position = 0;
    while position < events.len() {
        vertex.take(&events[position]);
        position += 1;
        if below(2) == 0 {
            // Rows come behind the barrier while slices of the state are written.
            let cut = position;
            let mut begun = vertex.begin_save(saved.id + 1, is_incremental);
            for _ in 0..below(4) {
                if below(2) == 0 {
                    let _ = vertex.save_slice(&mut begun);
                }
                if let Some(event) = events.get(position) {
                    vertex.take(event);
                    position += 1;
                }
            }
            vertex.end_save(begun, &mut saved);
            saved.position = cut;
            is_incremental = true;
        }
        if below(12) == 0 {
            vertex = Vertex::new(&grid, spec, 1 + below(4) as usize);
            vertex.restore(&saved.all_chunks());
            vertex.emitted = saved.emitted.clone();
            position = saved.position;
            saved.sections.clear();
            is_incremental = false;
            // What was restored is the base of nothing.
            vertex.save_changes(&mut saved, false);
            is_incremental |= below(2) == 0;
        }
    }
    vertex.end();
    vertex.emitted.sort();
    vertex.emitted
}

#[test]
fn snapshots_of_what_has_changed_restore_as_whole_ones_do() {
    for seed in 0..12 {
        let (size, slide) = [(10, 10), (10, 4), (12, 1)][seed as usize % 3];
        let mut spec = model_spec(size, slide, 0);
        spec.is_append_only = seed % 4 != 3;
        if seed % 2 == 0 {
            spec.aggregates.retain(|aggregate| !aggregate.is_distinct);
        }
        let rng = Rng::seeded(900 + seed);
        let events = random_events(&rng, spec.is_append_only);
        let wanted = emitted(&spec, &events, &[1]);
        assert_eq!(emitted_with_losses(&spec, &events, &rng), wanted, "seed {seed}");
    }
}

#[test]
fn what_is_saved_grows_with_what_has_changed_and_not_with_what_there_is() {
    let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
    let mut spec = model_spec(1_000_000, 1_000_000, 0);
    spec.aggregates.retain(|aggregate| !aggregate.is_distinct);
    spec.is_append_only = true;
    let mut vertex = Vertex::new(&grid, &spec, 1);
    let rows = |keys: std::ops::Range<i64>| Event::Rows(keys.map(|key| (10, key, 1, 1)).collect());
    vertex.take(&rows(0..5_000));
    let mut saved = Saved::default();
    let mut rows_of = |vertex: &mut Vertex, is_incremental| {
        let before = saved.rows_written;
        vertex.save_changes(&mut saved, is_incremental);
        saved.rows_written - before
    };
    assert_eq!(rows_of(&mut vertex, false), 5_000);
    assert_eq!(rows_of(&mut vertex, true), 0);
    vertex.take(&rows(10..20));
    vertex.take(&rows(15..30));
    assert_eq!(rows_of(&mut vertex, true), 20);
    assert_eq!(rows_of(&mut vertex, true), 0);
    for _ in 0..3 {
        vertex.take(&rows(0..2_000));
        rows_of(&mut vertex, true);
    }
    assert!(saved.all_chunks().iter().map(|chunk| chunk.rows.num_rows()).sum::<usize>() <= 10_001);
}

#[test]
fn of_distinct_values_and_extremes_that_may_go_what_has_changed_is_saved() {
    let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
    let mut spec = model_spec(1_000_000, 1_000_000, 0);
    spec.is_append_only = false;
    let multisets = spec::WindowPlan::new(&spec).unwrap().multiset_positions().len();
    assert!(multisets >= 3, "{multisets}");
    let bytes = |begun: &Begun| -> usize {
        let changes = begun.states.iter().flat_map(|(state, _)| &state.changes);
        let rows = changes.filter_map(|change| match change {
            SectionChange::Append(_, rows) | SectionChange::Replace(_, rows) => Some(&rows.rows),
            SectionChange::Forget(_) => None,
        });
        let sizes = rows.map(|rows| rows.num_rows() * rows.num_columns() * size_of::<i64>());
        sizes.sum()
    };
    let mut vertex = Vertex::new(&grid, &spec, 1);
    // Ten values above 3 for each of 1000 keys.
    let rows = |keys: std::ops::Range<i64>, weight: i64| {
        let row = |n: i64| (10, n / 10, 4 + n % 10, weight);
        Event::Rows((keys.start * 10..keys.end * 10).map(row).collect())
    };
    vertex.take(&rows(0..1_000, 1));
    let mut saved = Saved::default();
    let mut bytes_of = |vertex: &mut Vertex, is_incremental: bool| {
        let mut begun = vertex.begin_save(saved.id + 1, is_incremental);
        let at_barrier = bytes(&begun);
        while vertex.save_slice(&mut begun) == Done::No {}
        let all = bytes(&begun);
        vertex.end_save(begun, &mut saved);
        (at_barrier, all)
    };
    let (at_barrier, all) = bytes_of(&mut vertex, false);
    assert!(all > 10_000 * 32 * multisets && at_barrier < 5_000, "{at_barrier} of {all} bytes");
    let nothing = bytes_of(&mut vertex, true).1;
    vertex.take(&rows(500..510, 1));
    let (at_barrier, changed) = bytes_of(&mut vertex, true);
    assert!(at_barrier == nothing && changed < all / 90, "{changed} of {all} bytes, {at_barrier}");
    vertex.take(&rows(500..510, -1));
    vertex.take(&rows(500..510, 1));
    let untouched = bytes_of(&mut vertex, true).1;
    assert!(untouched < changed / 4, "the weights are as they were: {untouched} bytes");
    // A log of changes is written anew before it is three times as long as what it says.
    for _ in 0..30 {
        vertex.take(&rows(0..100, 1));
        bytes_of(&mut vertex, true);
    }
    let rows = saved.all_chunks().iter().map(|chunk| chunk.rows.num_rows()).sum::<usize>();
    assert!(rows < (2 * multisets + 2) * 11_000, "{rows} rows for {multisets} multisets");
}

#[test]
fn a_window_that_closes_behind_a_barrier_writes_what_is_left_of_it_in_slices() {
    for (size, slide) in [(10, 10), (10, 5)] {
        let spec = model_spec(size, slide, 0);
        let mut window = window::SlidingWindow::new(spec::WindowPlan::new(&spec).unwrap()).unwrap();
        window.units_of_call = 4;
        let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
        window.init(&testing::context(&grid)).unwrap();
        let mut outbox = Outbox::new(1 << 16);
        let mut inbox = Inbox::default();
        inbox.push(delta(&(0..100).map(|key| (1, key, key, 1)).collect::<Vec<_>>()));
        window.process(0, &mut inbox, &mut outbox).unwrap();
        let mut state = StateWriter::new(1, false);
        assert_eq!(window.save(&mut state).unwrap(), Done::Yes);
        let written = |state: &StateWriter| -> usize {
            let rows = state.changes.iter().map(|change| match change {
                SectionChange::Append(_, rows) => rows.rows.num_rows(),
                _ => 0,
            });
            rows.sum()
        };
        let (mut most, mut calls) = (0, 0);
        let watermark = Watermark { key: 0, time: 100 };
        // The rest that is written outside of a close is written by `save_rest`, 3 rows at a time.
        while window.watermark(watermark, &mut outbox).unwrap() == Done::No {
            let before = written(&state);
            let _ = window.save_rest(&mut state).unwrap();
            most = most.max(written(&state) - before);
            calls += 1;
        }
        while window.save_rest(&mut state).unwrap() == Done::No {}
        assert!(most <= 8, "{most} rows in a call, window of {size} by {slide}");
        assert!(written(&state) >= 100 && calls >= 20, "{} rows, {calls} calls", written(&state));
        let rows = std::iter::from_fn(|| outbox.take()).map(|item| match item {
            Item::Batch(batch) => batch.len(),
            _ => 0,
        });
        assert_eq!(rows.sum::<usize>(), 100 * (size / slide) as usize);
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
