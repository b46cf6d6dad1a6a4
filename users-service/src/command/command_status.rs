//! The status of a command that was handed over to the queue.

use super::command_answer::CommandAnswer;
use super::command_memory::CommandMemory;
use super::envelope::Envelope;
use super::error::CommandError;
use super::handler::CommandHandler;
use super::problems::problem;
use super::status_link::StatusLink;
use crate::privacy::pseudonym::UsernameSecret;
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
        let outcome = self.stores.outcome(&known, link.kind).await?;
        Ok(Some(match outcome {
            None => CommandStatus::Pending,
            Some(Ok(done)) => CommandStatus::Done(CommandAnswer::done(link.kind, done.user)),
            Some(Err(gone @ CommandError::Gone)) => return Err(gone),
            Some(Err(refusal)) => CommandStatus::Refused(problem(refusal)),
        }))
    }

    /// Whether a command with this link would still be remembered.
    fn is_recent(&self, link: &StatusLink) -> bool {
        let age = u128::from(self.clock.now().saturating_sub(link.made));
        age < self.kept_for.as_millis()
    }
}
