//! The status of a command that was handed over to the queue.

use super::command_answer::CommandAnswer;
use super::command_memory::{CommandMemory, Remembered};
use super::envelope::{CommandKind, Committed, Envelope};
use super::error::CommandError;
use super::handler::CommandHandler;
use super::problems::problem;
use super::reservation::UserStatus;
use super::status_link::StatusLink;
use crate::privacy::pseudonym::UsernameSecret;
use crate::stored_event::{CommandEvent, NoEvent};
use web::Problem;

/// The status of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandStatus {
    /// The command has no outcome yet.
    Pending,
    /// The command was executed.
    Done(CommandAnswer),
    /// The command was refused.
    Refused(Problem),
}

impl CommandHandler {
    /// A link to the status of this command, which must have a key.
    pub(super) fn link(&self, envelope: &Envelope) -> Option<StatusLink> {
        StatusLink::of(envelope, &self.secret, self.clock.now())
    }

    /// Whether the command was accepted before, as far as the store can tell.
    pub(super) async fn is_accepted(&self, envelope: &Envelope) -> bool {
        let stream = envelope.identity(|parts| self.secret.command_stream(parts));
        let Some(stream) = stream else {
            return false;
        };
        let memory = CommandMemory::new(self.stores.events.clone(), stream);
        !matches!(
            memory.read().await,
            Ok(None) | Err(CommandError::Unavailable(_))
        )
    }

    /// The status behind a link. `None` if this service did not make the link, or the command is forgotten.
    ///
    /// # Errors
    /// [`CommandError::Gone`] if the user was erased since, or a failure.
    pub async fn status(&self, link: &str) -> Result<Option<CommandStatus>, CommandError> {
        let Some(link) = StatusLink::parse(link, &self.secret) else {
            return Ok(None);
        };
        let stream = UsernameSecret::stream_of_command(link.command);
        let memory = CommandMemory::new(self.stores.events.clone(), stream);
        let Some(known) = memory.read().await? else {
            return Ok(self.is_recent(&link).then_some(CommandStatus::Pending));
        };
        self.outcome(&memory, &known, link.kind).await.map(Some)
    }

    /// The outcome of an accepted command as far as anybody can see it who does not execute it.
    async fn outcome(
        &self,
        memory: &CommandMemory,
        known: &Remembered,
        kind: CommandKind,
    ) -> Result<CommandStatus, CommandError> {
        let user = known.user;
        let unchanged = match known.done {
            Some(NoEvent::Refused(refusal)) => return Ok(refused(refusal.into())),
            Some(NoEvent::PreconditionFailed) => {
                return Ok(refused(CommandError::PreconditionFailed));
            }
            Some(NoEvent::Unchanged(revision)) => Some(revision),
            None => None,
        };
        let sought = kind.event_after(known.command, known.revision);
        let history = self.stores.histories.read_seeking(user, &sought).await?;
        let erased = history.status() == UserStatus::Erased;
        if kind != CommandKind::Delete && erased {
            return Err(CommandError::Gone);
        }
        let mut revision = unchanged.or(history.found());
        if erased {
            self.stores.complete_erasure(user, &history).await?;
            if revision.is_none() {
                revision = Self::share_deletion(memory, known).await?;
            }
        }
        let Some(revision) = revision else {
            return Ok(CommandStatus::Pending);
        };
        let done = Committed {
            user,
            revision,
            replayed: true,
        };
        Ok(CommandStatus::Done(CommandAnswer::done(kind, &done)))
    }

    /// Remembers that a deletion is done, whose user was active when it was accepted and has been deleted since. Its own event
    /// may be gone with the user's stream, and what is said here must stay true, so its owner is told too. Returns `None` if the
    /// deletion was accepted later, or its owner has just gone on: then the owner decides.
    async fn share_deletion(
        memory: &CommandMemory,
        known: &Remembered,
    ) -> Result<Option<u64>, CommandError> {
        let Some(revision) = known.revision else {
            return Ok(None);
        };
        let done = CommandEvent::Done(NoEvent::Unchanged(revision));
        let appended = memory.append(known.head, done).await?;
        Ok(appended.map(|_| revision))
    }

    /// Whether a command with this link would still be remembered.
    fn is_recent(&self, link: &StatusLink) -> bool {
        let age = u128::from(self.clock.now().saturating_sub(link.made));
        age < self.kept_for.as_millis()
    }
}

fn refused(refusal: CommandError) -> CommandStatus {
    CommandStatus::Refused(problem(refusal))
}
