//! Openraft's own tests of a log and a state machine, run over ours.

use std::path::PathBuf;

use openraft::testing::{StoreBuilder, Suite};

use super::*;
use crate::cluster::control::{
    raft::{
        machine::{Home, Machine},
        store::{Kept, Store},
        types::{StoreResult, Types},
    },
    state::Published,
};

/// Makes empty ones, each on a disk of its own.
struct Builder;

impl StoreBuilder<Types, Store, Machine> for Builder {
    async fn build(&self) -> StoreResult<((), Store, Machine)> {
        let disk: Arc<dyn Disk> = disk(1);
        let folder = PathBuf::from(FOLDER);
        let (log, _) = Log::open(&disk, &folder, ID, Lsn(0), |_, _| Ok(())).unwrap();
        let store = Store::new(&Arc::new(log), Kept::default());
        let home = Home { disk, folder, id: ID };
        Ok(((), store, Machine::new(home, &Arc::<Published>::default(), None)))
    }
}

#[test]
fn the_log_and_the_state_machine_keep_what_openraft_asks_of_them() {
    Suite::test_all(Builder).unwrap();
}
