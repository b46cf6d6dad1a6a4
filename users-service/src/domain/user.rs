//! The decider of one user: life stages, rules, and how events change the stage.

use super::{Claim, FamilyName, GivenName, UserCommand, UserError, UserEvent, Username};
use event_sourcing::Decider;

/// Decides what happens to one user.
#[derive(Debug)]
pub struct User;

/// The stage of life that a user's events have led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserState {
    /// No event yet.
    Absent,
    /// Given up before anybody was made under the id.
    Abandoned,
    /// Alive.
    Active(ActiveUser),
    /// Deleted, for ever.
    Erased,
}

/// A user who is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveUser {
    /// Who the user is.
    pub profile: Profile,
    /// The claim under which the username is held.
    pub claim: Claim,
}

/// Who a user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name that no two users share.
    pub username: Username,
    /// The first name.
    pub given_name: GivenName,
    /// The last name.
    pub family_name: FamilyName,
}

/// The fields of a [`Profile`] that change; the others stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The new username.
    pub username: Option<Username>,
    /// The new first name.
    pub given_name: Option<GivenName>,
    /// The new last name.
    pub family_name: Option<FamilyName>,
}

impl Profile {
    /// The profile with the changes merged in.
    #[must_use]
    pub fn merge(self, changes: Changes) -> Self {
        Self {
            username: changes.username.unwrap_or(self.username),
            given_name: changes.given_name.unwrap_or(self.given_name),
            family_name: changes.family_name.unwrap_or(self.family_name),
        }
    }
}

impl Changes {
    /// Only what would be different afterwards.
    fn from(self, profile: &Profile) -> Self {
        Self {
            username: self.username.filter(|new| *new != profile.username),
            given_name: self.given_name.filter(|new| *new != profile.given_name),
            family_name: self.family_name.filter(|new| *new != profile.family_name),
        }
    }
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
    let changes = changes.from(&user.profile);
    if changes == Changes::default() {
        return Vec::new();
    }
    let claim = claim.unwrap_or_else(|| user.claim.clone());
    vec![UserEvent::Patched { changes, claim }]
}
