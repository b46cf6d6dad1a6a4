//! All groups of a server. One event of the log holds their settings, so a start reads as many rows as there are
//! groups, however many events they have read.

mod changes;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::actor::Actor;
use super::handle::{GroupCounts, Handle};
use super::journal;
use super::reader::ReadFailed;
use super::settings::{GroupKey, Settings};
use super::stored_events::{self, Entry};
use crate::metrics::MetricsPage;
use crate::storage::{Storage, StorageFailed};

/// Why a group cannot be created, updated or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GroupError {
    #[error("it exists")]
    Exists,
    #[error("it does not exist")]
    Missing,
    #[error("{0}")]
    Failed(String),
    #[error("the storage is not available")]
    Unavailable,
}

impl From<StorageFailed> for GroupError {
    fn from(_: StorageFailed) -> Self {
        Self::Unavailable
    }
}

impl From<serde_json::Error> for GroupError {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ReadFailed> for GroupError {
    fn from(failed: ReadFailed) -> Self {
        match failed {
            ReadFailed::Storage(_) => Self::Unavailable,
            ReadFailed::Filter(invalid) => Self::Failed(invalid.to_string()),
        }
    }
}

/// Where a new group begins. It becomes a [`StartFrom`](super::settings::StartFrom) when the group is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartPosition {
    Beginning,
    At(u64),
    End,
}

struct RunningGroup {
    key: GroupKey,
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningGroup {
    async fn stop(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!("the task of a persistent subscription panicked");
        }
    }
}

/// The groups of one server.
pub(crate) struct PersistentSubscriptions {
    storage: Arc<Storage>,
    shutdown: CancellationToken,
    groups: RwLock<Vec<RunningGroup>>,
    /// The stored configuration, including groups that could not start. Locked while groups are created, updated or
    /// deleted.
    stored: Mutex<StoredConfiguration>,
}

/// The stored configuration.
enum StoredConfiguration {
    Entries(Vec<Entry>),
    /// This version cannot read it, so it must not overwrite it.
    Unreadable,
}

impl StoredConfiguration {
    fn entries(&self) -> Result<Vec<Entry>, GroupError> {
        match self {
            Self::Entries(entries) => Ok(entries.clone()),
            Self::Unreadable => Err(GroupError::Failed(UNREADABLE.to_owned())),
        }
    }
}

const UNREADABLE: &str = "this version cannot read the configuration of persistent subscriptions, and leaves it as it \
                          is: see the last event of the stream $persistentSubscriptionConfig";

impl PersistentSubscriptions {
    /// Starts all groups.
    pub(crate) async fn start(
        storage: Arc<Storage>,
        shutdown: CancellationToken,
    ) -> Result<Self, StorageFailed> {
        let subscriptions = Self {
            storage,
            shutdown,
            groups: RwLock::default(),
            stored: Mutex::new(StoredConfiguration::Entries(Vec::new())),
        };
        subscriptions
            .load(&mut *subscriptions.stored.lock().await)
            .await?;
        Ok(subscriptions)
    }

    /// Reads the stored configuration, and starts all groups that can be started.
    async fn load(&self, stored: &mut StoredConfiguration) -> Result<(), StorageFailed> {
        let stream = stored_events::configuration_stream();
        let last = journal::last_event(&self.storage, stream).await?;
        let Some(last) = last.and_then(|last| last.event) else {
            *stored = StoredConfiguration::Entries(Vec::new());
            return Ok(());
        };
        let Some(entries) = stored_events::parse_configuration(&last.data) else {
            tracing::error!("{UNREADABLE}");
            *stored = StoredConfiguration::Unreadable;
            return Ok(());
        };
        *stored = StoredConfiguration::Entries(entries.clone());
        for Entry { key, settings, .. } in entries {
            let started = match settings {
                Some(settings) => self.run(key, settings).await,
                None => Err(GroupError::Failed("its settings cannot be read".to_owned())),
            };
            match started {
                Ok(()) => {}
                Err(GroupError::Unavailable) => return Err(StorageFailed),
                Err(refused) => tracing::error!(%refused, "a persistent subscription cannot start"),
            }
        }
        Ok(())
    }

    /// Ends all groups. Each saves its progress.
    pub(crate) async fn close(&self) {
        let _changing = self.stored.lock().await;
        let groups = std::mem::take(&mut *self.write());
        futures::future::join_all(groups.into_iter().map(RunningGroup::stop)).await;
    }

    /// Finds a group. Waits if groups are just being created or updated.
    pub(crate) async fn find(&self, key: &GroupKey) -> Option<Handle> {
        if let Some(handle) = self.running(key) {
            return Some(handle);
        }
        let _changed = self.stored.lock().await;
        self.running(key)
    }

    fn running(&self, key: &GroupKey) -> Option<Handle> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let found = groups.iter().find(|running| running.key == *key);
        found.map(|running| running.handle.clone())
    }

    /// All groups, in the order of their creation.
    pub(crate) fn all(&self) -> Vec<(GroupKey, Handle)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let summary = |running: &RunningGroup| (running.key.clone(), running.handle.clone());
        groups.iter().map(summary).collect()
    }

    /// The last figures of every group.
    pub(crate) fn counts(&self) -> Vec<(GroupKey, GroupCounts)> {
        let groups = self.all().into_iter();
        groups.map(|(key, handle)| (key, handle.count())).collect()
    }

    /// Writes the sums over all groups, under the names of the real server.
    pub(crate) fn write_to(&self, page: &mut MetricsPage) {
        let counts = self.counts();
        let sum =
            |of: fn(&GroupCounts) -> u64| counts.iter().map(|(_, count)| of(count)).sum::<u64>();
        page.family(
            "eventstore_persistent_sub_connections",
            "gauge",
            "Clients of persistent subscriptions.",
        )
        .sample("", sum(|count| count.connections));
        page.family(
            "eventstore_persistent_sub_in_flight_messages",
            "gauge",
            "Events that clients of persistent subscriptions have received and not settled.",
        )
        .sample("", sum(|count| count.in_flight));
        page.family(
            "eventstore_persistent_sub_parked_messages",
            "gauge",
            "Events that are parked.",
        )
        .sample("", sum(|count| count.parked));
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Vec<RunningGroup>> {
        self.groups.write().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, key: GroupKey, settings: Settings) -> Result<(), GroupError> {
        let (handle, inbox, counts) = Handle::new();
        let storage = Arc::clone(&self.storage);
        let actor = Actor::start((key.clone(), settings), storage, inbox, counts).await?;
        let stop = self.shutdown.child_token();
        let task = tokio::spawn(actor.run(stop.clone()));
        self.write().push(RunningGroup {
            key,
            handle,
            stop,
            task,
        });
        Ok(())
    }
}
