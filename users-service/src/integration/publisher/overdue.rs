//! Whether the log has events that did not come: the subscription is asked about itself by another way of reading.

use crate::stored_event::USER_STREAM_PREFIX;
use event_streams::{EventStreams, Position, Unavailable};

/// Why the publisher cannot go on from where it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// What the publisher took for a position is none: everything would lie before it.
    #[error("the position taken last lies beyond the end of the log")]
    Beyond,
}

/// The first event after `taken` that the log has; none if there is none.
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

/// Compares two looks. What the first saw, and what has not come at the second, is overdue: no clock is asked, because
/// the store's may differ.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    expected: Option<Position>,
    overdue: bool,
}

impl Overdue {
    /// Notes the first event after `taken` that the log has.
    pub(super) fn note(&mut self, taken: Option<Position>, first: Option<Position>) {
        self.overdue = self.expected.is_some_and(|expected| taken < Some(expected));
        self.expected = first;
    }

    pub(super) fn told(&self) -> Option<String> {
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
        assert_eq!(overdue.told(), None, "it may be on its way");
        overdue.note(None, at(0));
        assert!(overdue.told().is_some());
        overdue.note(at(10), at(20));
        assert_eq!(overdue.told(), None);
        overdue.note(at(10), at(20));
        assert!(overdue.told().is_some());
        overdue.note(at(20), at(30));
        assert_eq!(overdue.told(), None);
        overdue.note(at(30), None);
        assert_eq!(overdue.told(), None, "30 came");
    }
}
