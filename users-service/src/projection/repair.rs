//! What the queues did not bring is read from the log: gaps, held users that are replayed, and the comparison with the
//! log that finds a user's lost last event.
//!
//! Invariant: an event that cannot be applied holds its user; one whose key is lost, or a store that is away, holds
//! nobody and is an error, because trying again can help.

use super::directory::{DirectoryEvent, ERASED, Effect, Entry};
use super::view::{Outcome, Standing, View};
use crate::domain::{NameField, UserId};
use crate::integration::mapping::{self, STREAM_DELETED, Unmappable};
use crate::integration::message::{Change, IntegrationEvent, Names};
use crate::privacy::Personal;
use crate::privacy::cipher::{DoesNotOpen, KeyId, SubjectKey};
use crate::privacy::subject_keys::{KeysError, Lookup, SubjectKeys};
use crate::query::read_model;
use crate::stored_event::{StoredEvent, USER_DELETED, USER_STREAM_PREFIX, user_stream};
use event_streams::{Direction, EventStreams, Position, ReadError, RecordedEvent};
use std::collections::{BTreeMap, HashMap};

/// Why the names of a message cannot be read. Says nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// The key store has not got the key: lost, or the message is forged.
    #[error("there is no key {0}")]
    NoKey(KeyId),
    /// Another key, another place, or damaged.
    #[error(transparent)]
    DoesNotOpen(#[from] DoesNotOpen),
}

/// How many events are read at once.
const PAGE: usize = 500;

/// Applies events, from wherever they come.
#[derive(Debug, Clone)]
pub struct Repair {
    store: EventStreams,
    keys: SubjectKeys,
    view: View,
}

impl Repair {
    /// Reads from this store and these keys, and writes this view.
    #[must_use]
    pub fn new(store: EventStreams, keys: SubjectKeys, view: View) -> Self {
        Self { store, keys, view }
    }

    pub(super) fn store(&self) -> &EventStreams {
        &self.store
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Seals the names of messages for the read model; all keys are looked up at once.
    ///
    /// # Errors
    /// When the key store fails. A message whose names cannot be read is a failure of its own: only the log tells whether
    /// its key is lost, or was never there.
    pub(super) async fn reseal(
        &self,
        events: &[IntegrationEvent],
    ) -> Result<Vec<Result<DirectoryEvent, Unreadable>>, KeysError> {
        let ids = events.iter().filter_map(|event| event.change.key());
        let keys = self.keys.look_up(&ids.collect::<Vec<_>>()).await?;
        let resealed = events.iter().map(|event| resealed(event, &keys));
        Ok(resealed.collect())
    }

    /// Applies what the log has of a user after the last event applied. A tombstoned stream is an erasure. Without
    /// `lift`, a held user stays as is; with it, the hold is lifted unless its event still cannot be applied.
    ///
    /// # Errors
    /// When the store, the key store or the database fails.
    pub async fn catch_up(&self, user: UserId, lift: bool) -> anyhow::Result<Standing> {
        loop {
            let standing = self.view.standing(user).await?;
            if (standing.held && !lift) || standing.revision == Some(ERASED) {
                return Ok(standing);
            }
            let from = standing.revision.map_or(0, |revision| revision + 1);
            let stream = user_stream(user);
            let page = self.store.read(&stream, Direction::ForwardFrom(from), PAGE);
            let page = match page.await {
                Ok(page) => page,
                Err(ReadError::StreamDeleted) => {
                    self.view.apply(&[erasure(user)], lift).await?;
                    continue;
                }
                Err(ReadError::Unavailable(error)) => return Err(error.into()),
            };
            let all = self.apply_recorded(user, &page, lift).await?;
            if !all || page.len() < PAGE {
                let standing = self.view.standing(user).await?;
                if all && standing.held && lift {
                    self.view.lift(user).await?;
                }
                return Ok(standing);
            }
        }
    }

    /// Applies events of one user, up to the first that cannot be, which holds the user; answers whether there was none.
    async fn apply_recorded(
        &self,
        user: UserId,
        recorded: &[RecordedEvent],
        lift: bool,
    ) -> anyhow::Result<bool> {
        let (events, mut refused) = self.revise(user, recorded).await?;
        let outcomes = self.view.apply(&events, lift).await?;
        let gap = outcomes.iter().position(|outcome| *outcome == Outcome::Gap);
        if let Some(event) = gap.and_then(|gap| events.get(gap)) {
            refused = Some((event.revision, "it does not follow the event before".into()));
        }
        if let Some((revision, reason)) = &refused {
            self.view.hold(user, *revision, reason).await?;
        }
        Ok(refused.is_none())
    }

    /// Seals the names of stored events for the read model, up to the first that cannot be, and says why it cannot.
    async fn revise(
        &self,
        user: UserId,
        recorded: &[RecordedEvent],
    ) -> Result<(Vec<DirectoryEvent>, Option<(u64, String)>), Unmappable> {
        let stored: Vec<_> = recorded.iter().map(StoredEvent::decode).collect();
        let sealed = stored.iter().flatten().filter_map(StoredEvent::sealed);
        let ids: Vec<KeyId> = sealed.map(|names| names.key).collect();
        let keys = self.keys.find_many(&ids).await?;
        let mut events = Vec::new();
        for (recorded, stored) in recorded.iter().zip(stored) {
            let revision = recorded.revision;
            let stored = stored.map_err(Unmappable::from);
            match stored.and_then(|stored| effect(&stored, &keys)) {
                Ok(effect) => events.push(DirectoryEvent {
                    user,
                    revision,
                    effect,
                }),
                Err(error) if error.is_final() => {
                    return Ok((events, Some((revision, error.to_string()))));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((events, None))
    }

    /// Compares the view with the log, after what is known to be complete up to `published`, and applies what is missing.
    ///
    /// # Errors
    /// When the store, the key store or the database fails; what is complete until then stays so.
    pub async fn complete(&self, published: Position) -> anyhow::Result<()> {
        loop {
            let complete = self.view.complete_up_to().await?;
            if complete >= Some(published) {
                return Ok(());
            }
            let prefixes = [USER_STREAM_PREFIX];
            let page = self.store.read_all(&prefixes, complete, PAGE).await?;
            let events = page.events.iter();
            self.bring(events.filter(|event| event.position <= published))
                .await?;
            let looked_at = if page.end {
                Some(published)
            } else {
                page.position
            };
            self.view
                .advance(looked_at.unwrap_or(published).min(published))
                .await?;
        }
    }

    /// Applies what is missing of the users of these events. An erasure passes every hold, and is applied also to whom
    /// it was applied before: that may have ended before the view's own log was emptied.
    async fn bring(&self, events: impl Iterator<Item = &RecordedEvent>) -> anyhow::Result<()> {
        let mut last = BTreeMap::new();
        for event in events {
            let erased = [STREAM_DELETED, USER_DELETED].contains(&event.event_type.as_str());
            let revision = if erased { ERASED } else { event.revision };
            let last = last.entry(mapping::owner(event)?).or_insert(revision);
            *last = revision.max(*last);
        }
        let is_erased = |(_, revision): &(&UserId, &u64)| **revision == ERASED;
        let erased: Vec<_> = last
            .iter()
            .filter(is_erased)
            .map(|(user, _)| erasure(*user))
            .collect();
        self.view.apply(&erased, false).await?;
        for (user, revision) in last {
            let standing = self.view.standing(user).await?;
            if standing.revision < Some(revision) && !standing.held {
                tracing::warn!(%user, "read from the log what the queue has not brought yet");
                self.catch_up(user, false).await?;
            }
        }
        Ok(())
    }
}

fn erasure(user: UserId) -> DirectoryEvent {
    DirectoryEvent {
        user,
        revision: ERASED,
        effect: Effect::Erase,
    }
}

fn effect(event: &StoredEvent, keys: &HashMap<KeyId, Lookup>) -> Result<Effect, Unmappable> {
    Ok(match (event, mapping::open(event, keys)?) {
        (StoredEvent::Created(_), Some((key, names))) => Effect::Begin(entry(key, &names)),
        (StoredEvent::Patched(_), Some((key, names))) => Effect::Change(entry(key, &names)),
        (StoredEvent::Created(_) | StoredEvent::Patched(_), None) => Effect::Forget,
        (StoredEvent::Deleted, _) => Effect::Erase,
        (StoredEvent::RegistrationAbandoned | StoredEvent::RenameFenced, _) => Effect::Nothing,
    })
}

fn resealed(
    event: &IntegrationEvent,
    keys: &HashMap<KeyId, Lookup>,
) -> Result<DirectoryEvent, Unreadable> {
    let key = match event.change.key().map(|id| (id, keys.get(&id))) {
        Some((_, Some(Lookup::Found(key)))) => Some(key),
        None | Some((_, Some(Lookup::Destroyed))) => None,
        Some((id, Some(Lookup::Missing) | None)) => return Err(Unreadable::NoKey(id)),
    };
    let effect = match (&event.change, key) {
        (Change::Deleted, _) => Effect::Erase,
        (Change::Fenced, _) => Effect::Nothing,
        (Change::Created(Names::Erased) | Change::Patched(Names::Erased), _)
        | (Change::Created(_) | Change::Patched(_), None) => Effect::Forget,
        (Change::Created(Names::Sealed { .. }), Some(key)) => {
            Effect::Begin(entry(key, &event.open(key)?))
        }
        (Change::Patched(Names::Sealed { .. }), Some(key)) => {
            Effect::Change(entry(key, &event.open(key)?))
        }
    };
    Ok(DirectoryEvent {
        user: event.user,
        revision: event.revision,
        effect,
    })
}

fn entry(key: &SubjectKey, names: &BTreeMap<NameField, Personal<String>>) -> Entry {
    let seal = |(&field, name)| (field, key.seal(read_model::place(field), name));
    Entry {
        key: key.id(),
        names: names.iter().map(seal).collect(),
    }
}
