//! Since when users cannot be read, so that all commands for one user together wait once.

use crate::domain::UserId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// How many users are remembered.
const MOST_USERS: usize = 1_024;

/// The users whose commands failed because what is stored about them cannot be read.
#[derive(Debug, Default)]
pub(super) struct UnreadableUsers(Mutex<HashMap<UserId, Instant>>);

impl UnreadableUsers {
    /// Since when the user cannot be read: since now, unless that was noted before. A command that names no user waits by
    /// itself.
    pub(super) fn since(&self, user: Option<UserId>) -> Instant {
        let now = Instant::now();
        let Some(user) = user else {
            return now;
        };
        let mut users = self.users();
        if users.len() >= MOST_USERS && !users.contains_key(&user) {
            return now;
        }
        *users.entry(user).or_insert(now)
    }

    /// Notes that the user can be read.
    pub(super) fn forget(&self, user: Option<UserId>) {
        if let Some(user) = user {
            self.users().remove(&user);
        }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<UserId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_USERS, UnreadableUsers};
    use crate::domain::UserId;
    use std::time::Duration;
    use tokio::time::advance;

    const ADA: Option<UserId> = Some(UserId::new(1));

    #[tokio::test(start_paused = true)]
    async fn all_commands_for_one_user_wait_since_the_first_one_failed() {
        let users = UnreadableUsers::default();
        let (first, nobody) = (users.since(ADA), users.since(None));
        advance(Duration::from_secs(1)).await;
        assert_eq!(users.since(ADA), first);
        assert_ne!(users.since(Some(UserId::new(2))), first);
        assert_ne!(users.since(None), nobody);
        users.forget(ADA);
        assert_ne!(users.since(ADA), first);
    }

    #[tokio::test]
    async fn the_number_of_remembered_users_is_bounded() {
        let users = UnreadableUsers::default();
        for number in 0..3 * MOST_USERS as u64 {
            users.since(Some(UserId::new(number)));
        }
        assert_eq!(users.users().len(), MOST_USERS);
    }
}
