//! Detects events of the log that the subscription has not delivered, by reading the log in another way.

use crate::stored_event::USER_STREAM_PREFIX;
use event_streams::{EventStreams, Position, Unavailable};

/// Why the publisher cannot go on from where it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// The publisher's position is not valid: every event would lie before it.
    #[error("the position taken last lies beyond the end of the log")]
    Beyond,
}

/// The log's first event after `taken`, if there is one.
pub(super) async fn look(
    store: EventStreams,
    taken: Option<Position>,
) -> Result<Option<Position>, LookError> {
    if taken > store.log_end().await? {
        return Err(LookError::Beyond);
    }
    let page = store.read_all(&[USER_STREAM_PREFIX], taken, 1).await?;
    Ok(page.events.first().map(|event| event.position))
}

/// Compares two looks at the log. An event that the first look saw, and that has not been delivered by the second, is
/// overdue. It uses no clock, because the store's clock may differ.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    expected: Option<Position>,
    overdue: bool,
}

impl Overdue {
    /// Notes the log's first event after `taken`.
    pub(super) fn note(&mut self, taken: Option<Position>, first: Option<Position>) {
        self.overdue = self.expected.is_some_and(|expected| taken < Some(expected));
        self.expected = first;
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.overdue
            .then(|| "the log has events that have not come for seconds".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_did_not_come_between_two_looks_is_overdue_until_it_comes() {
        let at = |commit| {
            let prepare = commit;
            Some(Position { commit, prepare })
        };
        let mut overdue = Overdue::default();
        overdue.note(None, at(0));
        assert_eq!(overdue.problem(), None, "it may be on its way");
        overdue.note(None, at(0));
        assert!(overdue.problem().is_some());
        overdue.note(at(10), at(20));
        assert_eq!(overdue.problem(), None);
        overdue.note(at(10), at(20));
        assert!(overdue.problem().is_some());
        overdue.note(at(20), at(30));
        assert_eq!(overdue.problem(), None);
        overdue.note(at(30), None);
        assert_eq!(overdue.problem(), None, "30 came");
    }
}
