//! The stores that commands use.

use super::deleted_users::DeletedUsers;
use super::error::CommandError;
use super::snapshots::Snapshots;
use super::user_histories::UserHistories;
use super::user_history::UserHistory;
use crate::domain::UserId;
use crate::erasure::Erasure;
use crate::privacy::subject_keys::{Lookup, SubjectKeys};
use event_streams::EventStreams;

/// The stores that commands use.
#[derive(Debug, Clone)]
pub(super) struct Stores {
    pub(super) events: EventStreams,
    pub(super) histories: UserHistories,
    pub(super) snapshots: Snapshots,
    pub(super) keys: SubjectKeys,
    pub(super) erasure: Erasure,
    pub(super) deleted_users: DeletedUsers,
}

impl Stores {
    pub(super) fn new(events: EventStreams, keys: SubjectKeys) -> Self {
        Self {
            histories: UserHistories::new(events.clone()),
            snapshots: Snapshots::new(events.clone()),
            erasure: Erasure::new(events.clone(), keys.clone()),
            deleted_users: DeletedUsers::new(events.clone()),
            events,
            keys,
        }
    }

    /// Completes the deletion of a user whose stream says that the user was deleted. If the key is destroyed, it was complete.
    pub(super) async fn complete_erasure(
        &self,
        user: UserId,
        history: &UserHistory,
    ) -> Result<(), CommandError> {
        let Some(key) = history.key() else {
            return Ok(());
        };
        match self.keys.find(key).await? {
            Lookup::Destroyed => Ok(()),
            Lookup::Found(_) | Lookup::Missing => Ok(self.erasure.erase(user, key).await?),
        }
    }
}
