//! The commands that a user can receive.

use super::{Changes, Claim, Profile};

/// A command. The username is reserved before the decision, so the command carries the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserCommand {
    /// Create a user under an unused id.
    Create {
        /// The user's names.
        profile: Profile,
        /// The claim that holds the username.
        claim: Claim,
    },
    /// Change some fields.
    Patch {
        /// The fields to change.
        changes: Changes,
        /// The claim to the new username. `None` if the user already holds the reservation of that name.
        claim: Option<Claim>,
    },
    /// Delete the user permanently.
    Delete,
}
