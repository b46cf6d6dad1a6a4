//! The memory of one command that was sent with a key: the stream of that command.
//!
//! Invariants:
//! - Every append expects an exact revision, so of two processes that go on with a command one fails.
//! - The events are random in their ids, because rivals must not be taken for one another.

use super::attempt::KnownCommand;
use super::error::CommandError;
use crate::domain::UserId;
use crate::privacy::cipher::{Fingerprint, KeyId};
use crate::stored_event::{AcceptedCommand, CommandEvent, NoEvent, Origin};
use event_streams::{AppendError, Direction, EventStreams, Expected, ReadError};
use std::time::Duration;
use uuid::Uuid;

/// The most events of a command that are read. A command has more only if it was interrupted that often.
const MOST_EVENTS: usize = 1_000;

/// The stream of one command.
#[derive(Debug, Clone)]
pub(super) struct CommandMemory {
    store: EventStreams,
    stream: String,
}

/// What the stream says about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remembered {
    /// The command's id.
    pub(super) command: Uuid,
    /// The user. A creation whose id was abandoned has another one than before.
    pub(super) user: UserId,
    /// The fingerprint of the body, and the key under which it was made.
    pub(super) body: Option<(KeyId, Fingerprint)>,
    /// The revision of the user's stream before the command.
    pub(super) revision: Option<u64>,
    /// The reason why the command made no event, if that is certain.
    pub(super) done: Option<NoEvent>,
    /// The revision of the last event. Its writer owns the command: only the owner may decide it.
    pub(super) head: u64,
}

/// The answer to [`CommandMemory::accept`].
pub(super) enum Acceptance {
    /// The command is new, and stored at this revision.
    New(u64),
    /// The command was accepted before.
    Known(Remembered),
}

impl Remembered {
    /// What matters to the decision who goes on with the command.
    pub(super) fn known(&self) -> KnownCommand {
        KnownCommand {
            user: self.user,
            head: self.head,
            done: self.done,
        }
    }

    /// What is remembered after the next event of the memory.
    pub(super) fn after(remembered: Option<Self>, event: CommandEvent, head: u64) -> Option<Self> {
        match (remembered, event) {
            (_, CommandEvent::Accepted(accepted)) => Some(Self {
                command: accepted.command,
                user: accepted.user,
                body: accepted.body,
                revision: accepted.revision,
                done: None,
                head,
            }),
            (Some(remembered), CommandEvent::Resumed(user)) => Some(Self {
                user,
                head,
                ..remembered
            }),
            (Some(remembered), CommandEvent::Done(reason)) => Some(Self {
                done: Some(reason),
                head,
                ..remembered
            }),
            // The event belongs to a command whose first event has expired.
            (None, CommandEvent::Resumed(_) | CommandEvent::Done(_)) => None,
        }
    }
}

impl CommandMemory {
    pub(super) fn new(store: EventStreams, stream: String) -> Self {
        Self { store, stream }
    }

    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    /// Accepts the command, unless it was accepted before. `settled` is its outcome, if that is certain; no process can ever see
    /// the command without it.
    pub(super) async fn accept(
        &self,
        accepted: AcceptedCommand,
        settled: Option<NoEvent>,
        origin: &Origin,
    ) -> Result<Acceptance, CommandError> {
        let event = CommandEvent::Accepted(accepted).encode(Uuid::new_v4());
        let done = settled.map(|reason| CommandEvent::Done(reason).encode(Uuid::new_v4()));
        let events: Vec<_> = [origin.added_to(event)].into_iter().chain(done).collect();
        let mut expected = Expected::NoStream;
        loop {
            match self
                .store
                .append(&self.stream, expected, events.clone())
                .await
            {
                Ok(appended) => return Ok(Acceptance::New(appended.revision)),
                Err(AppendError::Conflict { actual }) => {
                    if let Some(known) = self.read().await? {
                        return Ok(Acceptance::Known(known));
                    }
                    // All events have expired, but the stream still counts their revisions.
                    let next = actual.map_or(Expected::NoStream, Expected::Revision);
                    if next == expected {
                        return Err(CommandError::Conflict);
                    }
                    expected = next;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the stream forget the command after this time.
    pub(super) async fn forget_after(&self, age: Duration) {
        if let Err(error) = self.store.set_max_age(&self.stream, age).await {
            tracing::warn!(%error, "the stream of a command will not expire by itself");
        }
    }

    /// Reads the stream. `None` if the command is not known, or not any more.
    pub(super) async fn read(&self) -> Result<Option<Remembered>, CommandError> {
        let events = self
            .store
            .read(&self.stream, Direction::ForwardFrom(0), MOST_EVENTS);
        let events = match events.await {
            Ok(events) => events,
            Err(ReadError::StreamDeleted) => return Err(CommandError::Gone),
            Err(error @ ReadError::Unavailable(_)) => return Err(error.into()),
        };
        let mut remembered = None;
        for event in events {
            let (head, event) = (event.revision, CommandEvent::decode(&event)?);
            remembered = Remembered::after(remembered, event, head);
        }
        Ok(remembered)
    }

    /// Appends an event as the owner of the command, and returns the new head. `None` if another process became the owner.
    pub(super) async fn append(
        &self,
        head: u64,
        event: CommandEvent,
    ) -> Result<Option<u64>, CommandError> {
        let event = event.encode(Uuid::new_v4());
        let expected = Expected::Revision(head);
        match self.store.append(&self.stream, expected, vec![event]).await {
            Ok(appended) => Ok(Some(appended.revision)),
            Err(AppendError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the writer of this revision still owns the command.
    pub(super) async fn is_owned_at(&self, head: u64) -> Result<bool, CommandError> {
        let last = self.store.read_last(&self.stream).await?;
        Ok(last.is_some_and(|last| last.revision == head))
    }
}
