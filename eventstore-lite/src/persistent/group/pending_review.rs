//! Which of the events that wait are to be looked at again before they are sent: they may have been deleted since they
//! were read, and the client that gets them may have come after that.

use super::Group;
use super::message::{Message, Origin};
use crate::storage::{ReadFrom, Reviewed, Seen};

/// What changed since the last review.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PendingReview {
    joined: bool,
    came_again: bool,
}

impl PendingReview {
    /// Somebody joined.
    pub(super) fn of_all(&mut self) {
        self.joined = true;
    }

    /// Events are to come again, perhaps to somebody else.
    pub(super) fn of_what_comes_again(&mut self) {
        self.came_again = true;
    }
}

impl Group {
    /// The events to look at; when that is done, [`Group::reviewed`] is to be told.
    pub(crate) fn to_review(&self, from: ReadFrom) -> Vec<Reviewed> {
        let PendingReview { joined, came_again } = self.review;
        let again = self.again.iter().filter(|_| joined || came_again);
        let fresh = self.fresh.iter().filter(|_| joined);
        let look = |message: &Message| Reviewed {
            event: message.event.clone(),
            from: match message.origin {
                Origin::Read(_) => from,
                Origin::Parked(_) => ReadFrom::TakenOff,
            },
        };
        again.chain(fresh).map(look).collect()
    }

    /// What can still be seen of the events of [`Group::to_review`], in their order; the others are skipped.
    pub(crate) fn reviewed(&mut self, seen: Vec<Seen>) {
        self.review = PendingReview::default();
        let mut seen = seen.into_iter();
        let (mut again, mut fresh) = (
            std::mem::take(&mut self.again),
            std::mem::take(&mut self.fresh),
        );
        for messages in [&mut again, &mut fresh] {
            messages.retain_mut(|message| match seen.next() {
                Some(Seen::All) | None => true,
                Some(Seen::Link) => {
                    self.bytes = self.bytes.saturating_sub(message.size());
                    message.lose_target();
                    self.bytes += message.size();
                    true
                }
                Some(Seen::Nothing) => {
                    self.settle(message);
                    false
                }
            });
        }
        (self.again, self.fresh) = (again, fresh);
    }
}
