//! Links the events that were written before system streams were switched on, in small steps. Other writes run
//! between the steps.

use std::fmt;

use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use super::{Storage, StorageFailed};
use crate::event::Position;
use crate::stream_name::StreamName;
use crate::system_streams::is_index;

/// The pause before a failed step is retried, for example when the disk is full.
const PAUSE: Duration = Duration::from_secs(1);

/// System streams lack links: `done` of `all` places of the log are linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    done: u64,
    all: u64,
}

impl Backlog {
    /// `None` if every event is linked.
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
    /// What system streams lack, if anything.
    pub(crate) fn backlog(&self) -> Option<Backlog> {
        *self.backlog.borrow()
    }

    /// What system streams lack, if the name is that of a system stream.
    pub(crate) fn backlog_of(&self, stream: &StreamName) -> Option<Backlog> {
        self.backlog().filter(|_| is_index(stream.as_str()))
    }

    /// Waits until every event is linked.
    pub(crate) async fn wait_for_links(&self) {
        // This cannot fail: `self` holds the sender.
        drop(self.backlog.subscribe().wait_for(Option::is_none).await);
    }

    /// Adds missing links until none is missing or `stop` is cancelled.
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
