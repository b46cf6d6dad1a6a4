//! From the log to the broker: the log is the outbox.
//!
//! Invariants:
//! - The checkpoint moves only past events that the broker has confirmed and routed, and past parked streams. Only an
//!   operator can skip an event, with a reason.
//! - An event that cannot be published stops only its own stream. The stream is parked, the checkpoint names it, and the
//!   publisher retries it.
//! - At most one message of each stream is in flight, so consumers see a stream's events in order even after a failure.
//! - One of any number of publishers is active. Each checkpoint expects the revision of the one before, so a second
//!   publisher fences the first, which becomes a standby. Time only decides when a standby tries. A standby that knows an
//!   event type which the active publisher does not know takes over at once.

mod active;
mod checkpoint;
pub mod operator;
mod overdue;
mod parking;
mod window;

pub use checkpoint::{
    Published, STREAM as PUBLISHER_STREAM, position_of, published, published_up_to,
};
pub use parking::ParkedStream;

use crate::privacy::subject_keys::SubjectKeys;
use crate::stored_event::USER_STREAM_PREFIX;
use active::{Active, Ended};
use checkpoint::{Checkpoint, SaveError};
use event_streams::{EventStreams, Position, Subscription};
use messaging::Broker;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How fast publishers notice each other.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How often the active publisher writes a checkpoint, even if it has not moved.
    pub checkpoint: Duration,
    /// A standby takes over after it has seen no new checkpoint for this long.
    pub takeover: Duration,
    /// The longest pause between two attempts to send the parked streams.
    pub retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        fail::fail_point!("quick-publisher", |_| Self {
            checkpoint: Duration::from_millis(100),
            takeover: Duration::from_millis(500),
            retry: Duration::from_secs(1),
        });
        Self {
            checkpoint: Duration::from_millis(1_500),
            takeover: Duration::from_secs(10),
            retry: Duration::from_mins(1),
        }
    }
}

/// Publishes every event of every user's stream.
#[derive(Debug)]
pub struct EventPublisher {
    store: EventStreams,
    keys: SubjectKeys,
    broker: Broker,
    pace: Pace,
    /// Identifies this publisher, so that it does not wait for itself after a failure.
    me: Uuid,
    parked: State,
}

type State = watch::Sender<Result<(), String>>;

impl EventPublisher {
    /// A publisher; any number may run.
    #[must_use]
    pub fn new(store: EventStreams, keys: SubjectKeys, broker: Broker, pace: Pace) -> Self {
        Self {
            store,
            keys,
            broker,
            pace,
            me: Uuid::new_v4(),
            parked: watch::Sender::new(Ok(())),
        }
    }

    /// Names the parked streams, if there are any. All others are published.
    #[must_use]
    pub fn parked(&self) -> watch::Receiver<Result<(), String>> {
        self.parked.subscribe()
    }

    /// Runs until `shutdown`: waits as a standby until no other publisher is active, and then publishes. `state` holds the
    /// reason if events are not published.
    ///
    /// # Errors
    /// When the store or the key store fails. The caller is expected to call it again.
    pub async fn run(&self, state: &State, shutdown: &CancellationToken) -> anyhow::Result<()> {
        loop {
            let Some(standby) = shutdown.run_until_cancelled(self.stand_by(state)).await else {
                return Ok(());
            };
            let active = match standby?.take_over(&self.store, self.me).await {
                Ok(active) => active,
                Err(SaveError::Fenced) => continue,
                Err(error) => return Err(error.into()),
            };
            tracing::info!("publishing");
            match Active::new(self, state, active).publish(shutdown).await? {
                Ended::Shutdown => return Ok(()),
                Ended::Fenced => tracing::warn!("another publisher took over"),
            }
        }
    }

    /// Returns when no publisher has written a checkpoint for some time, or the last one has said that it stopped, or the
    /// active one does not know an event type that this one knows.
    async fn stand_by(&self, state: &State) -> anyhow::Result<Checkpoint> {
        let mut seen = Checkpoint::read(&self.store).await?;
        let mut since = Instant::now();
        while seen.is_held_beside(self.me)
            && !seen.waits_for_this_process()
            && since.elapsed() < self.pace.takeover
        {
            report(state, Ok(()));
            report(&self.parked, Ok(()));
            sleep(self.pace.takeover / 20).await;
            let now = Checkpoint::read(&self.store).await?;
            if now.revision() != seen.revision() {
                since = Instant::now();
            }
            seen = now;
        }
        Ok(seen)
    }

    /// The log of all users' streams after a position.
    fn follow(&self, after: Option<Position>) -> Subscription {
        self.store.subscribe_all(&[USER_STREAM_PREFIX], after)
    }
}

fn report(state: &State, status: Result<(), String>) {
    state.send_if_modified(|state| {
        let changed = *state != status;
        if changed {
            if let Err(why) = &status {
                tracing::warn!(why, "events are not published");
            }
            *state = status;
        }
        changed
    });
}
