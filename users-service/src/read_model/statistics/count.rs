//! What is counted of one user, and how events change it. Pure.

use crate::read_model::{ProvenChange, UserChanges};
use crate::stored_event::UserCount;

/// What is counted of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Counted {
    /// By the user's events so far.
    Events(UserCount),
    /// By the count that outlives the user. It does not change any more.
    Final(UserCount),
    /// As [`Counted::Final`], as it is read from the table, which does not keep the numbers.
    Settled,
}

impl Counted {
    /// What is counted after these events.
    pub(super) fn evolve(before: Option<Self>, changes: &UserChanges<'_>) -> Option<Self> {
        let mut count = match before {
            Some(counted @ (Self::Final(_) | Self::Settled)) => return Some(counted),
            Some(Self::Events(count)) if !changes.anew => count,
            Some(Self::Events(_)) | None => UserCount::default(),
        };
        for event in &changes.events {
            match &event.change {
                ProvenChange::Created(_) => count.create(event.created),
                ProvenChange::Patched(_) => count.rename(event.created),
                ProvenChange::Deleted => count.delete(event.created),
                ProvenChange::Counted(all) => return Some(Self::Final(all.clone())),
                ProvenChange::Nothing | ProvenChange::Tombstoned => {}
            }
        }
        (count != UserCount::default()).then_some(Self::Events(count))
    }

    /// The numbers that count in the windows. `None` if they are settled.
    pub(super) fn count(&self) -> Option<&UserCount> {
        match self {
            Self::Events(count) | Self::Final(count) => Some(count),
            Self::Settled => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;
    use crate::read_model::ProvenEvent;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    fn after(
        before: Option<Counted>,
        anew: bool,
        changes: Vec<(u64, ProvenChange)>,
    ) -> Option<Counted> {
        let events: Vec<_> = changes
            .into_iter()
            .map(|(minute, change)| ProvenEvent {
                id: Uuid::nil(),
                user: UserId::new(7),
                revision: 0,
                created: minute * 60_000,
                change,
            })
            .collect();
        let changes = UserChanges {
            user: UserId::new(7),
            anew,
            events: events.iter().collect(),
        };
        Counted::evolve(before, &changes)
    }

    fn count(created: u64, renamed: &[(u64, u64)], deleted: Option<u64>) -> UserCount {
        UserCount {
            created: Some(created),
            renamed: renamed.iter().copied().collect(),
            deleted,
        }
    }

    #[test]
    fn events_count_at_the_time_of_their_storing() {
        let counted = after(
            None,
            false,
            vec![
                (5, ProvenChange::Created(None)),
                (6, ProvenChange::Nothing),
                (7, ProvenChange::Patched(None)),
            ],
        );
        let expected = Counted::Events(count(5, &[(7, 1)], None));
        assert_eq!(counted, Some(expected.clone()));
        let counted = after(Some(expected), false, vec![(9, ProvenChange::Deleted)]);
        assert_eq!(counted, Some(Counted::Events(count(5, &[(7, 1)], Some(9)))));
    }

    #[test]
    fn a_user_made_anew_is_counted_anew() {
        let before = Counted::Events(count(5, &[(7, 1)], None));
        let counted = after(
            Some(before.clone()),
            true,
            vec![(6, ProvenChange::Created(None))],
        );
        assert_eq!(counted, Some(Counted::Events(count(6, &[], None))));
        assert_eq!(after(Some(before), true, Vec::new()), None);
    }

    #[test]
    fn the_count_that_outlives_a_user_replaces_all_others_and_stays() {
        let before = Counted::Events(count(5, &[], None));
        let all = count(5, &[(6, 3)], Some(8));
        let counted = after(
            Some(before),
            false,
            vec![(90, ProvenChange::Counted(all.clone()))],
        );
        assert_eq!(counted, Some(Counted::Final(all.clone())));
        let again = vec![(91, ProvenChange::Counted(all))];
        let settled = after(Some(Counted::Settled), true, again);
        assert_eq!(settled, Some(Counted::Settled));
    }

    #[test]
    fn a_tombstone_has_no_time_to_count() {
        let before = Counted::Events(count(5, &[], None));
        let counted = after(
            Some(before.clone()),
            false,
            vec![(9, ProvenChange::Tombstoned)],
        );
        assert_eq!(counted, Some(before));
        assert_eq!(BTreeMap::from([(1, 2)]), count(0, &[(1, 2)], None).renamed);
    }
}
