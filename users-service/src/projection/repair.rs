//! Reads from the log what the queues have not delivered or cannot prove: gaps, held users that are replayed, messages that
//! anybody can have written, and a user's lost last event, which the comparison with the log finds.
//!
//! Invariants:
//! - The log is the source of truth. A user whose last applied event is not in the log is made anew from the user's stream.
//! - An event that cannot be applied holds its user. An event whose key is lost holds nobody. It is an error, because a retry
//!   can help, and the position of completeness stays before it.
//! - Many streams are read at a time, and their events are applied in sets.

mod catching_up;
mod comparison;
mod verification;

use super::names;
use super::view::{Standing, View};
use crate::domain::UserId;
use crate::integration::mapping::{self, Unmappable};
use crate::privacy::cipher::KeyId;
use crate::privacy::subject_keys::SubjectKeys;
use crate::read_model::{ERASED, ProvenChange, ProvenEvent};
use crate::stored_event::{USER_DELETED, UserCount, user_stream};
use anyhow::Context as _;
use event_streams::{Direction, EventStreams, ReadError, RecordedEvent, Unavailable};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use tokio::sync::Mutex;
use uuid::Uuid;

pub(super) use verification::Verified;

/// How many streams are read at once.
const READS: usize = 16;

/// Verifies messages and applies events of the log.
#[derive(Debug, Clone)]
pub struct Repair {
    store: EventStreams,
    keys: SubjectKeys,
    view: View,
    /// The events that the comparison has tried alone, and whose attempt is not taken back yet.
    counted: Arc<Mutex<HashSet<(UserId, u64)>>>,
}

impl Repair {
    /// Reads from this store and these keys, and writes this view.
    #[must_use]
    pub fn new(store: EventStreams, keys: SubjectKeys, view: View) -> Self {
        Self {
            store,
            keys,
            view,
            counted: Arc::default(),
        }
    }

    pub(super) fn store(&self) -> &EventStreams {
        &self.store
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Applies a user's events of the log after the last applied one. A tombstoned stream is an erasure. Without `lift`, a held
    /// user does not change. With it, the user is made anew from the whole stream, and the hold is lifted unless an event still
    /// cannot be applied.
    ///
    /// # Errors
    /// When the store, the key store or the database fails, or a key is lost.
    pub async fn catch_up(&self, user: UserId, lift: bool) -> anyhow::Result<Standing> {
        let caught = self.catch_up_all(BTreeSet::from([user]), lift).await?;
        match caught.lost.get(&user) {
            Some(key) => Err(Unmappable::KeyLost(*key).into()),
            None => Ok(caught.standing(user)),
        }
    }

    /// Tries the users again whose events an older process did not know.
    ///
    /// # Errors
    /// When the store, the key store or the database fails.
    pub(super) async fn retry_unknown_types(&self) -> anyhow::Result<()> {
        let held = self.view.held_by_unknown_types().await?;
        self.catch_up_all(held, true).await.map(drop)
    }

    /// At most `limit` events of a user from a revision on. `None` if the stream is tombstoned.
    async fn read(
        &self,
        user: UserId,
        from: u64,
        limit: usize,
    ) -> Result<Option<Vec<RecordedEvent>>, Unavailable> {
        let stream = user_stream(user);
        let events = self
            .store
            .read(&stream, Direction::ForwardFrom(from), limit);
        match events.await {
            Ok(events) => Ok(Some(events)),
            Err(ReadError::StreamDeleted) => Ok(None),
            Err(ReadError::Unavailable(error)) => Err(error),
        }
    }

    /// The type of a user's event. `None` if the event no longer exists.
    pub(super) async fn event_type(
        &self,
        user: UserId,
        revision: u64,
    ) -> Result<Option<String>, Unavailable> {
        let events = self.read(user, revision, 1).await?;
        let mut events = events.into_iter().flatten();
        let event = events.find(|event| event.revision == revision);
        Ok(event.map(|event| event.event_type))
    }

    /// Opens the names of stored events. All keys are looked up at once. A dropped event is not decoded.
    async fn revise(
        &self,
        recorded: &[(UserId, &RecordedEvent)],
    ) -> anyhow::Result<Vec<Result<ProvenEvent, Refused>>> {
        if recorded.is_empty() {
            return Ok(Vec::new());
        }
        let users = recorded.iter().map(|(user, _)| *user).collect();
        let dropped = self.view.dropped_events(&users).await?;
        let is_dropped = |(user, event): &(UserId, &RecordedEvent)| {
            dropped.contains(&(*user, event.revision)) && event.event_type != USER_DELETED
        };
        let kept = recorded.iter().filter(|event| !is_dropped(event));
        let (stored, keys) = mapping::decode(kept.map(|(_, event)| *event), &self.keys).await?;
        let mut stored = stored.into_iter();
        let mut revised = Vec::with_capacity(recorded.len());
        for (user, recorded) in recorded {
            if is_dropped(&(*user, recorded)) {
                revised.push(Ok(without_effect(*user, recorded)));
                continue;
            }
            let stored = stored.next().context("each kept event was decoded")?;
            let stored = stored.map_err(Unmappable::from);
            let event = stored.and_then(|stored| names::of_log(*user, recorded, &stored, &keys));
            revised.push(match event {
                Ok(event) => Ok(event),
                Err(Unmappable::KeyLost(key)) => Err(Refused::KeyLost(key)),
                Err(error @ (Unmappable::Undecodable(_) | Unmappable::Damaged(_))) => {
                    Err(Refused::ForEver(recorded.revision, error.to_string()))
                }
            });
        }
        Ok(revised)
    }
}

/// Why an event of the log cannot be applied.
#[derive(Debug)]
enum Refused {
    /// Its key is lost, and may be found again.
    KeyLost(KeyId),
    /// The event of this revision is itself faulty, for this reason.
    ForEver(u64, String),
}

fn without_effect(user: UserId, event: &RecordedEvent) -> ProvenEvent {
    ProvenEvent {
        id: event.id,
        user,
        revision: event.revision,
        created: event.created,
        change: ProvenChange::Nothing,
    }
}

fn erasure(user: UserId, event: &RecordedEvent) -> ProvenEvent {
    let change = match UserCount::decode(event) {
        Some((_, count)) => ProvenChange::Counted(count),
        None if event.event_type == USER_DELETED => ProvenChange::Deleted,
        None => ProvenChange::Tombstoned,
    };
    ProvenEvent {
        id: event.id,
        user,
        revision: ERASED,
        created: event.created,
        change,
    }
}

/// The erasure that a tombstoned stream stands for. The id of its event is no longer known.
fn erasure_by_tombstone(user: UserId) -> ProvenEvent {
    ProvenEvent {
        id: Uuid::nil(),
        user,
        revision: ERASED,
        created: 0,
        change: ProvenChange::Tombstoned,
    }
}
