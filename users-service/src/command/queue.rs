//! Commands over RabbitMQ. The queue `users` takes the messages of other programs, as the service that this one replaces did,
//! and sealed messages of our own, which HTTP requests become if their clients prefer not to wait.
//!
//! Invariants:
//! - A message is acknowledged only when its command has an outcome that is durable, or the message is in the dead-letter
//!   queue. A command is retried in process, and never requeued.
//! - No reply and no reason for a dead letter has personal data, and no reply goes to a queue of ours.
//! - In one process, commands that name the same user are executed in the order of the queue.

mod attempting;
mod attempts;
mod command_consumer;
mod command_end;
mod command_message;
mod command_schemas;
mod command_sender;
mod command_text;
mod lanes;
mod not_a_command;
mod queue_health;
mod reply_address;
mod sealed_command;
mod unreadable_users;

pub use attempts::Attempts;
pub use command_consumer::CommandConsumer;
pub use command_message::Intake;
pub use command_schemas::{command_schemas, reply_schema};
pub use command_sender::CommandSender;
pub use sealed_command::SEALED_COMMANDS;

use crate::integration::consumer::dead_letter_queue;
use messaging::{Queue, QueueKind, Topology};
use std::time::Duration;

/// The queue of commands.
pub const COMMANDS: &str = "users";
/// How long a message stays in the dead-letter queue. A plain message may hold personal data.
const DEAD_FOR: Duration = Duration::from_hours(7 * 24);

/// The queue of commands, of this kind, and its dead-letter queue.
#[must_use]
pub fn topology(kind: QueueKind) -> Topology {
    let dead = Queue {
        name: dead_letter_queue(COMMANDS),
        kind: QueueKind::ExpiringLog(DEAD_FOR),
    };
    let commands = Queue {
        name: COMMANDS.to_owned(),
        kind,
    };
    Topology {
        queues: vec![dead, commands],
        ..Topology::default()
    }
}
