//! The interface to the task of a group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::group::{ClientId, Message, NackAction, Peer};
use super::info::Info;

/// The maximum number of waiting commands.
const LONGEST_INBOX: usize = 256;

/// The group has ended: it was updated or deleted, or the server is stopping.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the persistent subscription was changed or deleted, or the server is stopping: try again")]
pub(crate) struct GroupEnded;

pub(super) enum GroupCommand {
    Connect {
        peer: Peer,
        buffer_size: usize,
        reply: oneshot::Sender<Option<GroupConnection>>,
    },
    Disconnect(ClientId),
    Ack(Vec<Uuid>),
    Nack(Vec<Uuid>, NackAction, String),
    Replay {
        stop_at: Option<u64>,
    },
    Info(oneshot::Sender<Info>),
}

/// The events for one client. The channel closes when the group ends.
#[derive(Debug)]
pub(crate) struct GroupConnection {
    pub(crate) client: ClientId,
    pub(crate) events: mpsc::Receiver<Message>,
}

/// Figures of a group for pages and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupCounts {
    pub(crate) parked: u64,
    pub(crate) in_flight: u64,
    pub(crate) connections: u64,
}

#[derive(Debug, Default)]
pub(super) struct LiveCounts {
    parked: AtomicU64,
    in_flight: AtomicU64,
    connections: AtomicU64,
}

impl LiveCounts {
    pub(super) fn set(&self, parked: u64, in_flight: usize, connections: usize) {
        self.parked.store(parked, Ordering::Relaxed);
        self.in_flight.store(in_flight as u64, Ordering::Relaxed);
        self.connections
            .store(connections as u64, Ordering::Relaxed);
    }

    fn get(&self) -> GroupCounts {
        GroupCounts {
            parked: self.parked.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Handle {
    inbox: mpsc::Sender<GroupCommand>,
    counts: Arc<LiveCounts>,
}

impl Handle {
    pub(super) fn new() -> (Self, mpsc::Receiver<GroupCommand>, Arc<LiveCounts>) {
        let (inbox, commands) = mpsc::channel(LONGEST_INBOX);
        let counts = Arc::<LiveCounts>::default();
        let handle = Self {
            inbox,
            counts: Arc::clone(&counts),
        };
        (handle, commands, counts)
    }

    /// The last figures of the group, without asking it.
    pub(crate) fn count(&self) -> GroupCounts {
        self.counts.get()
    }

    /// Joins the group. `None` if it has its maximum number of clients.
    pub(crate) async fn connect(
        &self,
        peer: Peer,
        buffer_size: usize,
    ) -> Result<Option<GroupConnection>, GroupEnded> {
        let (reply, answer) = oneshot::channel();
        let connect = GroupCommand::Connect {
            peer,
            buffer_size,
            reply,
        };
        self.send(connect).await?;
        answer.await.map_err(|_| GroupEnded)
    }

    pub(crate) async fn disconnect(&self, client: ClientId) -> Result<(), GroupEnded> {
        self.send(GroupCommand::Disconnect(client)).await
    }

    pub(crate) async fn ack(&self, ids: Vec<Uuid>) -> Result<(), GroupEnded> {
        self.send(GroupCommand::Ack(ids)).await
    }

    pub(crate) async fn nack(
        &self,
        ids: Vec<Uuid>,
        action: NackAction,
        reason: String,
    ) -> Result<(), GroupEnded> {
        self.send(GroupCommand::Nack(ids, action, reason)).await
    }

    /// Replays the parked events before `stop_at`.
    pub(crate) async fn replay_parked(&self, stop_at: Option<u64>) -> Result<(), GroupEnded> {
        self.send(GroupCommand::Replay { stop_at }).await
    }

    pub(crate) async fn info(&self) -> Result<Info, GroupEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(GroupCommand::Info(reply)).await?;
        answer.await.map_err(|_| GroupEnded)
    }

    #[cfg(test)]
    pub(super) fn inbox(&self) -> &mpsc::Sender<GroupCommand> {
        &self.inbox
    }

    async fn send(&self, command: GroupCommand) -> Result<(), GroupEnded> {
        self.inbox.send(command).await.map_err(|_| GroupEnded)
    }
}
