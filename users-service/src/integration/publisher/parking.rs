//! Parked streams: an event of the stream cannot be mapped, or no queue takes it. The low-water mark passes them.
//!
//! Invariants: the list is bounded. From the revision in the list on, no event of a parked stream has been sent. A retry reads
//! these events from the stream.

use super::window::Stuck;
use crate::integration::mapping;
use crate::privacy::subject_keys::SubjectKeys;
use crate::stored_event::is_known_user_event;
use event_streams::{Direction, EventStreams, ReadError, RecordedEvent};
use messaging::{PublishError, Publisher};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The most streams that may be parked.
const MOST: usize = 1_000;
/// The most bytes that their names may have together, because they must fit into one checkpoint.
const MOST_BYTES: usize = 256 * 1_024;
/// How many of them readiness names.
const NAMED: usize = 3;
/// How many characters of an event type are shown, because anybody can have written it.
const SHOWN: usize = 100;
/// How many events of a parked stream are read at once.
const PAGE: usize = 100;

/// A parked stream, as a checkpoint has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedStream {
    /// Its name.
    pub stream: String,
    /// The first event that was not sent.
    pub revision: u64,
    /// The type of that event, if the publisher did not know it. A newer publisher may know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl ParkedStream {
    /// Whether the stream waits for a publisher that knows an event type which this process knows.
    #[must_use]
    pub fn waits_for_this_process(&self) -> bool {
        let unknown = self.unknown.as_deref();
        unknown.is_some_and(is_known_user_event)
    }
}

/// The parked streams.
#[derive(Default)]
pub(super) struct Parking {
    streams: BTreeMap<String, Parked>,
    attempts: u64,
}

struct Parked {
    revision: u64,
    why: String,
    unknown: Option<String>,
    /// The type of the first unsent event, if the broker did not take its message. It takes all of this type as soon as a queue
    /// is bound for them.
    refused: Option<String>,
    /// The last event that the subscription has delivered. It is left to the next attempt.
    seen: Option<u64>,
    attempt: Option<Attempt>,
}

struct Attempt {
    number: u64,
    /// The last event that had been seen when the attempt began. The attempt reads at least up to it.
    seen: Option<u64>,
}

/// The events that an attempt has to send.
pub(super) struct Rest {
    stream: String,
    from: u64,
    attempt: u64,
}

/// How an attempt ended.
pub(super) struct Attempted {
    rest: Rest,
    /// All events before this revision are sent.
    next: u64,
    end: End,
}

enum End {
    /// Every event of the stream is sent.
    Reached,
    /// This event cannot be sent.
    Stuck(Stuck),
    /// The store, the key store or the broker is unavailable.
    Unknown,
}

impl Parking {
    pub(super) fn of(streams: Vec<ParkedStream>) -> Self {
        let parked = |one: ParkedStream| {
            let why = "not tried yet".to_owned();
            let parked = Parked::new(one.revision, why, None);
            let unknown = one.unknown;
            (one.stream, Parked { unknown, ..parked })
        };
        Self {
            streams: streams.into_iter().map(parked).collect(),
            attempts: 0,
        }
    }

    pub(super) fn list(&self) -> Vec<ParkedStream> {
        let parked = |(stream, parked): (&String, &Parked)| ParkedStream {
            stream: stream.clone(),
            revision: parked.revision,
            unknown: parked.unknown.clone(),
        };
        self.streams.iter().map(parked).collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.streams.keys().cloned().collect()
    }

    /// One stream for each type of event that the broker does not take. If an event of such a stream is sent, the others of its
    /// type can be sent too.
    pub(super) fn scouts(&self) -> Vec<String> {
        let mut types = BTreeSet::new();
        let refused = self.streams.iter().filter(|(_, parked)| {
            let refused = parked.refused.as_ref();
            refused.is_some_and(|event_type| types.insert(event_type))
        });
        refused.map(|(stream, _)| stream.clone()).collect()
    }

    /// Whether the attempt sent an event of a type that the broker did not take before.
    pub(super) fn shows_a_way(&self, attempted: &Attempted) -> bool {
        let parked = self.streams.get(&attempted.rest.stream);
        attempted.next > attempted.rest.from && parked.is_some_and(|one| one.refused.is_some())
    }

    /// The first unsent event of the stream, if the stream is parked.
    pub(super) fn revision(&self, stream: &str) -> Option<u64> {
        self.streams.get(stream).map(|parked| parked.revision)
    }

    /// Notes that the subscription has delivered an event of a parked stream.
    pub(super) fn see(&mut self, event: &RecordedEvent) {
        if let Some(parked) = self.streams.get_mut(&event.stream) {
            parked.seen = parked.seen.max(Some(event.revision));
        }
    }

    pub(super) fn has_room_for(&self, stream: &str) -> bool {
        let bytes: usize = self.streams.keys().map(String::len).sum();
        self.streams.contains_key(stream)
            || (self.streams.len() < MOST && bytes + stream.len() <= MOST_BYTES)
    }

    pub(super) fn is_full(&self) -> bool {
        !self.has_room_for("")
    }

    /// Parks a stream. The subscription has delivered its events up to `seen`.
    pub(super) fn park(&mut self, stuck: Stuck, seen: Option<u64>) {
        let why = reason(&stuck.event_type, &stuck.why);
        tracing::error!(
            stream = stuck.stream,
            revision = stuck.revision,
            why,
            "a stream is parked"
        );
        let parked = Parked {
            unknown: unknown_type(&stuck.event_type),
            refused: stuck.refused.then_some(stuck.event_type),
            ..Parked::new(stuck.revision, why, seen.max(Some(stuck.revision)))
        };
        let parked = match self.streams.remove(&stuck.stream) {
            Some(before) if before.revision < parked.revision => before,
            Some(before) => Parked {
                seen: before.seen.max(parked.seen),
                ..parked
            },
            None => parked,
        };
        self.streams.insert(stuck.stream, parked);
    }

    pub(super) fn end(&mut self, stream: &str) {
        if self.streams.remove(stream).is_some() {
            tracing::info!(stream, "a stream is no longer parked");
        }
    }

    /// Begins an attempt to send the stream's events.
    pub(super) fn begin(&mut self, stream: &str) -> Option<Rest> {
        let parked = self.streams.get_mut(stream)?;
        self.attempts += 1;
        parked.attempt = Some(Attempt {
            number: self.attempts,
            seen: parked.seen,
        });
        Some(Rest {
            stream: stream.to_owned(),
            from: parked.revision,
            attempt: self.attempts,
        })
    }

    /// Notes how an attempt ended. Returns whether to try again at once, because the subscription has delivered more in the
    /// meantime. An attempt that began before the stream was parked again changes nothing.
    pub(super) fn finish(&mut self, attempted: Attempted) -> bool {
        let stream = attempted.rest.stream;
        let Some(parked) = self.streams.get_mut(&stream) else {
            return false;
        };
        let number = attempted.rest.attempt;
        let Some(attempt) = parked.attempt.take_if(|one| one.number == number) else {
            return false;
        };
        parked.revision = attempted.next;
        match attempted.end {
            End::Stuck(stuck) => {
                parked.why = reason(&stuck.event_type, &stuck.why);
                parked.unknown = unknown_type(&stuck.event_type);
                parked.refused = stuck.refused.then_some(stuck.event_type);
            }
            End::Unknown => {}
            End::Reached if parked.seen > attempt.seen && parked.seen >= Some(attempted.next) => {
                return true;
            }
            End::Reached => self.end(&stream),
        }
        false
    }

    /// The parked streams as readiness names them, if there are any.
    pub(super) fn problem(&self) -> Option<String> {
        let count = self.streams.len();
        let named = self.streams.iter().take(NAMED).map(|(stream, parked)| {
            let Parked { revision, why, .. } = parked;
            format!("{stream} at revision {revision} {why}")
        });
        let named = named.collect::<Vec<_>>().join("; ");
        let more = count.saturating_sub(NAMED);
        match (count, more) {
            (0, _) => None,
            (_, 0) => Some(format!("parked: {named}")),
            _ => Some(format!("parked: {named}; and {more} more")),
        }
    }
}

impl Parked {
    fn new(revision: u64, why: String, seen: Option<u64>) -> Self {
        Self {
            revision,
            why,
            unknown: None,
            refused: None,
            seen,
            attempt: None,
        }
    }
}

impl Attempted {
    pub(super) fn stream(&self) -> &str {
        &self.rest.stream
    }
}

impl Rest {
    /// Reads the stream and sends its events, each after the one before is confirmed. Stops at the first event that cannot be
    /// sent.
    pub(super) async fn send(
        self,
        store: EventStreams,
        keys: SubjectKeys,
        publisher: Publisher,
    ) -> Attempted {
        let mut next = self.from;
        let end = loop {
            let page = store.read(&self.stream, Direction::ForwardFrom(next), PAGE);
            let page = match page.await {
                Ok(page) => page,
                Err(ReadError::StreamDeleted) => break End::Reached,
                Err(ReadError::Unavailable(_)) => break End::Unknown,
            };
            let sent = self.send_all(&page, &mut next, &keys, &publisher).await;
            match sent {
                Err(end) => break end,
                Ok(()) if page.len() < PAGE => break End::Reached,
                Ok(()) => {}
            }
        };
        Attempted {
            rest: self,
            next,
            end,
        }
    }

    async fn send_all(
        &self,
        page: &[RecordedEvent],
        next: &mut u64,
        keys: &SubjectKeys,
        publisher: &Publisher,
    ) -> Result<(), End> {
        let events: Vec<_> = page.iter().collect();
        let mapped = mapping::to_messages(&events, keys).await;
        let mapped = mapped.map_err(|_| End::Unknown)?;
        for (event, message) in page.iter().zip(mapped) {
            // The events before this one are truncated away.
            *next = event.revision;
            let stuck = |why: &dyn ToString, refused| {
                End::Stuck(Stuck {
                    stream: self.stream.clone(),
                    revision: event.revision,
                    event_type: event.event_type.clone(),
                    why: why.to_string(),
                    refused,
                })
            };
            let message = message.map_err(|error| stuck(&error, false))?.encode();
            match publisher.publish(message).await {
                Ok(()) => *next = event.revision + 1,
                Err(PublishError::Unavailable(_)) => return Err(End::Unknown),
                Err(error) => return Err(stuck(&error, true)),
            }
        }
        Ok(())
    }
}

fn reason(event_type: &str, why: &str) -> String {
    let shown = |text: &str| text.chars().take(SHOWN).collect::<String>();
    format!("({}): {}", shown(event_type), shown(why))
}

/// The type, if this process does not know it. A type that is too long for a checkpoint is nobody's.
fn unknown_type(event_type: &str) -> Option<String> {
    let unknown = event_type.len() <= SHOWN && !is_known_user_event(event_type);
    unknown.then(|| event_type.to_owned())
}

#[cfg(test)]
mod tests;
