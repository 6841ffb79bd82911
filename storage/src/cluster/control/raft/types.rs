//! Openraft's types with ours in their places, and the way to other members: there are none.

use std::{collections::BTreeMap, future::Future, io::Cursor};

use openraft::{
    EntryPayload, Membership, RaftNetwork, RaftNetworkFactory, Snapshot, StorageError,
    error::{
        Fatal, InstallSnapshotError, RPCError, RaftError, ReplicationClosed, StreamingError,
        Unreachable,
    },
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest,
        InstallSnapshotResponse, SnapshotResponse, VoteRequest, VoteResponse,
    },
};

use super::executor::Timeless;
use crate::cluster::control::ObjectId;

openraft::declare_raft_types!(
    /// Entries are commands as they are encoded; answered is the id of the object they are about.
    pub(super) Types:
        D = Vec<u8>,
        R = ObjectId,
        NodeId = u64,
        Node = (),
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = Timeless,
);

/// This member's number among the voters.
pub(super) const NODE: u64 = 1;

pub(super) type Entry = openraft::Entry<Types>;
pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type Voters = Membership<u64, ()>;
pub(super) type StoredVoters = openraft::StoredMembership<u64, ()>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, ()>;
pub(super) type Payload = EntryPayload<Types>;
pub(super) type StoreResult<T> = Result<T, StorageError<u64>>;

/// This member alone.
pub(super) fn alone() -> BTreeMap<u64, ()> {
    BTreeMap::from([(NODE, ())])
}

/// The way to other members: nobody can be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nobody;

#[derive(Debug, thiserror::Error)]
#[error("this member is the only voter")]
struct OnlyVoter;

fn unreachable() -> Unreachable {
    Unreachable::new(&OnlyVoter)
}

impl RaftNetworkFactory<Types> for Nobody {
    type Network = Self;

    async fn new_client(&mut self, _: u64, _: &()) -> Self {
        *self
    }
}

impl RaftNetwork<Types> for Nobody {
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, (), RaftError<u64>>> {
        Err(unreachable().into())
    }

    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RPCError<u64, (), RaftError<u64, InstallSnapshotError>>>
    {
        Err(unreachable().into())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, (), RaftError<u64>>> {
        Err(unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _: openraft::Vote<u64>,
        _: Snapshot<Types>,
        _: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        Err(unreachable().into())
    }
}
