//! The role that finishes every erasure. It follows `UserDeleted` in the log, so no deletion needs a second request.
//!
//! Invariants:
//! - The checkpoint never passes an unfinished erasure.
//! - A user's stream is tombstoned only when the key is destroyed, the publisher has sent the stream's last event, and the
//!   user's events are counted.
//! - The number of unfinished erasures is bounded. At the bound, the eraser stops reading the log.

use crate::command::user_histories::UserHistories;
use crate::command::user_history::HistoryError;
use crate::domain::UserId;
use crate::erasure::{Erasure, ErasureError};
use crate::integration::publisher::{Published, published};
use crate::log_checkpoint::{CheckpointPlace, LogCheckpoint};
use crate::stored_event::{USER_DELETED, user_of_stream, user_stream};
use crate::sweeper::sweep_steps::{SweepError, SweepSteps};
use event_streams::{Delivery, EventStreams, Position, Subscription, Unavailable};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const CHECKPOINT: CheckpointPlace = CheckpointPlace {
    stream: "eraser-users",
    event_type: "EraserCheckpoint.v1",
};
/// The most erasures that are unfinished at one time.
const UNFINISHED: usize = 1_024;
/// After this many deliveries without an erasure, the checkpoint moves. The server omits all other events, and sends its
/// position after every few hundred of them.
const QUIET: u32 = 4;
/// The pause between two attempts to finish erasures, in milliseconds.
const RETRY: std::ops::Range<u64> = 200..300;

/// The eraser.
#[derive(Debug)]
pub struct Eraser {
    store: EventStreams,
    histories: UserHistories,
    erasure: Erasure,
    sweeps: SweepSteps,
}

/// An unfinished erasure.
#[derive(Debug)]
struct Unfinished {
    user: UserId,
    deleted_at: Position,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Deleted,
    /// The key is destroyed and the name is released. The stream's last event has this revision.
    Erased(u64),
    Finished,
}

#[derive(Debug, thiserror::Error)]
enum EraserError {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Erasure(#[from] ErasureError),
    #[error(transparent)]
    Release(#[from] SweepError),
}

/// Erasures that were read from the log and are not finished, and how far the log is finished.
struct Backlog {
    unfinished: VecDeque<Unfinished>,
    checkpoint: LogCheckpoint,
    /// All erasures up to this position are finished.
    finished: Option<Position>,
    /// Deliveries without an erasure since the last checkpoint.
    quiet: u32,
    /// The reason why the subscription is interrupted, if it is.
    interrupted: Option<Unavailable>,
}

impl Eraser {
    /// An eraser that follows this store.
    #[must_use]
    pub fn new(store: EventStreams, erasure: Erasure) -> Self {
        Self {
            histories: UserHistories::new(store.clone()),
            sweeps: SweepSteps::new(store.clone()),
            store,
            erasure,
        }
    }

    /// Runs until `shutdown`. Reports to `state` why erasures are delayed.
    ///
    /// # Errors
    /// If the checkpoint cannot be read. The caller runs the eraser again.
    pub async fn run(
        &self,
        state: &watch::Sender<Result<(), String>>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        // Every step can be repeated, so this can be cancelled at any point.
        let followed = shutdown.run_until_cancelled(self.follow(state)).await;
        followed.unwrap_or(Ok(()))
    }

    async fn follow(&self, state: &watch::Sender<Result<(), String>>) -> anyhow::Result<()> {
        let checkpoint = LogCheckpoint::read(&self.store, CHECKPOINT).await?;
        let finished = checkpoint.position();
        let mut log = self.store.subscribe_all_of_types(&[USER_DELETED], finished);
        let mut backlog = Backlog {
            unfinished: VecDeque::new(),
            checkpoint,
            finished,
            quiet: 0,
            interrupted: None,
        };
        let _ = state.send_replace(Ok(()));
        let mut retry = interval(Duration::from_millis(rand::random_range(RETRY)));
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                delivery = next(&mut log, &backlog) => {
                    if backlog.receive(delivery) {
                        report(state, self.proceed(&mut backlog).await);
                    }
                }
                _ = retry.tick() => report(state, self.proceed(&mut backlog).await),
            }
        }
    }

    /// Takes every unfinished erasure as far as possible, and moves the checkpoint.
    async fn proceed(&self, backlog: &mut Backlog) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        if !backlog.unfinished.is_empty() {
            // Only the last step of an erasure needs this, so a failure does not delay the destruction of keys.
            let published = published(&self.store).await;
            for unfinished in &mut backlog.unfinished {
                if let Err(error) = self.finish(unfinished, published.as_ref().ok()).await {
                    outcome = Err(error.into());
                }
            }
            outcome = outcome.and(published.map(drop));
        }
        backlog.remove_finished();
        backlog.save(&self.store).await?;
        if let Some(reason) = &backlog.interrupted {
            outcome = Err(reason.clone().into());
        }
        outcome
    }

    async fn finish(
        &self,
        erasure: &mut Unfinished,
        published: Option<&Published>,
    ) -> Result<(), EraserError> {
        if erasure.stage == Stage::Deleted {
            erasure.stage = self.erase(erasure.user).await?;
        }
        if let Stage::Erased(last) = erasure.stage
            && let Some(published) = published
            && published.has(&user_stream(erasure.user), erasure.deleted_at)
        {
            // If this fails, another writer may have appended to the stream since it was read, so it is read again.
            erasure.stage = Stage::Deleted;
            self.erasure.count(erasure.user).await?;
            self.erasure.hard_delete(erasure.user, last).await?;
            erasure.stage = Stage::Finished;
        }
        Ok(())
    }

    async fn erase(&self, user: UserId) -> Result<Stage, EraserError> {
        let history = self.histories.read_to_erase(user).await?;
        let Some(last) = history.revision() else {
            // The stream is already tombstoned, so all earlier steps were finished before.
            return Ok(Stage::Finished);
        };
        if let Some(key) = history.key() {
            self.erasure.erase(user, key).await?;
        }
        if let Some(claim) = history.claim() {
            self.sweeps
                .release_of_erased(user, &claim.reservation)
                .await?;
        }
        Ok(Stage::Erased(last))
    }
}

fn report(state: &watch::Sender<Result<(), String>>, outcome: anyhow::Result<()>) {
    let outcome = outcome.map_err(|error| format!("{error:#}"));
    if let Err(error) = &outcome {
        tracing::warn!(error, "erasures are delayed");
    }
    state.send_if_modified(|state| {
        let changed = *state != outcome;
        *state = outcome;
        changed
    });
}

/// The next delivery. Waits for ever while too many erasures are unfinished.
async fn next(log: &mut Subscription, backlog: &Backlog) -> Delivery {
    if backlog.unfinished.len() >= UNFINISHED {
        std::future::pending::<()>().await;
    }
    log.next().await
}

impl Backlog {
    /// Records a delivery. Returns whether there is something to do now.
    fn receive(&mut self, delivery: Delivery) -> bool {
        self.interrupted = None;
        let (position, deleted) = match delivery {
            Delivery::Event(event) => {
                let deleted = event.event_type == USER_DELETED;
                (
                    event.position,
                    user_of_stream(&event.stream).filter(|_| deleted),
                )
            }
            Delivery::Checkpoint(position) => (position, None),
            Delivery::CaughtUp => return false,
            Delivery::Interrupted(reason) => {
                self.interrupted = Some(reason);
                return true;
            }
        };
        if let Some(user) = deleted {
            self.unfinished.push_back(Unfinished {
                user,
                deleted_at: position,
                stage: Stage::Deleted,
            });
        } else if self.unfinished.is_empty() {
            self.finished = Some(position);
            self.quiet += 1;
        }
        deleted.is_some()
    }

    fn remove_finished(&mut self) {
        let finished = |erasure: &mut Unfinished| erasure.stage == Stage::Finished;
        while let Some(erasure) = self.unfinished.pop_front_if(finished) {
            self.finished = Some(erasure.deleted_at);
            self.quiet = QUIET;
        }
    }

    async fn save(&mut self, store: &EventStreams) -> anyhow::Result<()> {
        if let Some(finished) = self.finished.filter(|_| self.quiet >= QUIET) {
            let saved = self.checkpoint.save(store, finished).await?;
            anyhow::ensure!(saved, "another eraser moved the checkpoint");
            self.quiet = 0;
        }
        Ok(())
    }
}
