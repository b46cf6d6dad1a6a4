//! What was read from the log and is not yet confirmed, in the log's order.
//!
//! Invariants: the mark never passes an event that the broker did not confirm and route; after a failure everything
//! unconfirmed is sent again in the log's order, when nothing is in flight any more.

use event_streams::Position;
use jittered_backoff::Backoff;
use messaging::{Confirm, Message, PublishError, Publisher, Unavailable};
use std::collections::VecDeque;
use tokio::time::{Instant, sleep_until};

/// Not more than the publisher's outbox takes, so that sending never waits.
const ROOM: usize = 256;

pub(super) struct Window {
    publisher: Publisher,
    entries: VecDeque<Entry>,
    mark: Option<Position>,
    backoff: Backoff,
    retry_at: Instant,
}

struct Entry {
    position: Position,
    state: Sending,
}

enum Sending {
    /// There was nothing to send, or it is done.
    Settled,
    Sent(Message, Confirm),
    Failed(Message),
}

impl Window {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            entries: VecDeque::new(),
            mark: None,
            backoff: Backoff::default(),
            retry_at: Instant::now(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.entries.len() < ROOM
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Everything up to here is confirmed and routed; none if nothing is yet.
    pub(super) fn mark(&self) -> Option<Position> {
        self.mark
    }

    /// Sends the message of the event at this position.
    pub(super) async fn push(
        &mut self,
        position: Position,
        message: Message,
    ) -> Result<(), Unavailable> {
        let confirm = self.publisher.send(message.clone()).await?;
        let state = Sending::Sent(message, confirm);
        self.entries.push_back(Entry { position, state });
        Ok(())
    }

    /// Notes a position where there is nothing to send.
    pub(super) fn pass(&mut self, position: Position) {
        match self.entries.back_mut() {
            None => self.mark = Some(position),
            Some(last) if matches!(last.state, Sending::Settled) => last.position = position,
            Some(_) => self.entries.push_back(Entry {
                position,
                state: Sending::Settled,
            }),
        }
    }

    /// Waits until the oldest entry is confirmed and moves the mark past it. May be cancelled at any time.
    ///
    /// # Errors
    /// When it was not confirmed. The next call sends it again, after a while.
    pub(super) async fn settle(&mut self) -> Result<(), PublishError> {
        match self.entries.front().map(|oldest| &oldest.state) {
            None => return std::future::pending().await,
            Some(Sending::Failed(_)) => self.send_again().await?,
            Some(Sending::Settled | Sending::Sent(..)) => {}
        }
        if let Some(oldest) = self.entries.front_mut() {
            if let Err(error) = oldest.settle().await {
                self.retry_at = Instant::now() + self.backoff.step();
                return Err(error);
            }
            self.mark = Some(oldest.position);
            self.entries.pop_front();
            self.backoff.reset();
        }
        Ok(())
    }

    async fn send_again(&mut self) -> Result<(), Unavailable> {
        for entry in &mut self.entries {
            // How it ended is kept in the entry.
            let _ = entry.settle().await;
        }
        sleep_until(self.retry_at).await;
        for entry in &mut self.entries {
            if let Sending::Failed(message) = &entry.state {
                let message = message.clone();
                let confirm = self.publisher.send(message.clone()).await?;
                entry.state = Sending::Sent(message, confirm);
            }
        }
        Ok(())
    }
}

impl Entry {
    async fn settle(&mut self) -> Result<(), PublishError> {
        let Sending::Sent(_, confirm) = &mut self.state else {
            return Ok(());
        };
        let outcome = confirm.await;
        let sent = std::mem::replace(&mut self.state, Sending::Settled);
        if let (Err(_), Sending::Sent(message, _)) = (&outcome, sent) {
            self.state = Sending::Failed(message);
        }
        outcome
    }
}
