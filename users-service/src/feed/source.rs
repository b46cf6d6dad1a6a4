//! The source of the feed: it follows the publisher's mark, reads the log up to it, and gives each batch to all listeners.

use super::feed_event::FeedEvent;
use super::feed_position::FeedPosition;
use crate::integration::publisher::{PUBLISHER_STREAM, position_of, published_up_to};
use crate::stored_event::TOMBSTONES;
use bytes::Bytes;
use event_streams::{Delivery, EventStreams, Unavailable};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

/// The most events of a batch.
const BATCH: usize = 500;
/// How many batches a listener may be behind before it is ended. All of them together take at most about 8 MB.
const BATCHES: usize = 64;
/// How many listeners that are behind read a page at once.
const READERS: usize = 4;
/// The default of the most listeners at once.
const LISTENERS: usize = 10_000;
/// Streams whose names begin so have the events of the feed. Other streams that begin so are left out later.
const STREAMS: &str = TOMBSTONES;

/// The feed of this process. Clones share it.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: EventStreams,
    /// How far the batches have come. `None` until the source has started.
    reached: Mutex<Option<FeedPosition>>,
    batches: broadcast::Sender<Arc<FeedBatch>>,
    readers: Semaphore,
    listeners: Arc<Semaphore>,
}

/// Consecutive events of the feed.
#[derive(Debug)]
pub(super) struct FeedBatch {
    pub(super) events: Vec<FeedEvent>,
    /// The text of all events.
    pub(super) text: Bytes,
    /// The feed has no other events up to this position.
    pub(super) reached: FeedPosition,
}

/// The feed cannot be read now.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The store is away.
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// The source has not started, or the publisher's mark cannot be read.
    #[error("the publisher's mark is not known yet")]
    NotStarted,
    /// The position is not one of this log.
    #[error("the position lies beyond the end of the log")]
    Beyond,
    /// All places for listeners are taken.
    #[error("too many listeners")]
    Full,
}

impl FeedBatch {
    fn of(events: Vec<FeedEvent>, reached: FeedPosition) -> Self {
        let text = events
            .iter()
            .map(|event| &event.text[..])
            .collect::<Vec<_>>();
        Self {
            text: text.concat().into(),
            events,
            reached,
        }
    }
}

impl Feed {
    /// A feed from this store. It has nothing until [`run`](Self::run) is called.
    #[must_use]
    pub fn new(store: EventStreams) -> Self {
        Self(Arc::new(Shared {
            store,
            reached: Mutex::default(),
            batches: broadcast::Sender::new(BATCHES),
            readers: Semaphore::new(READERS),
            listeners: Arc::new(Semaphore::new(LISTENERS)),
        }))
    }

    /// Follows the publisher's mark until `shutdown`. `state` holds the reason while it cannot.
    ///
    /// # Errors
    /// If the publisher's checkpoint cannot be read.
    pub async fn run(
        &self,
        state: &watch::Sender<Result<(), String>>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mark = FeedPosition(published_up_to(&self.0.store).await?);
        self.start_at(mark);
        let mut marks = self.0.store.subscribe_all(&[PUBLISHER_STREAM], mark.0);
        loop {
            let Some(delivery) = shutdown.run_until_cancelled(marks.next()).await else {
                return Ok(());
            };
            match delivery {
                Delivery::Event(checkpoint) if checkpoint.stream == PUBLISHER_STREAM => {
                    self.read_up_to(FeedPosition(position_of(&checkpoint)?))
                        .await?;
                    let _ = state.send_replace(Ok(()));
                }
                Delivery::CaughtUp => {
                    let _ = state.send_replace(Ok(()));
                }
                // The name of another stream may begin as that of the checkpoints.
                Delivery::Event(_) | Delivery::Checkpoint(_) => {}
                Delivery::Interrupted(reason) => {
                    let _ = state.send_replace(Err(reason.to_string()));
                }
            }
        }
    }

    /// Starts at this position. After an interruption the feed goes on where it was.
    pub(super) fn start_at(&self, mark: FeedPosition) {
        self.lock_reached().get_or_insert(mark);
    }

    /// Gives the events up to the mark to all listeners.
    async fn read_up_to(&self, mark: FeedPosition) -> Result<(), FeedError> {
        while let Some(from) = self.reached()
            && from < mark
        {
            let batch = Arc::new(self.batch(from, mark).await?);
            // The position comes first. So whoever does not get the batch sees the position, and reads the batch.
            *self.lock_reached() = Some(batch.reached);
            let _ = self.0.batches.send(batch);
        }
        Ok(())
    }

    /// How far the batches have come. `None` until the publisher's mark was read.
    #[must_use]
    pub fn reached(&self) -> Option<FeedPosition> {
        *self.lock_reached()
    }

    fn lock_reached(&self) -> MutexGuard<'_, Option<FeedPosition>> {
        let reached = self.0.reached.lock();
        reached.unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch after `from`, up to `to`.
    pub(super) async fn batch(
        &self,
        from: FeedPosition,
        to: FeedPosition,
    ) -> Result<FeedBatch, FeedError> {
        let page = self.0.store.read_all(&[STREAMS], from.0, BATCH).await?;
        let reached = if page.end {
            to
        } else {
            FeedPosition(page.position).min(to)
        };
        let events = page.events.iter();
        let events = events.take_while(|event| FeedPosition(Some(event.position)) <= to);
        let events = events.filter_map(FeedEvent::of).collect();
        Ok(FeedBatch::of(events, reached))
    }

    /// The next batch for a listener that is behind. Few are read at once.
    pub(super) async fn page(
        &self,
        from: FeedPosition,
        to: FeedPosition,
    ) -> Result<FeedBatch, FeedError> {
        let _reading = self.0.readers.acquire().await;
        self.batch(from, to).await
    }

    /// Fails if the position is beyond the end of the log. One that lies beyond the mark may come from a process that knows a
    /// later mark.
    pub(super) async fn check(&self, position: FeedPosition) -> Result<(), FeedError> {
        if self.reached().is_none_or(|reached| position > reached)
            && position.0 > self.0.store.log_end().await?
        {
            return Err(FeedError::Beyond);
        }
        Ok(())
    }

    /// All batches from now on.
    pub(super) fn batches(&self) -> broadcast::Receiver<Arc<FeedBatch>> {
        self.0.batches.subscribe()
    }

    /// A place for a listener.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, FeedError> {
        let place = Arc::clone(&self.0.listeners).try_acquire_owned();
        place.map_err(|_| FeedError::Full)
    }

    /// The number of listeners.
    #[must_use]
    pub fn listeners(&self) -> usize {
        LISTENERS - self.0.listeners.available_permits()
    }
}
