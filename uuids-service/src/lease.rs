//! Keeps this process in windows: takes a worker number, renews ahead of need, and takes another number when it lost
//! the one it had, or when the clock stepped back by more than a window.
//!
//! Invariants: every grant is appended at the exact revision at which it was decided, and counts only once the log has
//! it; an append whose outcome is unknown is repeated as it is, with the same event id, until the outcome is known. Only
//! the clock causes a grant, no request for ids does.

use std::{sync::Arc, time::Duration};

use event_sourcing::{Decider as _, fold};
use event_streams::{AppendError, EventStreams, Expected, NewEvent, ReadError, Unavailable};
use jittered_backoff::Backoff;
use uuid::Uuid;

use crate::{
    clock::Clock,
    domain::{
        id::WORKERS,
        issuer::Need,
        window::{GrantWindow, Holder, Purpose, Tenure, WorkerNumber},
    },
    ids::Ids,
    stored_event,
};

/// How often it looks whether something is needed. It is shorter than a request waits, so that a request which comes
/// right after the clock stepped ahead is served.
const TICK: Duration = Duration::from_millis(100);

/// The task that brings windows to [`Ids`].
pub(crate) struct Lease {
    pub(crate) streams: EventStreams,
    pub(crate) ids: Arc<Ids>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) holder: Holder,
}

/// A worker number as it was last seen in the log.
struct Seat {
    worker: u16,
    expected: Expected,
    tenure: Tenure,
}

impl Lease {
    pub(crate) fn new(streams: EventStreams, ids: Arc<Ids>, clock: Arc<dyn Clock>) -> Self {
        let holder = Holder(Uuid::new_v4());
        Self {
            streams,
            ids,
            clock,
            holder,
        }
    }

    /// Never returns; drop it to stop.
    pub(crate) async fn keep(self) {
        let mut held = None;
        let mut backoff = Backoff::default();
        loop {
            held = match self.next(held).await {
                Ok(Some(seat)) => {
                    backoff.reset();
                    self.until_needed(seat).await
                }
                Ok(None) => {
                    self.trouble("no worker number is free");
                    backoff.pause().await;
                    None
                }
                Err(unavailable) => {
                    self.trouble(&unavailable.to_string());
                    backoff.pause().await;
                    None
                }
            };
        }
    }

    /// The number held, with its next window; another number where it was lost or none was held.
    async fn next(&self, held: Option<Seat>) -> Result<Option<Seat>, Unavailable> {
        if let Some(seat) = held
            && let Some(seat) = self.claim(seat, Purpose::GoOn).await
        {
            return Ok(Some(seat));
        }
        // A random first, so that processes that start together do not all want the same.
        let first = rand::random_range(0..WORKERS);
        for worker in (first..WORKERS).chain(0..first) {
            if let Some(seat) = self.look(worker).await?
                && let Some(seat) = self.claim(seat, Purpose::TakeTheNumber).await
            {
                tracing::info!(worker, "took a worker number");
                return Ok(Some(seat));
            }
        }
        Ok(None)
    }

    /// The number as the log has it; `None` for one that can never be granted again.
    async fn look(&self, worker: u16) -> Result<Option<Seat>, Unavailable> {
        let last = match self.streams.read_last(&stream(worker)).await {
            Ok(last) => last,
            Err(ReadError::StreamDeleted) => return Ok(None),
            Err(ReadError::Unavailable(unavailable)) => return Err(unavailable),
        };
        let expected = last
            .as_ref()
            .map_or(Expected::NoStream, |last| Expected::Revision(last.revision));
        // The last event says all that those before it did.
        let Ok(events) = last
            .iter()
            .map(stored_event::load)
            .collect::<Result<Vec<_>, _>>()
        else {
            tracing::warn!(worker, "the last event of the worker number is no window");
            return Ok(None);
        };
        let tenure = fold::<WorkerNumber>(&events);
        Ok(Some(Seat {
            worker,
            expected,
            tenure,
        }))
    }

    /// The number with one window more, if it is due; `None` when it is, or has become, another's.
    async fn claim(&self, seat: Seat, purpose: Purpose) -> Option<Seat> {
        let command = GrantWindow {
            holder: self.holder,
            now_ms: self.clock.now_ms(),
            purpose,
        };
        let events = WorkerNumber::decide(&seat.tenure, command)
            .inspect_err(|refusal| tracing::debug!(worker = seat.worker, %refusal, "no window"))
            .ok()?;
        let Some(event) = events.first() else {
            return Some(seat);
        };
        let revision = self.append(&seat, stored_event::store(event)).await?;
        self.ids.grant(seat.worker, event.window);
        Some(Seat {
            expected: Expected::Revision(revision),
            tenure: WorkerNumber::evolve(seat.tenure, event),
            ..seat
        })
    }

    /// The revision that the event got; `None` when another event was there before it.
    async fn append(&self, seat: &Seat, event: NewEvent) -> Option<u64> {
        let stream = stream(seat.worker);
        let mut backoff = Backoff::default();
        loop {
            match self
                .streams
                .append(&stream, seat.expected, vec![event.clone()])
                .await
            {
                Ok(appended) => return Some(appended.revision),
                Err(AppendError::Unavailable(unavailable)) => {
                    self.trouble(&unavailable.to_string());
                    backoff.pause().await;
                }
                Err(lost) => {
                    tracing::info!(worker = seat.worker, reason = %lost, "did not get the worker number");
                    return None;
                }
            }
        }
    }

    /// Returns when something must be got from the log: with the number, if it still serves.
    async fn until_needed(&self, seat: Seat) -> Option<Seat> {
        loop {
            tokio::time::sleep(TICK).await;
            match self.ids.need() {
                Need::Nothing => {}
                Need::Window => return Some(seat),
                Need::Number => {
                    let worker = seat.worker;
                    tracing::warn!(worker, "the clock stepped back by more than a window");
                    return None;
                }
            }
        }
    }

    fn trouble(&self, why: &str) {
        if self.ids.trouble(why.to_owned()) {
            tracing::warn!(why, "no new window of ids");
        }
    }
}

fn stream(worker: u16) -> String {
    format!("uuids-worker-{worker}")
}
