//! One listener of the feed.

use super::feed_position::FeedPosition;
use super::source::{Feed, FeedBatch, FeedError};
use crate::domain::UserId;
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio_util::sync::CancellationToken;

/// How often a listener that has nothing else to hear gets its position. Without that, proxies end a connection as idle, and a
/// listener whose selection is rare would search the same events again when it goes on.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The first text. A client that was ended should come again after a second.
const OPENING: &str = "retry: 1000\n";
/// The last text of a listener that did not keep up.
const TOO_SLOW: &str = ": this listener was too slow; go on after the last id\n\n";
/// The last text of a listener whose events cannot be read.
const INTERRUPTED: &str = ": the events cannot be read now; go on after the last id\n\n";

/// Where a listener starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first event of the log.
    Beginning,
    /// With the next event.
    Now,
    /// After this position.
    After(FeedPosition),
}

/// The events that a listener wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only events of this user.
    pub user: Option<UserId>,
    /// Only events of these types. None means all types.
    pub types: Vec<&'static str>,
}

/// One listener of the feed.
pub struct Listener {
    feed: Feed,
    selection: Selection,
    /// Everything up to this position was heard or not wanted.
    position: FeedPosition,
    batches: Batches,
    opening: Option<Bytes>,
    ended: bool,
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
}

/// Where the next batch comes from.
enum Batches {
    /// The listener is behind, and reads a page of the log.
    Reading(BoxFuture<'static, Result<FeedBatch, FeedError>>),
    /// The listener is up to date, and gets what all listeners get.
    Live(broadcast::Receiver<Arc<FeedBatch>>),
}

impl Batches {
    /// The batches after this position. The receiver comes first: what the feed reaches later is received, and what it had
    /// reached before is read.
    fn after(position: FeedPosition, feed: &Feed) -> Result<Self, FeedError> {
        let live = feed.batches();
        let reached = feed.reached().ok_or(FeedError::NotStarted)?;
        if position >= reached {
            return Ok(Self::Live(live));
        }
        let feed = feed.clone();
        Ok(Self::Reading(
            async move { feed.page(position, reached).await }.boxed(),
        ))
    }

    /// The next batch. Fails with the last text of the listener. Cancel-safe.
    async fn next(&mut self) -> Result<Arc<FeedBatch>, &'static str> {
        match self {
            Self::Reading(page) => page.await.map(Arc::new).map_err(|_| INTERRUPTED),
            Self::Live(batches) => batches.recv().await.map_err(|_| TOO_SLOW),
        }
    }
}

impl Selection {
    fn is_all(&self) -> bool {
        self.user.is_none() && self.types.is_empty()
    }

    /// The text of the wanted events after this position.
    fn of(&self, batch: &FeedBatch, after: FeedPosition) -> Bytes {
        let first = batch.events.first();
        if self.is_all() && first.is_none_or(|first| first.position > after) {
            return batch.text.clone();
        }
        let mut text = BytesMut::new();
        for event in &batch.events {
            let wanted = self.user.is_none_or(|user| user == event.user)
                && (self.types.is_empty() || self.types.contains(&event.event_type));
            if wanted && event.position > after {
                text.extend_from_slice(&event.text);
            }
        }
        text.freeze()
    }
}

impl Listener {
    /// Starts to listen. The listener ends at `shutdown`.
    ///
    /// # Errors
    /// [`FeedError`]
    pub async fn start(
        feed: Feed,
        selection: Selection,
        start: Start,
        shutdown: CancellationToken,
    ) -> Result<Self, FeedError> {
        let place = feed.place()?;
        let position = match start {
            Start::Beginning => FeedPosition(None),
            Start::Now => feed.reached().ok_or(FeedError::NotStarted)?,
            Start::After(position) => {
                feed.check(position).await?;
                position
            }
        };
        let opening = format!("{OPENING}id: {position}\n\n");
        let batches = Batches::after(position, &feed)?;
        Ok(Self {
            feed,
            selection,
            position,
            batches,
            opening: Some(opening.into()),
            ended: false,
            shutdown,
            _place: place,
        })
    }

    /// Everything up to this position was heard or not wanted.
    #[must_use]
    pub fn position(&self) -> FeedPosition {
        self.position
    }

    /// The next text for the client. `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        if self.ended {
            return None;
        }
        let shutdown = self.shutdown.clone();
        let heard = shutdown.run_until_cancelled(self.hear()).await?;
        self.ended = heard.is_err();
        Some(heard.unwrap_or_else(|last| Bytes::from_static(last.as_bytes())))
    }

    /// The next wanted events, or a sign of life. Fails with the last text.
    async fn hear(&mut self) -> Result<Bytes, &'static str> {
        let alive = tokio::time::sleep(KEEP_ALIVE);
        tokio::pin!(alive);
        loop {
            let batch = tokio::select! {
                batch = self.batches.next() => batch?,
                () = &mut alive => return Ok(self.sign_of_life()),
            };
            let text = self.selection.of(&batch, self.position);
            self.position = self.position.max(batch.reached);
            if matches!(self.batches, Batches::Reading(_)) {
                let batches = Batches::after(self.position, &self.feed);
                self.batches = batches.map_err(|_| INTERRUPTED)?;
            }
            if !text.is_empty() {
                return Ok(text);
            }
        }
    }

    fn sign_of_life(&self) -> Bytes {
        format!("id: {}\n: alive\n\n", self.position).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_streams::EventStreams;

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_hears_nothing_gets_its_position_every_fifteen_seconds() {
        let nowhere = EventStreams::connect("esdb://127.0.0.1:1?tls=false").unwrap();
        let feed = Feed::new(nowhere);
        feed.start_at(FeedPosition(None));
        let (selection, shutdown) = (Selection::default(), CancellationToken::new());
        let listener = Listener::start(feed, selection, Start::Now, shutdown);
        let mut listener = listener.await.unwrap();
        let opening = listener.next().await.unwrap();
        let id = format!("id: {}\n", FeedPosition(None));
        assert_eq!(opening, format!("retry: 1000\n{id}\n"));
        let began = tokio::time::Instant::now();
        for times in 1..4 {
            let sign = listener.next().await.unwrap();
            assert_eq!(sign, format!("{id}: alive\n\n"));
            assert_eq!(began.elapsed(), KEEP_ALIVE * times);
        }
    }
}
