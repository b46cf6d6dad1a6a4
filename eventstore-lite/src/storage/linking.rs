//! Makes the links of what was written before system streams were switched on, in small steps between which others
//! write.

use std::fmt;

use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use super::{Storage, StorageFailed};
use crate::event::Position;
use crate::stream_name::StreamName;
use crate::system_streams::is_index;

/// How long to wait before a step is tried again that failed: for want of room on the disk, for example.
const PAUSE: Duration = Duration::from_secs(1);

/// System streams do not have all that they are to have: so many places of the log are done, of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    done: u64,
    all: u64,
}

impl Backlog {
    /// `None` if nothing is missing.
    pub(super) fn new(linked: Position, head: Position) -> Option<Self> {
        (linked < head).then(|| Self {
            done: linked.places_after(Position::START),
            all: head.places_after(Position::START),
        })
    }

    pub(super) fn missing(self) -> u64 {
        self.all - self.done
    }
}

impl fmt::Display for Backlog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, all } = self;
        write!(
            formatter,
            "system streams are being brought up to date: {done} of {all} places of the log are done"
        )
    }
}

impl Storage {
    /// Whether system streams lack links.
    pub(crate) fn backlog(&self) -> Option<Backlog> {
        *self.backlog.borrow()
    }

    /// Whether this stream is one that lacks links, perhaps.
    pub(crate) fn backlog_of(&self, stream: &StreamName) -> Option<Backlog> {
        self.backlog().filter(|_| is_index(stream.as_str()))
    }

    /// Waits until system streams have all that they are to have.
    pub(crate) async fn wait_for_links(&self) {
        // It does not fail: the sender is here.
        drop(self.backlog.subscribe().wait_for(Option::is_none).await);
    }

    /// Makes the links that are missing, until there are none, or `stop` is cancelled.
    pub(crate) async fn link_earlier_events(&self, stop: &CancellationToken) {
        let Some(backlog) = self.backlog() else {
            return;
        };
        tracing::info!("{backlog}");
        if stop.run_until_cancelled(self.catch_up()).await.is_some() {
            tracing::info!("system streams are up to date");
        }
    }

    async fn catch_up(&self) {
        while self.backlog().is_some() {
            match self.writer.link_earlier_events().await {
                Ok(backlog) => {
                    self.backlog.send_replace(backlog);
                }
                Err(StorageFailed) => sleep(PAUSE).await,
            }
        }
    }
}
