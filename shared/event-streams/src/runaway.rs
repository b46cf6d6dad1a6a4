//! Ends a subscription of the vendor's client that spins.
//!
//! When a server ends a subscription with status OK, the client asks the finished stream for its next message for ever,
//! without once yielding: its task can then neither be aborted nor timed out, and holds its thread at full speed. All
//! that one sees from outside is a warning per turn. So the task runs with a subscriber for tracing of its own that
//! counts these warnings, and unwinds the task when there are many without a message between them. (The warning is also
//! given for messages that the client does not know, hence a number of them is let pass.)

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const WARNINGS_IN_A_ROW: u32 = 100;

/// Counts the client's warnings since the last message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<AtomicU32>);

impl Turns {
    /// A message came: the subscription makes progress.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Subscriber for Turns {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target() == "eventstore::commands"
    }

    fn event(&self, _: &Event<'_>) {
        if self.0.fetch_add(1, Ordering::Relaxed) >= WARNINGS_IN_A_ROW {
            resume_unwind(Box::new("the event store ended the subscription"));
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
