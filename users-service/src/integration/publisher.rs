//! From the log to the broker: the log is the outbox.
//!
//! Invariants:
//! - The checkpoint moves only past what the broker confirmed and routed; what no queue takes is kept and tried again.
//! - Of any number of publishers one is active. Each checkpoint expects the revision of the one before, so a second
//!   publisher fences the first, which becomes a standby; time only decides when a standby tries.
//! - Nothing is skipped: an event that cannot be mapped stops the publisher, and readiness says so. It is tried again
//!   whenever the publisher becomes active, unless another one, perhaps a newer program, was quicker.

mod checkpoint;
mod window;

pub use checkpoint::published_up_to;

use super::consumer;
use super::mapping::{self, STREAM_DELETED};
use crate::privacy::subject_keys::SubjectKeys;
use crate::stored_event::USER_STREAM_PREFIX;
use checkpoint::{Checkpoint, SaveError};
use event_streams::{Delivery, EventStreams, RecordedEvent};
use messaging::Broker;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use window::Window;

/// How fast publishers notice each other.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How often the active one writes a checkpoint, whether or not it moved.
    pub checkpoint: Duration,
    /// How long a standby sees no new checkpoint before it takes over.
    pub takeover: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            checkpoint: Duration::from_millis(1_500),
            takeover: Duration::from_secs(10),
        }
    }
}

/// Publishes every event of every user's stream.
#[derive(Debug)]
pub struct Publisher {
    store: EventStreams,
    keys: SubjectKeys,
    broker: Broker,
    pace: Pace,
    /// Names this publisher among others, so that it need not wait for itself after a failure.
    me: Uuid,
}

type State = watch::Sender<Result<(), String>>;

/// Why an active publisher is active no more.
enum Ended {
    Shutdown,
    Fenced,
}

impl Publisher {
    /// A publisher; any number may run.
    #[must_use]
    pub fn new(store: EventStreams, keys: SubjectKeys, broker: Broker, pace: Pace) -> Self {
        Self {
            store,
            keys,
            broker,
            pace,
            me: Uuid::new_v4(),
        }
    }

    /// Runs until `shutdown`: waits as a standby until no other publisher is active, and then publishes. `state` says
    /// why events are not published, if they are not.
    ///
    /// # Errors
    /// When an event cannot be mapped, or the store fails; whoever runs it runs it again.
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
            match self.publish(active, state, shutdown).await? {
                Ended::Shutdown => return Ok(()),
                Ended::Fenced => tracing::warn!("another publisher took over"),
            }
        }
    }

    /// Returns when nobody has written a checkpoint for some time, or whoever did has said that it stopped.
    async fn stand_by(&self, state: &State) -> anyhow::Result<Checkpoint> {
        let mut seen = Checkpoint::read(&self.store).await?;
        let mut since = Instant::now();
        while seen.is_held_beside(self.me) && since.elapsed() < self.pace.takeover {
            tell(state, Ok(()));
            sleep(self.pace.takeover / 20).await;
            let now = Checkpoint::read(&self.store).await?;
            if now.revision() != seen.revision() {
                since = Instant::now();
            }
            seen = now;
        }
        Ok(seen)
    }

    async fn publish(
        &self,
        mut checkpoint: Checkpoint,
        state: &State,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Ended> {
        let prefixes = [USER_STREAM_PREFIX];
        let mut log = self.store.subscribe_all(&prefixes, checkpoint.position());
        let publisher = messaging::Publisher::new(self.broker.clone(), consumer::published());
        let mut window = Window::new(publisher);
        let mut tick = interval(self.pace.checkpoint);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let saved = tokio::select! {
                () = shutdown.cancelled() => {
                    let released = checkpoint.release(&self.store, window.mark()).await;
                    return released.map(|()| Ended::Shutdown).or_else(fenced);
                }
                delivery = log.next(), if window.has_room() => {
                    if let Err(error) = self.take(delivery, &mut window, state).await {
                        // It is free for another one, which may know better.
                        let _ = checkpoint.release(&self.store, window.mark()).await;
                        return Err(error);
                    }
                    continue;
                }
                settled = window.settle() => {
                    tell(state, settled.map_err(|error| error.to_string()));
                    continue;
                }
                _ = tick.tick() => checkpoint.save(&self.store, window.mark()).await,
            };
            if let Err(error) = saved {
                return fenced(error);
            }
        }
    }

    async fn take(
        &self,
        delivery: Delivery,
        window: &mut Window,
        state: &State,
    ) -> anyhow::Result<()> {
        match delivery {
            Delivery::Event(event) if event.event_type == STREAM_DELETED => {
                window.pass(event.position);
            }
            Delivery::Event(event) => self.send(&event, window).await?,
            Delivery::Checkpoint(position) => window.pass(position),
            Delivery::CaughtUp if window.is_empty() => tell(state, Ok(())),
            Delivery::CaughtUp => {}
            Delivery::Interrupted(reason) => tell(state, Err(reason.to_string())),
        }
        Ok(())
    }

    async fn send(&self, event: &RecordedEvent, window: &mut Window) -> anyhow::Result<()> {
        let message = mapping::to_message(event, &self.keys).await?.encode();
        Ok(window.push(event.position, message).await?)
    }
}

fn fenced(error: SaveError) -> anyhow::Result<Ended> {
    match error {
        SaveError::Fenced => Ok(Ended::Fenced),
        error @ (SaveError::Store(_) | SaveError::Malformed) => Err(error.into()),
    }
}

fn tell(state: &State, told: Result<(), String>) {
    state.send_if_modified(|state| {
        let changed = *state != told;
        if changed {
            if let Err(why) = &told {
                tracing::warn!(why, "events are not published");
            }
            *state = told;
        }
        changed
    });
}
