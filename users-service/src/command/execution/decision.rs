//! The decision of one command, and the sealing of its events.

use super::Execution;
use crate::command::envelope::Command;
use crate::command::error::CommandError;
use crate::command::reservation::UserStatus;
use crate::command::user_history::Activity;
use crate::domain::{Claim, User, UserCommand, UserError, UserState};
use crate::privacy::cipher::SubjectKey;
use crate::stored_event::{StoredEvent, tombstone};
use event_sourcing::Decider as _;
use event_streams::NewEvent;

impl Execution<'_> {
    /// Decides the command on the last read of the user's stream.
    pub(super) async fn decide(
        &mut self,
        claim: Option<Claim>,
    ) -> Result<Vec<NewEvent>, CommandError> {
        match (&self.envelope.command, claim, &self.key) {
            (Command::Create(profile), Some(claim), Some(key)) => {
                let profile = profile.clone();
                // The commit expects the user's stream to be absent, so the state is known without a read.
                let create = UserCommand::Create { profile, claim };
                self.events(&UserState::Absent, create, key)
            }
            (Command::Create(_), ..) => Err(CommandError::Conflict),
            (Command::Patch(_, changes), claim, _) => {
                let changes = changes.clone();
                let patch = UserCommand::Patch { changes, claim };
                match self.history.activity(&self.stores.keys).await? {
                    Activity::Active(key) => {
                        let events = self.events(&self.history.open(&key)?, patch, &key);
                        self.subject = Some(key);
                        events
                    }
                    Activity::Inactive(state) => Err(refusal(&state, patch).into()),
                }
            }
            (Command::Delete(_), ..) => self.delete().await,
        }
    }

    /// Decides a deletion by the user's status. It needs neither the key nor the names.
    async fn delete(&self) -> Result<Vec<NewEvent>, CommandError> {
        match self.history.status() {
            UserStatus::Active { .. } => {
                let deleted = tombstone(self.envelope.event_id(0), self.user);
                Ok(vec![self.envelope.origin().added_to(deleted)])
            }
            UserStatus::Absent | UserStatus::Abandoned => Err(UserError::Unknown.into()),
            UserStatus::Erased => {
                self.complete_erasure().await?;
                Err(UserError::Erased.into())
            }
        }
    }

    /// Decides the command on this state, and seals the events under the key.
    fn events(
        &self,
        state: &UserState,
        command: UserCommand,
        key: &SubjectKey,
    ) -> Result<Vec<NewEvent>, CommandError> {
        let events = User::decide(state, command)?;
        let origin = self.envelope.origin();
        let encode = |(index, event)| {
            let id = self.envelope.event_id(index);
            origin.added_to(StoredEvent::encode(id, self.user, event, key))
        };
        Ok((0..).zip(&events).map(encode).collect())
    }
}

/// The refusal of the command in the state of an inactive user.
fn refusal(state: &UserState, command: UserCommand) -> UserError {
    User::decide(state, command)
        .err()
        .unwrap_or(UserError::Unknown)
}
