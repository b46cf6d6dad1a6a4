//! The border between events and bytes: stored names and versions, sealing, upcasting.
//!
//! Invariants: stored names are constants, never derived from an identifier; every name and version has a frozen example
//! under `tests/fixtures/events`; personal values are sealed here, and only here, on their way to the log; what is in
//! clear (ids, key id, claim) is enough to follow a user's life without any key.
//!
//! Upcasting: a new version of an event is a new constant; `decode` matches every version ever stored and answers in
//! today's terms, so nobody else knows that there were others.

mod reservation_stream;
mod sealed_names;
mod stream_names;
#[cfg(test)]
mod tests;
mod user_stream;

pub use reservation_stream::{ReservationEvent, USERNAME_CLAIMED, USERNAME_RELEASED};
pub use sealed_names::{SealedNames, Unopened};
pub use stream_names::{TOMBSTONES, USER_STREAM_PREFIX, user_of_stream, user_stream};
pub use user_stream::{
    Fence, REGISTRATION_ABANDONED, RENAME_FENCED, StoredEvent, USER_CREATED, USER_DELETED,
    USER_PATCHED, tombstone,
};

use bytes::Bytes;
use serde::Serialize;

/// A stored event that cannot be understood. Does not repeat its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// A name or version that this program does not know: perhaps a newer one wrote it.
    #[error("unknown event type {0}")]
    UnknownType(String),
    /// The name is known, but the content is not what it should be.
    #[error("malformed {0}")]
    Malformed(String),
}

fn json(value: &impl Serialize) -> Bytes {
    let bytes = serde_json::to_vec(value);
    bytes
        .expect("maps with text keys and text or number values can be written")
        .into()
}
