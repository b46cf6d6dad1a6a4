//! Hands commands over to the queue.

use super::sealed_command::{SEALED, seal};
use super::{COMMANDS, topology};
use crate::clock::Clock;
use crate::command::envelope::Envelope;
use crate::command::status_link::StatusLink;
use crate::privacy::cipher::MessageKey;
use messaging::{Broker, Message, PublishError, Publisher, QueueKind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a client waits for the broker's confirm.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long nothing is handed over after the broker did not confirm a message, so that other clients need not wait too.
const PAUSE: Duration = Duration::from_secs(5);

/// Hands commands over to the queue.
#[derive(Debug)]
pub struct CommandSender {
    publisher: Publisher,
    key: MessageKey,
    clock: Clock,
    /// Nothing is handed over before this time.
    closed_until: Mutex<Option<Instant>>,
}

impl CommandSender {
    /// Sends to the queue of this kind. Commands are sealed under the key. Needs a tokio runtime.
    #[must_use]
    pub fn new(broker: Broker, kind: QueueKind, key: MessageKey) -> Self {
        Self {
            publisher: Publisher::new(broker, topology(kind)),
            key,
            clock: Clock::of_machine(),
            closed_until: Mutex::default(),
        }
    }

    /// Reads the time from this clock. The default is the machine's.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Hands over a command that has a key. Returns whether it is in the queue. If not, it may come there all the same, and the
    /// caller must execute it under the same key.
    pub(in crate::command) async fn send(&self, envelope: &Envelope, link: &StatusLink) -> bool {
        if self.closed_until().is_some_and(|end| Instant::now() < end) {
            return false;
        }
        // The idempotency key may be personal, so the message has the keyed hash of it as its id.
        let id = hex::encode(link.command);
        let Some(body) = seal(envelope, &id, (&self.key, self.clock.now())) else {
            return false;
        };
        let message = Message {
            exchange: String::new(),
            routing_key: COMMANDS.to_owned(),
            id,
            content_type: SEALED.into(),
            headers: Vec::new(),
            body,
        };
        match tokio::time::timeout(PATIENCE, self.publisher.publish(message)).await {
            Ok(Ok(())) => true,
            Ok(Err(PublishError::Unroutable | PublishError::Refused)) => false,
            Ok(Err(PublishError::Unavailable(error))) => self.close(&error.to_string()),
            Err(_) => self.close("no confirm in time"),
        }
    }

    /// Hands nothing over for a while.
    fn close(&self, reason: &str) -> bool {
        *self.closed_until() = Some(Instant::now() + PAUSE);
        tracing::warn!(
            reason,
            "the broker took no command; commands are executed at once"
        );
        false
    }

    fn closed_until(&self) -> MutexGuard<'_, Option<Instant>> {
        let closed = self.closed_until.lock();
        closed.unwrap_or_else(PoisonError::into_inner)
    }
}
