//! Which of the events that wait are to be looked at again before they are sent: they may have been deleted since they
//! were read, and the client that gets them may have come after that.

use super::Group;
use super::message::{Message, Origin};
use crate::storage::{ReadFrom, ReviewItem, Visibility};

/// What changed since the last review.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PendingReview {
    joined: bool,
    requeued: bool,
}

impl PendingReview {
    /// Somebody joined.
    pub(super) fn client_joined(&mut self) {
        self.joined = true;
    }

    /// Events are to come again, perhaps to somebody else.
    pub(super) fn requeued(&mut self) {
        self.requeued = true;
    }
}

impl Group {
    /// The events to look at; when that is done, [`Group::reviewed`] is to be told.
    pub(crate) fn to_review(&self, from: ReadFrom) -> Vec<ReviewItem> {
        let PendingReview { joined, requeued } = self.review;
        let retries = self.retries.iter().filter(|_| joined || requeued);
        let fresh = self.fresh.iter().filter(|_| joined);
        let look = |message: &Message| ReviewItem {
            event: message.event.clone(),
            from: match message.origin {
                Origin::Read(_) => from,
                Origin::Parked(_) => ReadFrom::Truncated,
            },
        };
        retries.chain(fresh).map(look).collect()
    }

    /// What can still be seen of the events of [`Group::to_review`], in their order; the others are skipped.
    pub(crate) fn reviewed(&mut self, seen: Vec<Visibility>) {
        self.review = PendingReview::default();
        let mut seen = seen.into_iter();
        let (mut retries, mut fresh) = (
            std::mem::take(&mut self.retries),
            std::mem::take(&mut self.fresh),
        );
        for messages in [&mut retries, &mut fresh] {
            messages.retain_mut(|message| match seen.next() {
                Some(Visibility::All) | None => true,
                Some(Visibility::Link) => {
                    self.bytes = self.bytes.saturating_sub(message.size());
                    message.lose_target();
                    self.bytes += message.size();
                    true
                }
                Some(Visibility::Nothing) => {
                    self.settle(message);
                    false
                }
            });
        }
        (self.retries, self.fresh) = (retries, fresh);
    }
}
