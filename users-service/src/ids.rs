//! Ids for new users, from the service that makes them.
//!
//! Invariants: one request is in flight, and asks for as many ids as wait, plus a few; ids only increase, except where
//! the service finds the last one too far ahead of its clock; none is handed out that is older than a second, so that
//! order stays honest; who waits is bounded in number and in time.

mod over_broker;
mod over_http;
#[cfg(test)]
mod tests;
mod way;

pub use over_broker::OverBroker;
pub use over_http::OverHttp;

use crate::domain::UserId;
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use way::Way;

/// How many may wait for an id.
const WAITING: usize = 4_096;
/// How many ids are asked for beyond those that are waited for.
const SPARE: usize = 8;
/// The most that one request asks for.
const MOST: usize = 10_000;
/// How long an id may lie in stock.
const FRESH: Duration = Duration::from_secs(1);
/// How long anyone waits for an id.
const PATIENCE: Duration = Duration::from_secs(5);

/// A way to the service that makes ids.
pub trait IdService: Send + Sync + 'static {
    /// Asks for `count` ids above `after`; answers them in ascending order, bounded in time.
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>>;
}

/// Why a request for ids got none.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// `after` leads the clock of the service too far; without it there may be ids.
    #[error("the id to be above is too far ahead")]
    AfterTooFar,
    /// The way, or the service, hangs.
    #[error("no answer in time")]
    TimedOut,
    /// The way hung, and has not answered a probe since.
    #[error("no answer since a request that got none in time")]
    Closed,
    /// It failed, or was refused, at once.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// No id could be had in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no id could be had in time")]
pub struct NoIds;

/// Hands out ids. Clones share the stock and the one request in flight.
#[derive(Clone)]
pub struct IdSource {
    waiting: mpsc::Sender<oneshot::Sender<UserId>>,
}

impl IdSource {
    /// Asks the first of `services` that answers, in this order. Needs a tokio runtime.
    #[must_use]
    pub fn new(services: Vec<Box<dyn IdService>>) -> Self {
        let (waiting, requests) = mpsc::channel(WAITING);
        let stock = Stock {
            ways: services.into_iter().map(Way::new).collect(),
            ids: VecDeque::new(),
            fetched: Instant::now(),
            last: None,
        };
        tokio::spawn(stock.serve(requests));
        Self { waiting }
    }

    /// An id above all that were handed out before.
    ///
    /// # Errors
    /// [`NoIds`] when too many wait already, or no service answers.
    pub async fn next(&self) -> Result<UserId, NoIds> {
        let (sender, id) = oneshot::channel();
        self.waiting.try_send(sender).map_err(|_| NoIds)?;
        let id = tokio::time::timeout(PATIENCE, id).await;
        id.map_err(|_| NoIds)?.map_err(|_| NoIds)
    }
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdSource")
    }
}

struct Stock {
    ways: Vec<Way>,
    ids: VecDeque<UserId>,
    fetched: Instant,
    last: Option<UserId>,
}

impl Stock {
    /// Serves until the last [`IdSource`] is gone.
    async fn serve(mut self, mut requests: mpsc::Receiver<oneshot::Sender<UserId>>) {
        let mut batch = Vec::new();
        while requests.recv_many(&mut batch, MOST - SPARE).await > 0 {
            if self.fetched.elapsed() > FRESH {
                self.ids.clear();
            }
            let unserved = self.hand_out(std::mem::take(&mut batch));
            if unserved.is_empty() {
                continue;
            }
            self.fetch(unserved.len() + SPARE).await;
            // They asked before these ids were made, however long that took. Whoever gets none now is told so: the
            // sender is dropped.
            self.hand_out(unserved);
        }
    }

    /// Gives ids to as many as there are, in the order in which they came; answers those who got none.
    fn hand_out(&mut self, waiting: Vec<oneshot::Sender<UserId>>) -> Vec<oneshot::Sender<UserId>> {
        let mut waiting = waiting.into_iter();
        for waiter in waiting.by_ref() {
            let Some(id) = self.ids.pop_front() else {
                return std::iter::once(waiter).chain(waiting).collect();
            };
            self.last = Some(id);
            // Who does not wait any more leaves a gap, which is no harm.
            let _ = waiter.send(id);
        }
        Vec::new()
    }

    async fn fetch(&mut self, count: usize) {
        let asked = Instant::now();
        for way in &mut self.ways {
            match way.fetch(count, self.last).await {
                Ok(mut ids) => {
                    ids.sort_unstable();
                    self.ids = ids.into();
                    self.fetched = asked;
                    return;
                }
                Err(error) => tracing::debug!(%error, "no ids this way"),
            }
        }
        tracing::warn!("no ids from anywhere");
    }
}
