//! The names of the streams of users.

use crate::domain::UserId;

/// The stream that outlives users: ids of those who were deleted, and nothing else.
pub const TOMBSTONES: &str = "users";
/// What the name of every user's stream begins with.
pub const USER_STREAM_PREFIX: &str = "users-";

/// The stream with all that happened to the user: `users-<id>`.
#[must_use]
pub fn user_stream(id: UserId) -> String {
    format!("{USER_STREAM_PREFIX}{id}")
}

/// Whose stream it is; none if it is no user's.
#[must_use]
pub fn user_of_stream(stream: &str) -> Option<UserId> {
    stream.strip_prefix(USER_STREAM_PREFIX)?.parse().ok()
}
