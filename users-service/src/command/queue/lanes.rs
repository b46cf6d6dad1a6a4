//! Keeps the order of commands that name the same user.

use crate::domain::UserId;
use std::collections::{HashMap, VecDeque};

/// One lane for each user whose command runs. Other commands for that user wait in the lane. A command that names no user
/// needs no lane.
#[derive(Debug)]
pub(super) struct Lanes<T>(HashMap<UserId, VecDeque<T>>);

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Lanes<T> {
    /// Returns the item if it can start now. Otherwise it waits until [`leave`](Self::leave) returns it.
    pub(super) fn enter(&mut self, user: Option<UserId>, item: T) -> Option<T> {
        let Some(user) = user else {
            return Some(item);
        };
        if let Some(waiting) = self.0.get_mut(&user) {
            waiting.push_back(item);
            return None;
        }
        self.0.insert(user, VecDeque::new());
        Some(item)
    }

    /// Notes that the running item of this user is finished, and returns the next one, which can start now.
    pub(super) fn leave(&mut self, user: Option<UserId>) -> Option<T> {
        let user = user?;
        let next = self.0.get_mut(&user)?.pop_front();
        if next.is_none() {
            self.0.remove(&user);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::Lanes;
    use crate::domain::UserId;

    const ADA: Option<UserId> = Some(UserId::new(1));
    const BOB: Option<UserId> = Some(UserId::new(2));

    #[test]
    fn items_of_one_user_start_one_after_the_other_and_in_order() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.enter(ADA, 1), Some(1));
        assert_eq!(lanes.enter(ADA, 2), None);
        assert_eq!(lanes.enter(BOB, 3), Some(3));
        assert_eq!(lanes.enter(ADA, 4), None);
        assert_eq!(lanes.leave(ADA), Some(2));
        assert_eq!(lanes.enter(ADA, 5), None);
        assert_eq!(lanes.leave(BOB), None);
        assert_eq!(lanes.leave(ADA), Some(4));
        assert_eq!(lanes.leave(ADA), Some(5));
        assert_eq!(lanes.leave(ADA), None);
        assert_eq!(lanes.enter(ADA, 6), Some(6));
    }

    #[test]
    fn items_without_a_user_never_wait_and_finished_lanes_take_no_memory() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.enter(None, 1), Some(1));
        assert_eq!(lanes.enter(None, 2), Some(2));
        assert_eq!(lanes.leave(None), None);
        lanes.enter(ADA, 3);
        lanes.leave(ADA);
        assert!(lanes.0.is_empty());
    }
}
