//! What has happened to a user.

use super::{Changes, Claim, Profile};

/// A fact, in the past participle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserEvent {
    /// The user exists from here on.
    Created {
        /// Who the user is.
        profile: Profile,
        /// The claim under which the username is held.
        claim: Claim,
    },
    /// Some fields are different from here on.
    Patched {
        /// The fields that changed.
        changes: Changes,
        /// The claim under which the username is held from here on, whether or not it changed.
        claim: Claim,
    },
    /// The user is gone, and nothing may follow.
    Deleted,
    /// A rival for the username found the claim, but nobody under this id: nobody will ever be.
    RegistrationAbandoned,
    /// A rival for a username that this user claimed moved the stream on, so that the claim cannot be committed any more.
    RenameFenced,
}
