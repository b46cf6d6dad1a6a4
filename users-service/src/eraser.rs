//! The role that finishes every erasure: it follows `UserDeleted`, so that no deletion needs a second request.
//!
//! Invariants: the checkpoint never passes an erasure that is not finished; a user's stream is tombstoned only when the
//! key is destroyed and the publisher has sent the stream's last event; what waits is bounded, and the log waits then too.

mod eraser_checkpoint;

use crate::command::user_history::{HistoryError, UserHistory};
use crate::domain::UserId;
use crate::erasure::{Erasure, ErasureError};
use crate::integration::publisher::{Published, published};
use crate::stored_event::{USER_DELETED, user_of_stream, user_stream};
use eraser_checkpoint::EraserCheckpoint;
use event_streams::{Delivery, EventStreams, Position, Subscription, Unavailable};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How many erasures may be unfinished at once.
const UNFINISHED: usize = 1_024;
/// After how many deliveries without an erasure the checkpoint is moved all the same. The server leaves out all other
/// events, and tells after every few hundred of them how far it has looked.
const QUIET: u32 = 4;
/// How often unfinished erasures are looked at, in milliseconds.
const LOOK: std::ops::Range<u64> = 200..300;

/// Finishes erasures.
#[derive(Debug)]
pub struct Eraser {
    store: EventStreams,
    erasure: Erasure,
}

/// A deletion that was read, and how far it has come.
#[derive(Debug)]
struct Unfinished {
    user: UserId,
    deleted_at: Position,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Deleted,
    /// Key destroyed, name released; the stream's last event has the revision.
    Erased(u64),
    Finished,
}

#[derive(Debug, thiserror::Error)]
enum EraserError {
    #[error(transparent)]
    UserHistory(#[from] HistoryError),
    #[error(transparent)]
    Erasure(#[from] ErasureError),
}

/// What was read of the log and is not finished.
struct Backlog {
    unfinished: VecDeque<Unfinished>,
    checkpoint: EraserCheckpoint,
    /// Everything up to here is finished.
    finished: Option<Position>,
    quiet: u32,
    /// Why the log does not come, if it does not.
    interrupted: Option<Unavailable>,
}

impl Eraser {
    /// An eraser of what these stores hold.
    #[must_use]
    pub fn new(store: EventStreams, erasure: Erasure) -> Self {
        Self { store, erasure }
    }

    /// Runs until `shutdown`, and tells by `state` why erasures wait, if any does.
    ///
    /// # Errors
    /// When its checkpoint cannot be read; whoever runs it runs it again.
    pub async fn run(
        &self,
        state: &watch::Sender<Result<(), String>>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        // Every step may be repeated, so it may be broken off anywhere.
        let followed = shutdown.run_until_cancelled(self.follow(state)).await;
        followed.unwrap_or(Ok(()))
    }

    async fn follow(&self, state: &watch::Sender<Result<(), String>>) -> anyhow::Result<()> {
        let checkpoint = EraserCheckpoint::read(&self.store).await?;
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
        let mut look = interval(Duration::from_millis(rand::random_range(LOOK)));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                delivery = next(&mut log, &backlog) => {
                    if backlog.take(delivery) {
                        told(state, self.go_on(&mut backlog).await);
                    }
                }
                _ = look.tick() => told(state, self.go_on(&mut backlog).await),
            }
        }
    }

    /// Takes every unfinished erasure as far as it goes now, and moves the checkpoint.
    async fn go_on(&self, backlog: &mut Backlog) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        if !backlog.unfinished.is_empty() {
            // Keys are destroyed whether or not this is known; only the last step needs it.
            let published = published(&self.store).await;
            for unfinished in &mut backlog.unfinished {
                if let Err(error) = self.finish(unfinished, published.as_ref().ok()).await {
                    outcome = Err(error.into());
                }
            }
            outcome = outcome.and(published.map(drop));
        }
        backlog.forget_finished();
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
            // Somebody else may have written to the stream since it was read: then it is read again.
            erasure.stage = Stage::Deleted;
            self.erasure.hard_delete(erasure.user, last).await?;
            erasure.stage = Stage::Finished;
        }
        Ok(())
    }

    async fn erase(&self, user: UserId) -> Result<Stage, EraserError> {
        let history = UserHistory::read_to_erase(&self.store, user).await?;
        let Some(last) = history.revision() else {
            // Tombstoned: whoever did that had finished all that comes before.
            return Ok(Stage::Finished);
        };
        if let Some(key) = history.key() {
            self.erasure.erase(user, key).await?;
        }
        if let Some(claim) = history.claim() {
            self.erasure.release(claim).await?;
        }
        Ok(Stage::Erased(last))
    }
}

fn told(state: &watch::Sender<Result<(), String>>, worked: anyhow::Result<()>) {
    if let Err(error) = &worked {
        tracing::warn!(error = format!("{error:#}"), "erasures wait");
    }
    let worked = worked.map_err(|error| format!("{error:#}"));
    state.send_if_modified(|state| {
        let changed = *state != worked;
        *state = worked;
        changed
    });
}

/// The next delivery; none for as long as too much is unfinished.
async fn next(log: &mut Subscription, backlog: &Backlog) -> Delivery {
    if backlog.unfinished.len() >= UNFINISHED {
        std::future::pending::<()>().await;
    }
    log.next().await
}

impl Backlog {
    /// Notes what was delivered; whether there is something to do now.
    fn take(&mut self, delivery: Delivery) -> bool {
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

    fn forget_finished(&mut self) {
        let finished = |erasure: &mut Unfinished| erasure.stage == Stage::Finished;
        while let Some(erasure) = self.unfinished.pop_front_if(finished) {
            self.finished = Some(erasure.deleted_at);
            self.quiet = QUIET;
        }
    }

    async fn save(&mut self, store: &EventStreams) -> anyhow::Result<()> {
        if let Some(finished) = self.finished.filter(|_| self.quiet >= QUIET) {
            self.checkpoint.save(store, finished).await?;
            self.quiet = 0;
        }
        Ok(())
    }
}
