//! The names of users' streams.

use crate::domain::UserId;

/// The stream of tombstones. It outlives the users, and contains only the ids of deleted users.
pub const TOMBSTONES: &str = "users";
/// The prefix of every user's stream.
pub const USER_STREAM_PREFIX: &str = "users-";

/// The stream with all events of the user: `users-<id>`.
#[must_use]
pub fn user_stream(id: UserId) -> String {
    format!("{USER_STREAM_PREFIX}{id}")
}

/// The user of this stream. `None` if it is not a user's stream.
#[must_use]
pub fn user_of_stream(stream: &str) -> Option<UserId> {
    stream.strip_prefix(USER_STREAM_PREFIX)?.parse().ok()
}
