//! What is counted of one user: when the user was created, renamed and deleted, in minutes since the Unix epoch.
//!
//! Invariant: it outlives the user, in the stream of tombstones, so it has no personal data.

use super::{StoredEvent, TOMBSTONES, Undecodable, json};
use crate::domain::UserId;
use bytes::Bytes;
use event_streams::{NewEvent, RecordedEvent};
use serde::{Deserialize, Serialize};
use serde_json::json as value;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Stored name of a [`UserCount`].
pub const USER_COUNTED: &str = "UserCounted.v1";

const MINUTE: u64 = 60_000;
const MINUTES_OF_HOUR: u64 = 60;
/// A count with more minutes than this keeps the hours of renames alone, so that its event stays small.
const MOST_MINUTES: usize = 10_000;

#[derive(Deserialize)]
struct CountedUser {
    id: String,
}

/// The counted events of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCount {
    /// The minute in which the user was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// The minutes in which the user was renamed, each with the number of renames.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub renamed: BTreeMap<u64, u64>,
    /// The minute in which the user was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<u64>,
}

impl UserCount {
    /// The event for the stream of tombstones.
    #[must_use]
    pub fn encode(self, id: Uuid, user: UserId) -> NewEvent {
        let mut data = value!(self);
        data["id"] = user.to_string().into();
        NewEvent {
            id,
            event_type: USER_COUNTED.into(),
            data: json(&data),
            metadata: Bytes::new(),
        }
    }

    /// The user of the event, and what is counted. `None` if the event is no count.
    #[must_use]
    pub fn decode(event: &RecordedEvent) -> Option<(UserId, Self)> {
        if event.stream != TOMBSTONES || event.event_type != USER_COUNTED {
            return None;
        }
        let user: CountedUser = serde_json::from_slice(&event.data).ok()?;
        let count = serde_json::from_slice(&event.data).ok()?;
        Some((user.id.parse().ok()?, count))
    }

    /// Counts an event of the user's stream.
    ///
    /// # Errors
    /// If the event is unknown or malformed.
    pub fn add(&mut self, event: &RecordedEvent) -> Result<(), Undecodable> {
        match StoredEvent::decode(event)? {
            StoredEvent::Created(_) => self.create(event.created),
            StoredEvent::Patched(_) => self.rename(event.created),
            StoredEvent::Deleted => self.delete(event.created),
            StoredEvent::RegistrationAbandoned | StoredEvent::RenameFenced => {}
        }
        Ok(())
    }

    /// Counts a creation at this time, in milliseconds since the Unix epoch.
    pub fn create(&mut self, time: u64) {
        self.created = Some(time / MINUTE);
    }

    /// Counts a rename at this time.
    pub fn rename(&mut self, time: u64) {
        *self.renamed.entry(time / MINUTE).or_default() += 1;
        if self.renamed.len() > MOST_MINUTES {
            let mut hours = BTreeMap::new();
            for (minute, count) in &self.renamed {
                *hours.entry(minute - minute % MINUTES_OF_HOUR).or_default() += count;
            }
            self.renamed = hours;
        }
    }

    /// Counts a deletion at this time.
    pub fn delete(&mut self, time: u64) {
        self.deleted = Some(time / MINUTE);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::recorded;
    use super::*;

    #[test]
    fn a_count_is_read_and_written_as_in_its_frozen_example() {
        let example = include_str!("../../tests/fixtures/events/UserCounted.v1.json");
        let example: serde_json::Value = serde_json::from_str(example).unwrap();
        let mut count = UserCount::default();
        count.create(29_400_000 * 60_000);
        count.rename(29_400_001 * 60_000);
        count.rename(29_400_001 * 60_000);
        count.delete(29_400_005 * 60_000);
        let event = count.clone().encode(Uuid::nil(), UserId::new(77));
        let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        assert_eq!(data, example["data"]);
        let mut recorded = recorded(TOMBSTONES, event);
        let read = UserCount::decode(&recorded);
        assert_eq!(read, Some((UserId::new(77), count)));
        recorded.stream = "users-77".to_owned();
        assert_eq!(UserCount::decode(&recorded), None, "of another stream");
    }

    #[test]
    fn renames_of_one_minute_are_one_number() {
        let mut count = UserCount::default();
        count.create(60_000);
        for time in [119_999, 120_000, 179_999] {
            count.rename(time);
        }
        count.delete(u64::MAX);
        assert_eq!(count.created, Some(1));
        assert_eq!(count.renamed, BTreeMap::from([(1, 1), (2, 2)]));
        assert_eq!(count.deleted, Some(u64::MAX / 60_000));
    }

    #[test]
    fn too_many_minutes_become_hours_and_no_rename_is_lost() {
        let mut count = UserCount::default();
        let renames = 3 * MOST_MINUTES as u64;
        for minute in 0..renames {
            count.rename(minute * 60_000);
        }
        assert!(count.renamed.len() <= MOST_MINUTES);
        assert_eq!(count.renamed.values().sum::<u64>(), renames);
        assert_eq!(count.renamed[&0], 60);
    }
}
