//! What the queues did not bring is read from the log: gaps, held users that are replayed, and the comparison with the
//! log that finds a user's lost last event.
//!
//! Invariant: an event that cannot be applied holds its user; one whose key is lost, or a store that is away, holds
//! nobody and is an error, because trying again can help.

use super::directory::{DirectoryEvent, ERASED, Effect, Entry};
use super::view::{Standing, View};
use crate::domain::{NameField, UserId};
use crate::integration::mapping::{self, STREAM_DELETED};
use crate::integration::message::{Change, IntegrationEvent, Names};
use crate::privacy::Personal;
use crate::privacy::cipher::{DoesNotOpen, KeyId, SubjectKey};
use crate::privacy::subject_keys::{KeysError, Lookup, SubjectKeys};
use crate::query::read_model;
use crate::stored_event::{USER_STREAM_PREFIX, user_stream};
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
        let ids: Vec<KeyId> = events
            .iter()
            .filter_map(|event| event.change.key())
            .collect();
        let keys = if ids.is_empty() {
            HashMap::new()
        } else {
            self.keys.find_many(&ids).await?
        };
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
        let mut events = Vec::new();
        let mut unmappable = None;
        for event in recorded {
            match mapping::to_message(event, &self.keys).await {
                Ok(event) => events.push(event),
                Err(error) if error.is_final() => {
                    unmappable = Some((event.revision, error));
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let events: Result<Vec<_>, _> = self.reseal(&events).await?.into_iter().collect();
        let events = events?;
        if !events.is_empty() {
            self.view.apply(&events, lift).await?;
        }
        if let Some((revision, error)) = &unmappable {
            self.view.hold(user, *revision, &error.to_string()).await?;
        }
        Ok(unmappable.is_none())
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
            let mut last = BTreeMap::new();
            for event in page
                .events
                .iter()
                .filter(|event| event.position <= published)
            {
                let erased = event.event_type == STREAM_DELETED;
                let revision = if erased { ERASED } else { event.revision };
                last.insert(mapping::owner(event)?, revision);
            }
            for (user, revision) in last {
                let standing = self.view.standing(user).await?;
                if standing.revision < Some(revision) && !standing.held {
                    tracing::warn!(%user, "read from the log what the queue has not brought yet");
                    self.catch_up(user, false).await?;
                }
            }
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
}

fn erasure(user: UserId) -> DirectoryEvent {
    DirectoryEvent {
        user,
        revision: ERASED,
        effect: Effect::Erase,
    }
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
            Effect::Begin(entry(key, &event.change.open(key)?))
        }
        (Change::Patched(Names::Sealed { .. }), Some(key)) => {
            Effect::Change(entry(key, &event.change.open(key)?).names)
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
