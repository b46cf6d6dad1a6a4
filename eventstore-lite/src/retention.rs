//! Decides from a stream's metadata which of its events are visible. Pure.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::clock::TICKS_PER_SECOND;
use crate::event::TOMBSTONE_REVISION;

const TRUNCATE_BEFORE: &str = "$tb";

/// The limits of one stream. Of a metastream only the last event is ever visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    pub(crate) max_count: Option<u64>,
    /// In seconds.
    pub(crate) max_age: Option<u64>,
    pub(crate) truncate_before: Option<u64>,
}

#[derive(Deserialize)]
struct RawLimits {
    #[serde(rename = "$maxCount")]
    max_count: Option<i64>,
    #[serde(rename = "$maxAge")]
    max_age: Option<i64>,
    #[serde(rename = "$tb")]
    truncate_before: Option<i64>,
}

impl Retention {
    /// The limits of every metastream, whatever its own metadata contains.
    pub(crate) const METASTREAM: Self = Self {
        max_count: Some(1),
        max_age: None,
        truncate_before: None,
    };

    /// The limits in an event with metadata.
    pub(crate) fn of(is_json: bool, data: &[u8]) -> Self {
        if is_json {
            Self::parse(data)
        } else {
            Self::default()
        }
    }

    /// Parses metadata. If any limit in it is invalid, all of it is ignored.
    pub(crate) fn parse(json: &[u8]) -> Self {
        let Ok(raw) = serde_json::from_slice::<RawLimits>(json) else {
            return Self::default();
        };
        let limits = [
            (raw.max_count, 1),
            (raw.max_age, 1),
            (raw.truncate_before, 0),
        ];
        if limits
            .iter()
            .any(|(limit, least)| limit.is_some_and(|limit| limit < *least))
        {
            return Self::default();
        }
        Self {
            max_count: raw.max_count.map(i64::unsigned_abs),
            max_age: raw.max_age.map(i64::unsigned_abs),
            truncate_before: raw.truncate_before.map(i64::unsigned_abs),
        }
    }

    /// A soft delete truncates all existing and all possible events.
    pub(crate) fn is_soft_deleted(self) -> bool {
        self.truncate_before == Some(TOMBSTONE_REVISION)
    }

    /// The first revision that is visible by number, in a stream that ends with `last`.
    pub(crate) fn first_visible(self, last: u64) -> u64 {
        let by_count = self
            .max_count
            .map_or(0, |count| (last + 1).saturating_sub(count));
        by_count.max(self.truncate_before.unwrap_or(0))
    }

    /// The earliest `created` that is visible at `now`, both in ticks.
    pub(crate) fn oldest_visible(self, now: i64) -> Option<i64> {
        let seconds = i64::try_from(self.max_age?).unwrap_or(i64::MAX);
        Some(now.saturating_sub(seconds.saturating_mul(TICKS_PER_SECOND)))
    }
}

/// The metadata of a soft delete, which replaces all other metadata.
pub(crate) fn soft_delete() -> Vec<u8> {
    format!("{{\"{TRUNCATE_BEFORE}\":{TOMBSTONE_REVISION}}}").into_bytes()
}

/// The same metadata without a truncation; `None` if it has no truncation.
pub(crate) fn untruncated(metadata: &[u8]) -> Option<Map<String, Value>> {
    let mut object: Map<String, Value> = serde_json::from_slice(metadata).ok()?;
    object.shift_remove(TRUNCATE_BEFORE)?;
    Some(object)
}

/// The same metadata, but truncated before `revision`; `None` if it is not a JSON object.
pub(crate) fn truncated_before(metadata: &[u8], revision: u64) -> Option<Vec<u8>> {
    let mut object: Map<String, Value> = serde_json::from_slice(metadata).ok()?;
    object.insert(TRUNCATE_BEFORE.to_owned(), revision.into());
    serde_json::to_vec(&object).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_of_count_and_truncation_applies() {
        let both = Retention::parse(br#"{"$maxCount":2,"$tb":7}"#);
        assert_eq!(both.first_visible(4), 7);
        assert_eq!(both.first_visible(20), 19);
    }

    #[test]
    fn metadata_with_an_invalid_limit_is_ignored() {
        for json in [
            "nonsense",
            "[]",
            "{}",
            r#"{"$maxCount":0,"$tb":3}"#,
            r#"{"$maxCount":"x"}"#,
        ] {
            assert_eq!(
                Retention::parse(json.as_bytes()),
                Retention::default(),
                "{json}"
            );
        }
        assert_eq!(Retention::parse(br#"{"$maxAge":-1}"#), Retention::default());
    }

    #[test]
    fn a_soft_delete_hides_everything() {
        let deleted = Retention::parse(&soft_delete());
        assert!(deleted.is_soft_deleted());
        assert_eq!(deleted.first_visible(3), TOMBSTONE_REVISION);
    }

    #[test]
    fn truncation_keeps_the_other_keys_and_their_order() {
        let metadata = truncated_before(br#"{"owner":"me","a":{"z":1,"b":2}}"#, 5).unwrap();
        assert_eq!(metadata, br#"{"owner":"me","a":{"z":1,"b":2},"$tb":5}"#);
        assert_eq!(truncated_before(b"nonsense", 5), None);
    }

    #[test]
    fn age_is_counted_in_seconds() {
        let aged = Retention::parse(br#"{"$maxAge":2}"#);
        assert_eq!(aged.oldest_visible(50_000_000), Some(30_000_000));
    }
}
