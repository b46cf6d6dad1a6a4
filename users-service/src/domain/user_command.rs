//! What can be asked of a user.

use super::{Changes, Claim, Profile};

/// A wish, in the imperative. The reservation of the username was seen to before, and travels along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserCommand {
    /// Make a user of an id that nobody has.
    Create {
        /// Who the user is.
        profile: Profile,
        /// The claim under which the username is held.
        claim: Claim,
    },
    /// Change some fields.
    Patch {
        /// The fields to change.
        changes: Changes,
        /// The claim to the new username; none when the user already holds the reservation that it maps to.
        claim: Option<Claim>,
    },
    /// Forget the user for ever.
    Delete,
}
