//! Reads from the end of the log in memory if that is enough, and from the database otherwise.

use std::sync::Arc;

use super::read_all::{self, AllPage, AllRead};
use super::read_stream::{self, FollowPage, StreamFollow, StreamPage, StreamRead, Tombstoned};
use super::review::{self, ReviewItem, Visibility};
use super::{Storage, StorageFailed, StreamEntry, catalog};
use crate::event::Position;
use crate::filter::InvalidFilter;
use crate::stream_name::StreamName;

impl Storage {
    /// Reads one page of a stream.
    pub(crate) async fn read_stream(&self, read: StreamRead) -> Result<StreamPage, StorageFailed> {
        self.readers
            .run(move |connection| read_stream::read(connection, &read))
            .await
    }

    /// Reads the next page of a subscription to a stream.
    pub(crate) async fn follow_stream(
        &self,
        follow: StreamFollow,
    ) -> Result<FollowPage, StorageFailed> {
        let recent = self.writer.recent();
        if let Some(followed) = recent.follow(&follow) {
            return Ok(followed);
        }
        let (version, key) = (recent.version(), follow.clone());
        let has_caught_up = !follow.only_visible;
        let read = self
            .readers
            .run(move |connection| read_stream::follow(connection, &follow));
        if has_caught_up {
            self.follows.read(version, key, read).await
        } else {
            read.await
        }
    }

    /// The revision of the last event of a stream, if it has one.
    pub(crate) async fn last_revision(
        &self,
        stream: StreamName,
    ) -> Result<Result<Option<u64>, Tombstoned>, StorageFailed> {
        self.readers
            .run(move |connection| read_stream::last_revision(connection, &stream))
            .await
    }

    /// Reads one page of the log.
    pub(crate) async fn read_all(
        &self,
        read: AllRead,
    ) -> Result<Result<AllPage, InvalidFilter>, StorageFailed> {
        if let Some(page) = self.recent(&read).await? {
            return Ok(page);
        }
        let recent = self.writer.recent();
        let has_caught_up = read.filter.is_none() && recent.has(&read);
        let (version, key) = (recent.version(), (read.from, read.limit));
        let read = self
            .readers
            .run(move |connection| read_all::read(connection, &read));
        if has_caught_up {
            self.ends.read(version, key, read).await
        } else {
            read.await
        }
    }

    /// Reads a page from memory if it is there. A filter that may take long runs on a blocking thread.
    async fn recent(
        &self,
        read: &AllRead,
    ) -> Result<Option<Result<AllPage, InvalidFilter>>, StorageFailed> {
        let recent = self.writer.recent();
        let filter = read.filter.as_ref();
        if !filter.is_some_and(|filter| filter.is_costly()) || !recent.has(read) {
            return Ok(recent.read_all(read));
        }
        let (recent, read) = (Arc::clone(recent), read.clone());
        let page = tokio::task::spawn_blocking(move || recent.read_all(&read));
        page.await.map_err(|_| StorageFailed)
    }

    /// Whether there is an event after `after` and up to `to` that was not written by a persistent subscription to
    /// `$all`.
    pub(crate) async fn has_foreign_events(
        &self,
        after: Position,
        to: Position,
    ) -> Result<bool, StorageFailed> {
        self.readers
            .run(move |connection| read_all::has_foreign_events(connection, (after, to)))
            .await
    }

    /// Which of these events, read earlier, are still visible.
    pub(crate) async fn review(
        &self,
        events: Vec<ReviewItem>,
    ) -> Result<Vec<Visibility>, StorageFailed> {
        self.readers
            .run(move |connection| review::review(connection, &events))
            .await
    }

    /// A page of the streams whose names begin with `prefix` and follow `after`.
    pub(crate) async fn list_streams(
        &self,
        prefix: String,
        after: String,
    ) -> Result<Vec<StreamEntry>, StorageFailed> {
        self.readers
            .run(move |connection| catalog::list(connection, &prefix, &after))
            .await
    }
}
