//! The decider of a user: its states, its rules, and the state after each event.

use super::{Changes, Claim, Profile, UserCommand, UserError, UserEvent};
use event_sourcing::Decider;

/// The decider of a user.
#[derive(Debug)]
pub struct User;

/// The state of a user after its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserState {
    /// No event yet.
    Absent,
    /// The id was abandoned before a user was created.
    Abandoned,
    /// The user exists.
    Active(ActiveUser),
    /// The user was deleted permanently.
    Erased,
}

/// An existing user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveUser {
    /// The user's names.
    pub profile: Profile,
    /// The claim that holds the username.
    pub claim: Claim,
}

impl Decider for User {
    type Command = UserCommand;
    type State = UserState;
    type Event = UserEvent;
    type Refusal = UserError;

    fn initial() -> UserState {
        UserState::Absent
    }

    fn decide(state: &UserState, command: UserCommand) -> Result<Vec<UserEvent>, UserError> {
        match (state, command) {
            (UserState::Absent, UserCommand::Create { profile, claim }) => {
                Ok(vec![UserEvent::Created { profile, claim }])
            }
            (UserState::Abandoned, UserCommand::Create { .. }) => Err(UserError::Abandoned),
            (
                UserState::Absent | UserState::Abandoned,
                UserCommand::Patch { .. } | UserCommand::Delete,
            ) => Err(UserError::Unknown),
            (UserState::Active(_), UserCommand::Create { .. }) => Err(UserError::Exists),
            (UserState::Active(user), UserCommand::Patch { changes, claim }) => {
                Ok(patch(user, changes, claim))
            }
            (UserState::Active(_), UserCommand::Delete) => Ok(vec![UserEvent::Deleted]),
            (
                UserState::Erased,
                UserCommand::Create { .. } | UserCommand::Patch { .. } | UserCommand::Delete,
            ) => Err(UserError::Erased),
        }
    }

    fn evolve(state: UserState, event: &UserEvent) -> UserState {
        match (state, event) {
            (_, UserEvent::Created { profile, claim }) => UserState::Active(ActiveUser {
                profile: profile.clone(),
                claim: claim.clone(),
            }),
            (UserState::Active(user), UserEvent::Patched { changes, claim }) => {
                UserState::Active(ActiveUser {
                    profile: user.profile.merge(changes.clone()),
                    claim: claim.clone(),
                })
            }
            (_, UserEvent::Deleted) => UserState::Erased,
            (_, UserEvent::RegistrationAbandoned) => UserState::Abandoned,
            (state, UserEvent::Patched { .. } | UserEvent::RenameFenced) => state,
        }
    }
}

fn patch(user: &ActiveUser, changes: Changes, claim: Option<Claim>) -> Vec<UserEvent> {
    let changes = changes.different_from(&user.profile);
    if changes == Changes::default() {
        return Vec::new();
    }
    let claim = claim.unwrap_or_else(|| user.claim.clone());
    vec![UserEvent::Patched { changes, claim }]
}
