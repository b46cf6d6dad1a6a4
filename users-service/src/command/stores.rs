//! The stores that commands use.

use super::user_histories::UserHistories;
use crate::erasure::Erasure;
use crate::privacy::subject_keys::SubjectKeys;
use event_streams::EventStreams;

/// The stores that commands use.
#[derive(Debug, Clone)]
pub(super) struct Stores {
    pub(super) events: EventStreams,
    pub(super) histories: UserHistories,
    pub(super) keys: SubjectKeys,
    pub(super) erasure: Erasure,
}

impl Stores {
    pub(super) fn new(events: EventStreams, keys: SubjectKeys) -> Self {
        Self {
            histories: UserHistories::new(events.clone()),
            erasure: Erasure::new(events.clone(), keys.clone()),
            events,
            keys,
        }
    }
}
