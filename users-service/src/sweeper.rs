//! The sweep of all reservations. Refusals and crashes leave claims that hold no name; the sweep releases them, and tells the
//! store to keep only the last event of each reservation, so that a scavenge removes who held a name.
//!
//! It works in rounds. A round reads the events of reservations since the last one, and performs a `Sweep` after each. A
//! claim that may still be committed is looked at again in the next round.
//!
//! Invariants:
//! - The checkpoint never passes an unsettled claim.
//! - The number of unsettled claims is bounded. At the bound, the rest of the log waits for the next round.
//! - An event or an owner that this program does not understand is left alone.

use crate::domain::{Claim, ReservationName};
use crate::log_checkpoint::{CheckpointPlace, LogCheckpoint};
use crate::privacy::pseudonym::RESERVATION_PREFIX;
use crate::stored_event::{ReservationEvent, reservation_of_stream};
use event_streams::{EventStreams, Position, RecordedEvent};
use std::collections::VecDeque;
use std::time::Duration;
use sweep::{Sweep, SweepOutcome};
use sweep_steps::SweepSteps;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub(crate) mod sweep;
pub(crate) mod sweep_steps;

const CHECKPOINT: CheckpointPlace = CheckpointPlace {
    stream: "sweep-users",
    event_type: "SweepCheckpoint.v1",
};
/// The most unsettled claims.
const UNSETTLED: usize = 1_024;
/// The most events that are swept between two checkpoints.
const PAGE: usize = 100;
/// The pause after a page, so that a sweep of the whole log leaves the store to others.
const PAGE_PAUSE: Duration = Duration::from_millis(50);
/// The sweeper.
#[derive(Debug, Clone)]
pub struct Sweeper {
    store: EventStreams,
    steps: SweepSteps,
    pause: Duration,
}

/// An event of a reservation whose sweep is not settled.
#[derive(Debug)]
struct UnsettledClaim {
    name: ReservationName,
    event: ReservationEvent,
    revision: u64,
    suspected: Claim,
    /// The event's position.
    at: Position,
    /// Everything up to this position was read before the event.
    before: Option<Position>,
}

/// What is read of the log, and not settled.
struct SweepProgress {
    checkpoint: LogCheckpoint,
    unsettled: VecDeque<UnsettledClaim>,
    /// The log is read up to this position.
    read: Option<Position>,
    /// Whether there were sweeps since the last checkpoint.
    has_swept: bool,
}

impl Sweeper {
    /// A sweeper of this store, which pauses so long between two rounds.
    #[must_use]
    pub fn new(store: EventStreams, pause: Duration) -> Self {
        let steps = SweepSteps::new(store.clone());
        Self {
            store,
            steps,
            pause,
        }
    }

    /// Runs until `shutdown`. Reports to `state` that the sweep works.
    ///
    /// # Errors
    /// If the store fails. The caller runs the sweeper again, and it goes on from its checkpoint.
    pub async fn run(
        &self,
        state: &watch::Sender<Result<(), String>>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        // Every step can be repeated, so this can be cancelled at any point.
        let swept = shutdown.run_until_cancelled(self.sweep(state)).await;
        swept.unwrap_or(Ok(()))
    }

    async fn sweep(&self, state: &watch::Sender<Result<(), String>>) -> anyhow::Result<()> {
        let checkpoint = LogCheckpoint::read(&self.store, CHECKPOINT).await?;
        let mut progress = SweepProgress {
            read: checkpoint.position(),
            checkpoint,
            unsettled: VecDeque::new(),
            has_swept: false,
        };
        let _ = state.send_replace(Ok(()));
        loop {
            self.round(&mut progress).await?;
            sleep(self.pause).await;
        }
    }

    /// Looks again at what is unsettled, and then at the events since the last round. Takes about as long as the pause at most,
    /// so that what is unsettled does not wait for the end of a busy log.
    async fn round(&self, progress: &mut SweepProgress) -> anyhow::Result<()> {
        let end = Instant::now() + self.pause;
        progress.has_swept |= !progress.unsettled.is_empty();
        for unsettled in std::mem::take(&mut progress.unsettled) {
            let sweep = Sweep::after(&unsettled.name, &unsettled.event, unsettled.revision);
            let sweep = sweep.suspecting(unsettled.suspected.clone());
            if let SweepOutcome::Suspect(suspected) = self.steps.perform(sweep).await? {
                progress.unsettled.push_back(UnsettledClaim {
                    suspected,
                    ..unsettled
                });
            }
        }
        loop {
            let room = UNSETTLED.saturating_sub(progress.unsettled.len()).min(PAGE);
            if room == 0 {
                return progress.save(&self.store).await;
            }
            let log = self
                .store
                .read_all(&[RESERVATION_PREFIX], progress.read, room);
            let page = log.await?;
            for event in &page.events {
                self.look_at(event, progress).await?;
            }
            progress.read = page.position;
            progress.save(&self.store).await?;
            if page.end || Instant::now() >= end {
                return Ok(());
            }
            sleep(PAGE_PAUSE).await;
        }
    }

    async fn look_at(
        &self,
        event: &RecordedEvent,
        progress: &mut SweepProgress,
    ) -> anyhow::Result<()> {
        progress.has_swept = true;
        let before = progress.read.replace(event.position);
        let Some(name) = reservation_of_stream(&event.stream) else {
            return Ok(());
        };
        let revision = event.revision;
        let at = event.position;
        let event = match ReservationEvent::decode(event) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, stream = event.stream, "the sweep leaves a reservation alone");
                return Ok(());
            }
        };
        let sweep = Sweep::after(&name, &event, revision);
        if let SweepOutcome::Suspect(suspected) = self.steps.perform(sweep).await? {
            progress.unsettled.push_back(UnsettledClaim {
                name,
                event,
                revision,
                suspected,
                at,
                before,
            });
        }
        Ok(())
    }
}

impl SweepProgress {
    /// Everything up to this position is settled.
    fn settled(&self) -> Option<Position> {
        match self.unsettled.front() {
            Some(first) => first.before,
            None => self.read,
        }
    }

    /// Moves the checkpoint, unless only the last checkpoint has been added to the log. If another sweeper has moved it, what that
    /// one settled is not looked at again.
    async fn save(&mut self, store: &EventStreams) -> anyhow::Result<()> {
        let Some(settled) = self.settled() else {
            return Ok(());
        };
        let checkpoint = &mut self.checkpoint;
        let is_due = self.has_swept || checkpoint.is_outgrown_by(settled);
        if !is_due || !checkpoint.is_before(settled) {
            return Ok(());
        }
        if checkpoint.save(store, settled).await? {
            self.has_swept = false;
        } else {
            let others = checkpoint.position();
            self.read = self.read.max(others);
            self.unsettled
                .retain(|unsettled| Some(unsettled.at) > others);
        }
        Ok(())
    }
}
