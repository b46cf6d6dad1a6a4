//! The id that a caller has chosen for a new user.

use super::{Execution, Ran};
use crate::command::error::CommandError;
use crate::command::reservation::{Seen, UserStatus};

impl Execution<'_> {
    /// Looks whether the chosen id was used before, so that no name is claimed in vain. `None` if the user can be created, or
    /// nobody has chosen an id. The commit expects the user's stream to be absent, so safety does not depend on this.
    pub(super) async fn check_chosen_id(&mut self) -> Result<Option<Ran>, CommandError> {
        if self.envelope.chosen_id.is_none() {
            return Ok(None);
        }
        let seen = self.read_own().await?;
        if let (Seen::AlreadyCommitted, Some(revision)) = (&seen, self.committed) {
            return Ok(Some(Ran::Committed(revision)));
        }
        let is_unused = seen == Seen::User(UserStatus::Absent)
            && !self.stores.deleted_users.contains(self.user).await?;
        Ok((!is_unused).then_some(Ran::IdUsed))
    }
}
