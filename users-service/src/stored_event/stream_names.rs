//! The names of users' streams and of reservations.

use crate::domain::{ReservationName, UserId};
use crate::privacy::pseudonym::RESERVATION_PREFIX;

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

/// The reservation of this stream. `None` if it is not a reservation's stream.
#[must_use]
pub fn reservation_of_stream(stream: &str) -> Option<ReservationName> {
    let hash = stream.strip_prefix(RESERVATION_PREFIX)?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_hash = hash.len() == 64 && hash.bytes().all(is_digit);
    is_hash.then(|| ReservationName::new(stream))
}
