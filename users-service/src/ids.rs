//! Ids for new users, fetched from the id service.
//!
//! Invariants:
//! - One request is in flight. It fetches one id for each waiting caller, plus spare ones: as many as keep busy callers
//!   supplied for about a tenth of a second.
//! - Ids only increase, except when the service finds the last id too far ahead of its clock.
//! - No spare id is handed out that is older than a second, so ids follow the order of creation.
//! - The number of waiting callers and their waiting time are bounded.

mod over_broker;
mod over_http;
mod route;
#[cfg(test)]
mod tests;

pub use over_broker::{OverBroker, QUEUE};
pub use over_http::OverHttp;

use crate::domain::UserId;
use futures::future::BoxFuture;
use route::Route;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// The most callers that wait for an id.
const WAITING: usize = 4_096;
/// How many ids a request fetches at least in addition to those for the waiting callers.
const FEWEST_SPARE: usize = 8;
/// How many ids a request fetches at most in addition to those for the waiting callers.
const MOST_SPARE: usize = 1_024;
/// If the spare ids lasted for less time than this, the next request fetches twice as many. Otherwise it fetches half as many.
const LASTING: Duration = Duration::from_millis(100);
/// The most ids that one request fetches.
const MOST: usize = 10_000;
const _: () = assert!(WAITING + MOST_SPARE <= MOST);
/// How long an id may stay in stock.
const FRESH: Duration = Duration::from_secs(1);
/// How long a caller waits for an id. It is longer than a request that tries both transports in vain, and short enough that
/// a client learns within two seconds that no ids can be had.
const PATIENCE: Duration = Duration::from_millis(1_750);

/// A connection to the id service, over one transport.
pub trait IdService: Send + Sync + 'static {
    /// Fetches `count` ids above `after`. Returns within a bounded time.
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>>;
}

/// The reason why a request returned no ids.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// `after` is too far ahead of the service's clock. A request without `after` may succeed.
    #[error("the last id is too far ahead of the clock")]
    AfterTooFar,
    /// The service did not answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The route is closed: a request timed out, and no probe has succeeded since.
    #[error("no answer since a request timed out")]
    Closed,
    /// The request failed or was refused.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// No id was available in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no id was available in time")]
pub struct NoIds;

/// Hands out ids. Clones share the stock and the request in flight.
#[derive(Clone)]
pub struct IdSource {
    waiting: mpsc::Sender<oneshot::Sender<UserId>>,
}

impl IdSource {
    /// Fetches ids from the first of `services` that answers. Needs a tokio runtime.
    #[must_use]
    pub fn new(services: Vec<Box<dyn IdService>>) -> Self {
        let (waiting, requests) = mpsc::channel(WAITING);
        let stock = Stock {
            routes: services.into_iter().map(Route::new).collect(),
            ids: VecDeque::new(),
            spare: FEWEST_SPARE,
            fetched: None,
            last: None,
        };
        tokio::spawn(stock.serve(requests));
        Self { waiting }
    }

    /// An id above all ids that were handed out before.
    ///
    /// # Errors
    /// [`NoIds`] if too many callers are waiting, or no service answers.
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
    routes: Vec<Route>,
    ids: VecDeque<UserId>,
    /// How many spare ids the last request fetched.
    spare: usize,
    /// The time of the last successful request.
    fetched: Option<Instant>,
    last: Option<UserId>,
}

impl Stock {
    /// Serves requests until the last [`IdSource`] is dropped.
    async fn serve(mut self, mut requests: mpsc::Receiver<oneshot::Sender<UserId>>) {
        let mut batch = Vec::new();
        while requests.recv_many(&mut batch, WAITING).await > 0 {
            if self.fetched.is_none_or(|at| at.elapsed() > FRESH) {
                self.ids.clear();
            }
            let unserved = self.hand_out(std::mem::take(&mut batch));
            if unserved.is_empty() {
                continue;
            }
            self.adapt();
            self.fetch(unserved.len() + self.spare).await;
            // These ids are newer than the requests that waited for them, so their age does not matter. A request that
            // gets no id now fails, because its sender is dropped.
            self.hand_out(unserved);
        }
    }

    /// Hands out ids in the order of the requests. Returns the requests for which there was no id.
    fn hand_out(&mut self, waiting: Vec<oneshot::Sender<UserId>>) -> Vec<oneshot::Sender<UserId>> {
        let mut waiting = waiting.into_iter();
        for waiter in waiting.by_ref() {
            let Some(id) = self.ids.pop_front() else {
                return std::iter::once(waiter).chain(waiting).collect();
            };
            self.last = Some(id);
            // If the caller has stopped waiting, the id is lost. Gaps between ids are allowed.
            let _ = waiter.send(id);
        }
        Vec::new()
    }

    /// Adapts the number of spare ids to the time for which the last ones sufficed.
    fn adapt(&mut self) {
        let Some(fetched) = self.fetched else {
            return;
        };
        self.spare = if fetched.elapsed() < LASTING {
            self.spare * 2
        } else {
            self.spare / 2
        };
        self.spare = self.spare.clamp(FEWEST_SPARE, MOST_SPARE);
    }

    async fn fetch(&mut self, count: usize) {
        let requested = Instant::now();
        for route in &mut self.routes {
            match route.fetch(count, self.last).await {
                Ok(mut ids) => {
                    ids.sort_unstable();
                    self.ids = ids.into();
                    self.fetched = Some(requested);
                    return;
                }
                Err(error) => tracing::debug!(%error, "a route returned no ids"),
            }
        }
        tracing::warn!("no route returned ids");
    }
}
