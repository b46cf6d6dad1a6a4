//! Supplies this process with windows. It takes a worker number and renews its window early. It takes another number when
//! it has lost the current one, or when the clock has stepped back by more than a window.
//!
//! Invariants: every grant is appended at the exact revision at which it was decided, and is used only once the log has
//! it. An append with an unknown outcome is repeated unchanged, with the same event id, until the outcome is known. Only
//! the clock causes a grant; requests for ids do not.

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

/// Time between two checks whether a window or a number is needed. It is shorter than the longest wait of a request, so
/// that a request right after a forward step of the clock is served.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The task that grants windows to [`Ids`].
pub(crate) struct LeaseKeeper {
    pub(crate) streams: EventStreams,
    pub(crate) ids: Arc<Ids>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) holder: Holder,
}

/// A worker number as this process last saw it in the log.
struct KnownNumber {
    worker: u16,
    expected: Expected,
    tenure: Tenure,
}

impl LeaseKeeper {
    pub(crate) fn new(streams: EventStreams, ids: Arc<Ids>, clock: Arc<dyn Clock>) -> Self {
        let holder = Holder(Uuid::new_v4());
        Self {
            streams,
            ids,
            clock,
            holder,
        }
    }

    /// Runs until the future is dropped.
    pub(crate) async fn run(self) {
        let mut held = None;
        let mut backoff = Backoff::default();
        loop {
            held = match self.next(held).await {
                Ok(Some(known)) => {
                    backoff.reset();
                    self.until_needed(known).await
                }
                Ok(None) => {
                    self.report_failure("no worker number is free");
                    backoff.pause().await;
                    None
                }
                Err(unavailable) => {
                    self.report_failure(&unavailable.to_string());
                    backoff.pause().await;
                    None
                }
            };
        }
    }

    /// Renews the held number, or takes another one if that fails or none is held. `None` if no number is free.
    async fn next(&self, held: Option<KnownNumber>) -> Result<Option<KnownNumber>, Unavailable> {
        if let Some(known) = held
            && let Some(known) = self.claim(known, Purpose::Renew).await
        {
            return Ok(Some(known));
        }
        // The search begins at a random number, so that processes that start together do not all try the same one.
        let first = rand::random_range(0..WORKERS);
        for worker in (first..WORKERS).chain(0..first) {
            if let Some(known) = self.look(worker).await?
                && let Some(known) = self.claim(known, Purpose::Take).await
            {
                tracing::info!(worker, "took a worker number");
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// Reads a number from the log; `None` if it can never be granted again.
    async fn look(&self, worker: u16) -> Result<Option<KnownNumber>, Unavailable> {
        let last = match self.streams.read_last(&stream(worker)).await {
            Ok(last) => last,
            Err(ReadError::StreamDeleted) => return Ok(None),
            Err(ReadError::Unavailable(unavailable)) => return Err(unavailable),
        };
        let expected = last
            .as_ref()
            .map_or(Expected::NoStream, |last| Expected::Revision(last.revision));
        // The last event alone determines the state.
        let Ok(events) = last
            .iter()
            .map(stored_event::load)
            .collect::<Result<Vec<_>, _>>()
        else {
            tracing::warn!(
                worker,
                "the last event of the worker number is not a window"
            );
            return Ok(None);
        };
        let tenure = fold::<WorkerNumber>(&events);
        Ok(Some(KnownNumber {
            worker,
            expected,
            tenure,
        }))
    }

    /// Appends the next window of a number, if one is due. `None` if another process holds the number.
    async fn claim(&self, known: KnownNumber, purpose: Purpose) -> Option<KnownNumber> {
        let command = GrantWindow {
            holder: self.holder,
            now_ms: self.clock.now_ms(),
            purpose,
        };
        let events = WorkerNumber::decide(&known.tenure, command)
            .inspect_err(
                |refusal| tracing::debug!(worker = known.worker, %refusal, "no window was granted"),
            )
            .ok()?;
        let Some(event) = events.first() else {
            return Some(known);
        };
        let revision = self.append(&known, stored_event::store(event)).await?;
        self.ids.grant(known.worker, event.window);
        Some(KnownNumber {
            expected: Expected::Revision(revision),
            tenure: WorkerNumber::evolve(known.tenure, event),
            ..known
        })
    }

    /// Appends an event and returns its revision; `None` if another process appended first.
    async fn append(&self, known: &KnownNumber, event: NewEvent) -> Option<u64> {
        let stream = stream(known.worker);
        let mut backoff = Backoff::default();
        loop {
            match self
                .streams
                .append(&stream, known.expected, vec![event.clone()])
                .await
            {
                Ok(appended) => return Some(appended.revision),
                Err(AppendError::Unavailable(unavailable)) => {
                    self.report_failure(&unavailable.to_string());
                    backoff.pause().await;
                }
                Err(lost) => {
                    tracing::info!(worker = known.worker, reason = %lost, "did not get the worker number");
                    return None;
                }
            }
        }
    }

    /// Waits until a window or another number is needed. Returns the number if it can be renewed.
    async fn until_needed(&self, known: KnownNumber) -> Option<KnownNumber> {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            match self.ids.need() {
                Need::Nothing => {}
                Need::Window => return Some(known),
                Need::Number => {
                    let worker = known.worker;
                    tracing::warn!(worker, "the clock stepped back by more than a window");
                    return None;
                }
            }
        }
    }

    fn report_failure(&self, reason: &str) {
        if self.ids.record_failure(reason.to_owned()) {
            tracing::warn!(reason, "cannot get a new window of ids");
        }
    }
}

fn stream(worker: u16) -> String {
    format!("uuids-worker-{worker}")
}
