//! The events of a user.

use super::{Changes, Claim, Profile};

/// Something that happened to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserEvent {
    /// The user was created.
    Created {
        /// The user's names.
        profile: Profile,
        /// The claim that holds the username.
        claim: Claim,
    },
    /// Some fields changed.
    Patched {
        /// The fields that changed.
        changes: Changes,
        /// The claim that holds the username from now on, also if the username did not change.
        claim: Claim,
    },
    /// The user was deleted. No event may follow.
    Deleted,
    /// A rival for the username found this id's claim but no user, and so fenced the id. No user is ever created under it.
    RegistrationAbandoned,
    /// A rival for a username that this user had claimed fenced the stream, so that the claim can no longer be committed.
    RenameFenced,
}
