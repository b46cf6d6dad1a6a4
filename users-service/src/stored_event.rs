//! The conversion between events and bytes: stored names and versions, sealing, upcasting.
//!
//! Invariants:
//! - Stored names are constants. They are never derived from an identifier.
//! - Every name and version has a frozen example under `tests/fixtures/events`.
//! - Only this module seals personal values for the log.
//! - The clear part of the events (ids, key id, claim) is enough to know a user's status without any key.
//!
//! Upcasting: a new version of an event is a new constant. `decode` accepts every version ever stored and returns today's
//! form, so no other code knows the earlier versions.

mod command_stream;
mod name_versions;
mod origin;
mod reservation_stream;
mod sealed_names;
mod snapshot;
mod stream_names;
#[cfg(test)]
mod tests;
mod user_count;
mod user_stream;

pub use command_stream::{
    AcceptedCommand, COMMAND_ACCEPTED, COMMAND_DONE, COMMAND_RESUMED, CommandEvent, NoEvent,
};
pub use name_versions::{
    NameSource, NamesMeaning, NamesVersion, USER_CREATED, USER_PATCHED, USER_SNAPSHOT,
    read_more_versions,
};
pub use origin::{Caller, Origin};
pub use reservation_stream::{ReservationEvent, USERNAME_CLAIMED, USERNAME_RELEASED};
pub use sealed_names::{CurrentNames, SealedNames, Unopened};
pub use snapshot::{UserSnapshot, snapshot_stream, snapshot_streams};
pub use stream_names::{
    TOMBSTONES, USER_STREAM_PREFIX, reservation_of_stream, user_of_stream, user_stream,
};
pub use user_count::{USER_COUNTED, UserCount};
pub use user_stream::{
    Fence, REGISTRATION_ABANDONED, RENAME_FENCED, StoredEvent, USER_DELETED, is_known_user_event,
    tombstone, tombstoned_user,
};

use bytes::Bytes;
use serde::Serialize;

/// The epoch of the store. A store that is restored from a backup will get another one, because its revisions come again.
/// Whatever refers to a revision and may outlive a restore names the epoch.
pub const EPOCH: u64 = 0;

/// How the text of [`Undecodable::UnknownType`] begins.
pub const UNKNOWN_TYPE: &str = "unknown event type";

/// A stored event that cannot be decoded. The error does not repeat its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// This program does not know the name or version. A newer program may have written it.
    #[error("{UNKNOWN_TYPE} {0}")]
    UnknownType(String),
    /// The name is known, but the content is malformed.
    #[error("malformed {0}")]
    Malformed(String),
}

fn json(value: &impl Serialize) -> Bytes {
    let bytes = serde_json::to_vec(value);
    bytes
        .expect("a map with text keys and text or number values always serializes")
        .into()
}
