//! Supplies this process with windows. It takes a worker number and renews its window early. It takes another number when
//! it has lost the current one, or when the clock has stepped back by more than a window.
//!
//! Invariants: every grant is appended at the exact revision at which it was decided, and is used only once the log shows
//! it there and the record of this machine has it. An append with an unknown outcome is repeated unchanged, with the same
//! event id, until the outcome is known. No number is taken from a log that lacks a recorded window. Only the clock causes a
//! grant; requests for ids do not.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use event_streams::{AppendError, NewEvent, Unavailable};
use jittered_backoff::Backoff;
use uuid::Uuid;

use crate::{
    clock::Clock,
    domain::{
        id::WORKERS,
        issuer::Need,
        window::{GrantWindow, Holder, NumberCommand, Purpose},
    },
    ids::Ids,
    stored_event,
    window_record::{RecordFile, WindowRecord},
    worker_numbers::{KnownNumber, WorkerNumbers},
};

/// Time between two checks whether a window or a number is needed. It is shorter than the longest wait of a request, so
/// that a request right after a forward step of the clock is served.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The task that grants windows to [`Ids`].
pub(crate) struct LeaseKeeper {
    numbers: WorkerNumbers,
    record: RecordFile,
    ids: Arc<Ids>,
    clock: Arc<dyn Clock>,
    holder: Holder,
}

impl LeaseKeeper {
    pub(crate) fn new(
        numbers: WorkerNumbers,
        record: RecordFile,
        ids: Arc<Ids>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let holder = Holder(Uuid::new_v4());
        Self {
            numbers,
            record,
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
                Err(failure) => {
                    self.report_failure(&failure.to_string());
                    backoff.pause().await;
                    None
                }
            };
        }
    }

    /// Renews the held number, or takes another one if that fails or none is held. `None` if no number is free.
    async fn next(&self, held: Option<KnownNumber>) -> anyhow::Result<Option<KnownNumber>> {
        if let Some(known) = held
            && let Some(known) = self.claim(known, Purpose::Renew).await
        {
            return Ok(Some(known));
        }
        self.check_log().await?;
        // The search begins at a random number, so that processes that start together do not all try the same one.
        let first = rand::random_range(0..WORKERS);
        for worker in (first..WORKERS).chain(0..first) {
            if let Some(known) = self.numbers.look(worker).await?
                && let Some(known) = self.claim(known, Purpose::Take).await
            {
                tracing::info!(worker, "took a worker number");
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// Fails if the log lacks the last window of this machine and has no floor above it. Then the event store was restored
    /// from an older backup, or is another one, and a number could be granted for a time that was granted before.
    async fn check_log(&self) -> anyhow::Result<()> {
        let Some(record) = self.record.read()? else {
            return Ok(());
        };
        if self.numbers.has(&record).await? {
            return Ok(());
        }
        let floor = self.numbers.floor().await?;
        if floor.is_some_and(|(floor_ms, _)| floor_ms >= record.until_ms) {
            return Ok(());
        }
        // Another process may already have a window for the same time.
        self.ids.revoke();
        bail!(
            "the event store lacks a window that this machine had: it was restored from an older backup, or is another one. \
             Stop every uuids process and run `uuids-service restored --floor {}`, or with the greatest `until_ms` of all \
             machines",
            record.until_ms
        )
    }

    /// Appends the next window of a number, if one is due. `None` if the number is lost.
    async fn claim(&self, known: KnownNumber, purpose: Purpose) -> Option<KnownNumber> {
        let command = NumberCommand::Grant(GrantWindow {
            holder: self.holder,
            now_ms: self.clock.now_ms(),
            purpose,
        });
        let event = known
            .decide(command)
            .inspect_err(
                |refusal| tracing::debug!(worker = known.worker, %refusal, "no window was granted"),
            )
            .ok()?;
        let Some(event) = event else {
            return Some(known);
        };
        let known = self.append(&known, stored_event::store(&event)).await?;
        self.keep_record(known.record()?).await;
        self.ids.grant(known.worker, event.window);
        Some(known)
    }

    /// Appends an event and returns the number with it; `None` if another process appended first.
    async fn append(&self, known: &KnownNumber, event: NewEvent) -> Option<KnownNumber> {
        let mut backoff = Backoff::default();
        loop {
            match self.numbers.append(known, event.clone()).await {
                Ok(()) => break,
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
        self.confirm(known, event.id).await
    }

    async fn confirm(&self, known: &KnownNumber, event: Uuid) -> Option<KnownNumber> {
        let mut backoff = Backoff::default();
        loop {
            match self.numbers.confirm(known, event).await {
                Ok(Some(confirmed)) => return Some(confirmed),
                Ok(None) => {
                    let worker = known.worker;
                    tracing::warn!(
                        worker,
                        "the worker number's log is not what it was before the append"
                    );
                    return None;
                }
                Err(Unavailable { reason }) => {
                    self.report_failure(&reason);
                    backoff.pause().await;
                }
            }
        }
    }

    /// Returns when the record is durable. Until then the new window is not used.
    async fn keep_record(&self, record: WindowRecord) {
        let mut backoff = Backoff::default();
        loop {
            let file = self.record.clone();
            let written = tokio::task::spawn_blocking(move || file.write(record)).await;
            match written.map_err(anyhow::Error::from).flatten() {
                Ok(()) => return,
                Err(error) => {
                    self.report_failure(&format!("the record of windows: {error:#}"));
                    backoff.pause().await;
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
