//! The outcome of a command that was accepted before.

use super::Once;
use crate::command::attempt::{AttemptOutcome, AttemptSeen};
use crate::command::command_memory::Remembered;
use crate::command::envelope::{Command, Committed};
use crate::command::error::CommandError;
use crate::command::user_history::HistoryError;
use crate::domain::UserId;
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
        remembered: &Remembered,
    ) -> Result<Option<SubjectKey>, CommandError> {
        let Some((id, print)) = &remembered.body else {
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

    /// Looks for the command's event in the user's stream. A deletion that another process began is completed.
    pub(super) async fn look_for_event(&self, user: UserId) -> Result<AttemptSeen, CommandError> {
        let sought = self.envelope.event_after(self.after);
        let histories = &self.stores.histories;
        let history = histories.read_seeking(user, &sought).await?;
        let status = history.status();
        let found = history.found();
        if let (Command::Delete(_), Some(_)) = (&self.envelope.command, found) {
            self.stores.complete_erasure(user, &history).await?;
        }
        Ok(AttemptSeen::User { status, found })
    }

    /// Pauses until the next look for the outcome, unless patience has ended.
    pub(super) async fn wait(&mut self) -> AttemptSeen {
        let now = Instant::now();
        if *self.patience.get_or_insert(now + PATIENCE) <= now {
            self.patience = None;
            return AttemptSeen::PatienceOver;
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(PAUSE))).await;
        AttemptSeen::Waited
    }
}

/// What the caller is told.
pub(super) fn answer(outcome: AttemptOutcome) -> Result<Committed, CommandError> {
    let committed = |user, revision, replayed| Committed {
        user,
        revision,
        replayed,
    };
    match outcome {
        AttemptOutcome::Committed {
            user,
            revision,
            replayed,
        } => Ok(committed(user, revision, replayed)),
        AttemptOutcome::WithoutEvent {
            user,
            reason,
            replayed,
        } => match reason {
            NoEvent::Unchanged(revision) => Ok(committed(user, revision, replayed)),
            NoEvent::Refused(refusal) => Err(refused(refusal.into(), replayed)),
            NoEvent::PreconditionFailed => Err(refused(CommandError::PreconditionFailed, replayed)),
        },
        AttemptOutcome::Gone => Err(CommandError::Gone),
        AttemptOutcome::Contended => Err(CommandError::Conflict),
    }
}

fn refused(refusal: CommandError, replayed: bool) -> CommandError {
    if replayed {
        CommandError::RefusedBefore(Box::new(refusal))
    } else {
        refusal
    }
}
