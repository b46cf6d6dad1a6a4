//! The outcome of a command that was accepted before.

use super::Once;
use crate::command::command_memory::Remembered;
use crate::command::envelope::{CommandKind, Committed};
use crate::command::error::CommandError;
use crate::command::reservation::UserStatus;
use crate::command::stores::Stores;
use crate::command::user_history::HistoryError;
use crate::privacy::cipher::SubjectKey;
use crate::privacy::subject_keys::Lookup;
use crate::stored_event::NoEvent;
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

/// How long a repeated command waits for the outcome before it takes the command over. Safety does not depend on it.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two looks for the outcome, in milliseconds.
const PAUSE: Range<u64> = 20..40;

impl Once<'_> {
    /// The key of the accepted command, if it has one. Fails if the command had another body, or its user was erased.
    pub(super) async fn verified_key(
        &self,
        known: &Remembered,
    ) -> Result<Option<SubjectKey>, CommandError> {
        let Some((id, print)) = &known.body else {
            return Ok(None);
        };
        let stream = self.memory.stream();
        match self.stores.keys.find(*id).await? {
            Lookup::Destroyed => Err(CommandError::Gone),
            Lookup::Missing => Err(HistoryError::KeyLost(*id).into()),
            Lookup::Found(key)
                if self.envelope.fingerprint(&key, stream).as_ref() == Some(print) =>
            {
                Ok(Some(key))
            }
            Lookup::Found(_) => Err(CommandError::KeyReused),
        }
    }

    /// Looks for the outcome until there is one, or patience ends.
    pub(super) async fn wait_for_outcome(
        &self,
        known: &mut Remembered,
    ) -> Result<Option<Result<Committed, CommandError>>, CommandError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let kind = self.envelope.command.kind();
            if let Some(outcome) = self.stores.outcome(known, kind).await? {
                return Ok(Some(outcome));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(PAUSE))).await;
            *known = self.memory.read().await?.ok_or(CommandError::Conflict)?;
        }
    }
}

impl Stores {
    /// The outcome of an accepted command, if there is one.
    pub(in crate::command) async fn outcome(
        &self,
        known: &Remembered,
        kind: CommandKind,
    ) -> Result<Option<Result<Committed, CommandError>>, CommandError> {
        let committed = |revision| Committed {
            user: known.user,
            revision,
            replayed: true,
        };
        match known.done {
            Some(NoEvent::Unchanged(revision)) => return Ok(Some(Ok(committed(revision)))),
            Some(NoEvent::Refused(refusal)) => return Ok(Some(Err(before(refusal.into())))),
            Some(NoEvent::PreconditionFailed) => {
                return Ok(Some(Err(before(CommandError::PreconditionFailed))));
            }
            None => {}
        }
        let sought = kind.event_after(known.command, known.revision);
        let history = self.histories.read_seeking(known.user, &sought).await?;
        let erased = history.status() == UserStatus::Erased;
        Ok(match (kind, history.found()) {
            (CommandKind::Delete, Some(revision)) => {
                self.complete_erasure(known.user, &history).await?;
                Some(Ok(committed(revision)))
            }
            (CommandKind::Create | CommandKind::Patch, _) if erased => {
                Some(Err(CommandError::Gone))
            }
            (_, found) => found.map(|revision| Ok(committed(revision))),
        })
    }
}

/// The refusal of a command that was refused before.
fn before(refusal: CommandError) -> CommandError {
    CommandError::RefusedBefore(Box::new(refusal))
}
