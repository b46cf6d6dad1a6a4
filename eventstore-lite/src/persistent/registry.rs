//! All groups: made, changed and deleted one after the other, found at any time. Their settings are in one event
//! of the log, so starting touches as many rows as there are groups, however much they have read.

#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::actor::Actor;
use super::handle::{Count, Handle};
use super::journal;
use super::reader::ReadFailed;
use super::records;
use super::settings::{GroupKey, Settings, Source, StartFrom};
use crate::event::{Position, TOMBSTONE_REVISION};
use crate::metrics::Page;
use crate::storage::{Storage, StorageFailed};

/// Why a group cannot be had, made or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it exists")]
    Exists,
    #[error("it does not exist")]
    Missing,
    #[error("{0}")]
    Failed(String),
    #[error("the storage is not available")]
    Unavailable,
}

impl From<StorageFailed> for Refused {
    fn from(_: StorageFailed) -> Self {
        Self::Unavailable
    }
}

impl From<ReadFailed> for Refused {
    fn from(failed: ReadFailed) -> Self {
        match failed {
            ReadFailed::Storage(_) => Self::Unavailable,
            ReadFailed::Filter(invalid) => Self::Failed(invalid.to_string()),
        }
    }
}

/// Where a new group is to begin; it becomes a [`StartFrom`] when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Beginning,
    At(u64),
    End,
}

struct Running {
    key: GroupKey,
    settings: Settings,
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!("a persistent subscription ended by a panic");
        }
    }
}

/// The groups of one server.
pub(crate) struct PersistentSubscriptions {
    storage: Arc<Storage>,
    shutdown: CancellationToken,
    groups: RwLock<Vec<Running>>,
    /// Held while groups are made, changed or deleted.
    changes: Mutex<()>,
}

impl PersistentSubscriptions {
    /// Takes up the work of all groups.
    pub(crate) async fn start(
        storage: Arc<Storage>,
        shutdown: CancellationToken,
    ) -> Result<Self, StorageFailed> {
        let subscriptions = Self {
            storage,
            shutdown,
            groups: RwLock::default(),
            changes: Mutex::new(()),
        };
        subscriptions.load().await?;
        Ok(subscriptions)
    }

    async fn load(&self) -> Result<(), StorageFailed> {
        let stream = records::configuration_stream();
        let last = journal::last_event(&self.storage, stream).await?;
        let Some(last) = last.and_then(|last| last.event) else {
            return Ok(());
        };
        let groups = records::parse_configuration(&last.data).unwrap_or_else(|error| {
            tracing::error!(%error, "the configuration of persistent subscriptions cannot be read");
            Vec::new()
        });
        for (key, settings) in groups {
            match self.run(key, settings).await {
                Ok(()) => {}
                Err(Refused::Unavailable) => return Err(StorageFailed),
                Err(refused) => tracing::error!(%refused, "a persistent subscription cannot start"),
            }
        }
        Ok(())
    }

    /// A group that is being made or changed is found when that is done.
    pub(crate) async fn find(&self, key: &GroupKey) -> Option<Handle> {
        if let Some(handle) = self.running(key) {
            return Some(handle);
        }
        let _changed = self.changes.lock().await;
        self.running(key)
    }

    fn running(&self, key: &GroupKey) -> Option<Handle> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let found = groups.iter().find(|running| running.key == *key);
        found.map(|running| running.handle.clone())
    }

    /// All groups in the order in which they were made.
    pub(crate) fn all(&self) -> Vec<(GroupKey, Handle)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let known = |running: &Running| (running.key.clone(), running.handle.clone());
        groups.iter().map(known).collect()
    }

    /// How every group stood a moment ago.
    pub(crate) fn counts(&self) -> Vec<(GroupKey, Count)> {
        let groups = self.all().into_iter();
        groups.map(|(key, handle)| (key, handle.count())).collect()
    }

    /// The sums over all groups, under the real server's names.
    pub(crate) fn write_to(&self, page: &mut Page) {
        let counts = self.counts();
        let sum = |of: fn(&Count) -> u64| counts.iter().map(|(_, count)| of(count)).sum::<u64>();
        page.family(
            "eventstore_persistent_sub_connections",
            "gauge",
            "Clients of persistent subscriptions.",
        )
        .sample("", sum(|count| count.connections));
        page.family(
            "eventstore_persistent_sub_in_flight_messages",
            "gauge",
            "Events that clients of persistent subscriptions have and did not settle.",
        )
        .sample("", sum(|count| count.in_flight));
        page.family(
            "eventstore_persistent_sub_parked_messages",
            "gauge",
            "Events that are parked.",
        )
        .sample("", sum(|count| count.parked));
    }

    pub(crate) async fn create(
        self: Arc<Self>,
        key: GroupKey,
        settings: Settings,
        start: Start,
    ) -> Result<(), Refused> {
        to_the_end(async move { self.create_now(key, settings, start).await }).await
    }

    async fn create_now(
        &self,
        key: GroupKey,
        mut settings: Settings,
        start: Start,
    ) -> Result<(), Refused> {
        let _changing = self.changes.lock().await;
        if self.running(&key).is_some() {
            return Err(Refused::Exists);
        }
        check(&settings)?;
        settings.start_from = self.start_from(&key.source, start).await?;
        journal::clear(&self.storage, &key).await?;
        let mut configured = self.configured();
        configured.push((key.clone(), settings.clone()));
        self.save(&configured).await?;
        self.run(key, settings).await
    }

    /// Begins the group anew with other settings, from its checkpoint on; its clients are dropped.
    pub(crate) async fn update(
        self: Arc<Self>,
        key: GroupKey,
        settings: Settings,
        start: Start,
    ) -> Result<(), Refused> {
        to_the_end(async move { self.update_now(key, settings, start).await }).await
    }

    async fn update_now(
        &self,
        key: GroupKey,
        mut settings: Settings,
        start: Start,
    ) -> Result<(), Refused> {
        let _changing = self.changes.lock().await;
        let mut configured = self.configured();
        let entry = configured.iter_mut().find(|(known, _)| *known == key);
        let (_, configured_settings) = entry.ok_or(Refused::Missing)?;
        check(&settings)?;
        settings.start_from = self.start_from(&key.source, start).await?;
        settings.filter = configured_settings.filter.take();
        *configured_settings = settings.clone();
        self.save(&configured).await?;
        self.end(&key).await;
        self.run(key, settings).await
    }

    /// Ends the group, drops its clients, and deletes what it kept.
    pub(crate) async fn delete(self: Arc<Self>, key: GroupKey) -> Result<(), Refused> {
        to_the_end(async move { self.delete_now(&key).await }).await
    }

    async fn delete_now(&self, key: &GroupKey) -> Result<(), Refused> {
        let _changing = self.changes.lock().await;
        let mut configured = self.configured();
        let before = configured.len();
        configured.retain(|(known, _)| known != key);
        if configured.len() == before {
            return Err(Refused::Missing);
        }
        self.save(&configured).await?;
        self.end(key).await;
        Ok(journal::clear(&self.storage, key).await?)
    }

    /// Ends all groups and begins them anew, from what is stored.
    pub(crate) async fn restart(self: Arc<Self>) -> Result<(), Refused> {
        to_the_end(async move { self.restart_now().await }).await
    }

    async fn restart_now(&self) -> Result<(), Refused> {
        let _changing = self.changes.lock().await;
        let groups = std::mem::take(&mut *self.write());
        for running in groups {
            running.stop().await;
        }
        Ok(self.load().await?)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Vec<Running>> {
        self.groups.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn configured(&self) -> Vec<(GroupKey, Settings)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let configured = |running: &Running| (running.key.clone(), running.settings.clone());
        groups.iter().map(configured).collect()
    }

    async fn save(&self, groups: &[(GroupKey, Settings)]) -> Result<(), Refused> {
        let groups = groups.iter().map(|(key, settings)| (key, settings));
        let event = records::configured(groups).map_err(|e| Refused::Failed(e.to_string()))?;
        let stream = records::configuration_stream();
        if journal::last_event(&self.storage, stream.clone())
            .await?
            .is_none()
        {
            let metadata = vec![records::keeps_two()];
            journal::append(&self.storage, stream.metastream(), metadata).await?;
        }
        journal::append(&self.storage, stream, vec![event]).await?;
        Ok(())
    }

    async fn run(&self, key: GroupKey, settings: Settings) -> Result<(), Refused> {
        let (handle, inbox, counts) = Handle::new();
        let storage = Arc::clone(&self.storage);
        let actor = Actor::start((key.clone(), settings.clone()), storage, inbox, counts).await?;
        let stop = self.shutdown.child_token();
        let task = tokio::spawn(actor.run(stop.clone()));
        self.write().push(Running {
            key,
            settings,
            handle,
            stop,
            task,
        });
        Ok(())
    }

    async fn end(&self, key: &GroupKey) {
        let ended = {
            let mut groups = self.write();
            let index = groups.iter().position(|running| running.key == *key);
            index.map(|index| groups.remove(index))
        };
        if let Some(running) = ended {
            running.stop().await;
        }
    }

    async fn start_from(&self, source: &Source, start: Start) -> Result<StartFrom, Refused> {
        let head = *self.storage.head().borrow();
        match (start, source) {
            (Start::Beginning, _) => Ok(StartFrom::Start),
            (Start::At(position), Source::All) if Position(position) > head => {
                Err(Refused::Failed(BEYOND_THE_END.to_owned()))
            }
            (Start::At(place), _) => Ok(StartFrom::At(place)),
            (Start::End, Source::All) => Ok(StartFrom::End(head.following().0)),
            (Start::End, Source::Stream(stream)) => {
                let last = self.storage.end_of(stream.clone()).await?;
                let last = last.unwrap_or(Some(TOMBSTONE_REVISION));
                Ok(StartFrom::End(last.map_or(0, |last| last + 1)))
            }
        }
    }
}

/// A change that was begun is finished, also if the caller is gone meanwhile.
async fn to_the_end<F>(change: F) -> Result<(), Refused>
where
    F: Future<Output = Result<(), Refused>> + Send + 'static,
{
    let changed = tokio::spawn(change).await;
    changed.unwrap_or(Err(Refused::Unavailable))
}

/// In the words of the real server.
const BEYOND_THE_END: &str = "Invalid Start From position: commit position must be less than or equal to the \
                              last commit position in the transaction file.";
const BATCH_TOO_LARGE: &str = "Specified argument was out of the range of valid values. (Parameter 'ReadBatchSize \
                               may not be greater than or equal to BufferSize')";

fn check(settings: &Settings) -> Result<(), Refused> {
    if settings.read_batch_size >= settings.history_buffer_size {
        return Err(Refused::Failed(BATCH_TOO_LARGE.to_owned()));
    }
    match settings
        .filter
        .as_ref()
        .map(super::settings::FilterSettings::filter)
    {
        Some(Err(invalid)) => Err(Refused::Failed(invalid.to_string())),
        Some(Ok(_)) | None => Ok(()),
    }
}
