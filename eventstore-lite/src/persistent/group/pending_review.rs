//! Decides which waiting events must be reviewed before they are sent: they may have been deleted since they were
//! read, and their client may have joined after that.

use super::Group;
use super::message::{Message, Origin};
use crate::storage::{ReadFrom, ReviewItem, Visibility};

/// The changes since the last review.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PendingReview {
    joined: bool,
    requeued: bool,
}

impl PendingReview {
    /// A client joined.
    pub(super) fn client_joined(&mut self) {
        self.joined = true;
    }

    /// Events were queued for a retry, perhaps by another client.
    pub(super) fn requeued(&mut self) {
        self.requeued = true;
    }
}

impl Group {
    /// The events to review. The owner passes the result to [`Group::reviewed`].
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

    /// Applies the result for the events of [`Group::to_review`], in their order. Events that are no longer visible
    /// are skipped.
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
