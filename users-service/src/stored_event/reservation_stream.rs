//! The events of a username's reservation. Nothing is sealed, because nothing is personal: the stream is named by a keyed
//! hash, and the events contain only ids.

use super::{Undecodable, json};
use crate::domain::UserId;
use bytes::Bytes;
use event_streams::{NewEvent, RecordedEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Stored name of [`ReservationEvent::Claimed`].
pub const USERNAME_CLAIMED: &str = "UsernameClaimed.v1";
/// Stored name of [`ReservationEvent::Released`].
pub const USERNAME_RELEASED: &str = "UsernameReleased.v1";

/// An event of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReservationEvent {
    /// This user has the username, or is about to get it.
    Claimed(UserId),
    /// Nobody has the username.
    Released,
}

#[derive(Serialize, Deserialize)]
struct Claimed {
    user_id: String,
}

impl ReservationEvent {
    /// Decodes an event of a reservation. Every stored version is accepted.
    ///
    /// # Errors
    /// If its type is unknown or its content is malformed.
    pub fn decode(event: &RecordedEvent) -> Result<Self, Undecodable> {
        match event.event_type.as_str() {
            USERNAME_CLAIMED => {
                let claimed = serde_json::from_slice::<Claimed>(&event.data).ok();
                let user = claimed.and_then(|claimed| claimed.user_id.parse().ok());
                let malformed = || Undecodable::Malformed(USERNAME_CLAIMED.to_owned());
                user.map(Self::Claimed).ok_or_else(malformed)
            }
            USERNAME_RELEASED => Ok(Self::Released),
            unknown => Err(Undecodable::UnknownType(unknown.to_owned())),
        }
    }

    /// Encodes the event for the reservation's stream.
    #[must_use]
    pub fn encode(self, id: Uuid) -> NewEvent {
        let (event_type, data) = match self {
            Self::Claimed(user) => {
                let user_id = user.to_string();
                (USERNAME_CLAIMED, json(&Claimed { user_id }))
            }
            Self::Released => (USERNAME_RELEASED, Bytes::from_static(b"{}")),
        };
        NewEvent {
            id,
            event_type: event_type.into(),
            data,
            metadata: Bytes::new(),
        }
    }
}
