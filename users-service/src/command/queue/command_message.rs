//! From a message to a command.
//!
//! Invariant: no error repeats a text of the message, because errors go to logs, headers and other queues.

use super::command_text::CommandText;
use super::not_a_command::{NotACommand, Unacceptable};
use super::sealed_command::{SEALED, SEALED_LIMIT, open};
use crate::clock::Clock;
use crate::command::envelope::Envelope;
use crate::domain::UserId;
use crate::privacy::cipher::MessageKey;
use crate::stored_event::Caller;
use crate::trace_parent::{TRACE_PARENT, trace_id};
use messaging::Delivery;
use std::time::Duration;
use uuid::Uuid;
use web::BODY_LIMIT;

/// Turns messages into commands.
#[derive(Debug, Clone)]
pub struct Intake {
    key: MessageKey,
    clock: Clock,
    /// How long commands are remembered.
    kept_for: Duration,
    accepts_plain: bool,
}

/// A message, and what it asks for.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) delivery: Delivery,
    pub(super) request: Result<Envelope, Unacceptable>,
}

impl Received {
    /// The user that the command names.
    pub(super) fn user(&self) -> Option<UserId> {
        self.request.as_ref().ok()?.user()
    }
}

impl Intake {
    /// Uses this key for sealed messages, which are accepted for `kept_for`.
    #[must_use]
    pub fn new(key: MessageKey, kept_for: Duration) -> Self {
        Self {
            key,
            clock: Clock::of_machine(),
            kept_for,
            accepts_plain: true,
        }
    }

    /// Sets whether plain messages are accepted. The default is that they are.
    #[must_use]
    pub fn accepting_plain(self, accepts_plain: bool) -> Self {
        Self {
            accepts_plain,
            ..self
        }
    }

    /// Reads the time from this clock. The default is the machine's.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    pub(super) fn receive(&self, delivery: Delivery) -> Received {
        let request = self.read(&delivery);
        Received { delivery, request }
    }

    fn read(&self, delivery: &Delivery) -> Result<Envelope, Unacceptable> {
        if delivery.content_type() == Some(SEALED) {
            within(SEALED_LIMIT, &delivery.body)?;
            let id = delivery.id().unwrap_or_default();
            let means = (&self.key, self.clock.now(), self.kept_for);
            return open(&delivery.body, id, means);
        }
        if !self.accepts_plain {
            return Err(NotACommand::Plain.into());
        }
        within(BODY_LIMIT, &delivery.body)?;
        let key = delivery.id().map(str::parse).transpose();
        let key = key.map_err(NotACommand::MessageId)?;
        let (command, chosen_id) = CommandText::parse(&delivery.body)?.command()?;
        Ok(Envelope::new(command)
            .of_caller(Caller::QUEUE)
            .in_conversation(conversation(delivery).unwrap_or_else(Uuid::new_v4))
            .caused_by(delivery.id().and_then(uuid))
            .under_key(key)
            .under_id(chosen_id))
    }
}

fn within(limit: usize, body: &[u8]) -> Result<(), NotACommand> {
    let is_larger = body.len() > limit;
    (!is_larger)
        .then_some(())
        .ok_or(NotACommand::TooLarge(limit))
}

/// The conversation that the message belongs to: the trace id of its header `traceparent`, or its correlation id if that is a
/// UUID. Another correlation id is a text of the sender, which could hold personal data and would be stored.
fn conversation(delivery: &Delivery) -> Option<Uuid> {
    let trace = delivery.header(TRACE_PARENT).and_then(trace_id);
    trace.or_else(|| delivery.correlation_id().and_then(uuid))
}

fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|uuid| !uuid.is_nil())
}
