//! Creates, updates and deletes groups, one change at a time. A change that has begun is finished.

use std::sync::Arc;

use super::{GroupError, PersistentSubscriptions, StartPosition, StoredConfiguration, UNREADABLE};
use crate::event::{Position, TOMBSTONE_REVISION};
use crate::persistent::settings::{FilterSettings, GroupKey, Settings, Source, StartFrom};
use crate::persistent::stored_events::Entry;
use crate::persistent::{journal, stored_events};

impl PersistentSubscriptions {
    pub(crate) async fn create(
        self: Arc<Self>,
        key: GroupKey,
        settings: Settings,
        start: StartPosition,
    ) -> Result<(), GroupError> {
        run_to_completion(async move { self.create_now(key, settings, start).await }).await
    }

    async fn create_now(
        &self,
        key: GroupKey,
        mut settings: Settings,
        start: StartPosition,
    ) -> Result<(), GroupError> {
        let mut stored = self.stored.lock().await;
        let mut entries = stored.entries()?;
        if entries.iter().any(|entry| entry.key == key) {
            return Err(GroupError::Exists);
        }
        check(&settings)?;
        settings.start_from = self.start_from(&key.source, start).await?;
        journal::clear(&self.storage, &key).await?;
        entries.push(Entry::new(key.clone(), settings.clone())?);
        self.save(&mut stored, entries).await?;
        self.run(key, settings).await
    }

    /// Restarts the group from its checkpoint with other settings. Its clients are dropped.
    pub(crate) async fn update(
        self: Arc<Self>,
        key: GroupKey,
        settings: Settings,
        start: StartPosition,
    ) -> Result<(), GroupError> {
        run_to_completion(async move { self.update_now(key, settings, start).await }).await
    }

    async fn update_now(
        &self,
        key: GroupKey,
        mut settings: Settings,
        start: StartPosition,
    ) -> Result<(), GroupError> {
        let mut stored = self.stored.lock().await;
        let mut entries = stored.entries()?;
        let entry = entries.iter_mut().find(|entry| entry.key == key);
        let entry = entry.ok_or(GroupError::Missing)?;
        check(&settings)?;
        settings.start_from = self.start_from(&key.source, start).await?;
        let before = entry.settings.take();
        let before = before.ok_or_else(|| GroupError::Failed(UNREADABLE.to_owned()))?;
        settings.filter = before.filter;
        *entry = Entry::new(key.clone(), settings.clone())?;
        self.save(&mut stored, entries).await?;
        self.end(&key).await;
        self.run(key, settings).await
    }

    /// Ends the group, drops its clients, and deletes its state.
    pub(crate) async fn delete(self: Arc<Self>, key: GroupKey) -> Result<(), GroupError> {
        run_to_completion(async move { self.delete_now(&key).await }).await
    }

    async fn delete_now(&self, key: &GroupKey) -> Result<(), GroupError> {
        let mut stored = self.stored.lock().await;
        let mut entries = stored.entries()?;
        let before = entries.len();
        entries.retain(|entry| entry.key != *key);
        if entries.len() == before {
            return Err(GroupError::Missing);
        }
        self.save(&mut stored, entries).await?;
        self.end(key).await;
        Ok(journal::clear(&self.storage, key).await?)
    }

    /// Ends all groups and restarts them from the stored configuration.
    pub(crate) async fn restart(self: Arc<Self>) -> Result<(), GroupError> {
        run_to_completion(async move { self.restart_now().await }).await
    }

    async fn restart_now(&self) -> Result<(), GroupError> {
        let mut stored = self.stored.lock().await;
        let groups = std::mem::take(&mut *self.write());
        for running in groups {
            running.stop().await;
        }
        Ok(self.load(&mut stored).await?)
    }

    /// Stores these groups. Groups that could not start remain in the configuration.
    async fn save(
        &self,
        stored: &mut StoredConfiguration,
        entries: Vec<Entry>,
    ) -> Result<(), GroupError> {
        let event = stored_events::configuration_event(&entries)?;
        let stream = stored_events::configuration_stream();
        if journal::last_event(&self.storage, stream.clone())
            .await?
            .is_none()
        {
            let metadata = vec![stored_events::keep_two_events()];
            journal::append(&self.storage, stream.metastream(), metadata).await?;
        }
        journal::append(&self.storage, stream, vec![event]).await?;
        *stored = StoredConfiguration::Entries(entries);
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

    async fn start_from(
        &self,
        source: &Source,
        start: StartPosition,
    ) -> Result<StartFrom, GroupError> {
        let head = self.storage.committed();
        match (start, source) {
            (StartPosition::Beginning, _) => Ok(StartFrom::Start),
            (StartPosition::At(position), Source::All) if Position(position) > head => {
                Err(GroupError::Failed(BEYOND_THE_END.to_owned()))
            }
            (StartPosition::At(place), _) => Ok(StartFrom::At(place)),
            (StartPosition::End, Source::All) => Ok(StartFrom::End(head.following().0)),
            (StartPosition::End, Source::Stream(stream)) => {
                if self.storage.backlog_of(stream).is_some() {
                    return Err(GroupError::Unavailable);
                }
                let last = self.storage.last_revision(stream.clone()).await?;
                let last = last.unwrap_or(Some(TOMBSTONE_REVISION));
                Ok(StartFrom::End(last.map_or(0, |last| last + 1)))
            }
        }
    }
}

/// Runs a change to its end, even if the caller has gone.
async fn run_to_completion<F>(change: F) -> Result<(), GroupError>
where
    F: Future<Output = Result<(), GroupError>> + Send + 'static,
{
    let changed = tokio::spawn(change).await;
    changed.unwrap_or(Err(GroupError::Unavailable))
}

/// Texts of the real server.
const BEYOND_THE_END: &str = "Invalid Start From position: commit position must be less than or equal to the \
                              last commit position in the transaction file.";
const BATCH_TOO_LARGE: &str = "Specified argument was out of the range of valid values. (Parameter 'ReadBatchSize \
                               may not be greater than or equal to BufferSize')";

fn check(settings: &Settings) -> Result<(), GroupError> {
    if settings.read_batch_size >= settings.history_buffer_size {
        return Err(GroupError::Failed(BATCH_TOO_LARGE.to_owned()));
    }
    match settings.filter.as_ref().map(FilterSettings::filter) {
        Some(Err(invalid)) => Err(GroupError::Failed(invalid.to_string())),
        Some(Ok(_)) | None => Ok(()),
    }
}
