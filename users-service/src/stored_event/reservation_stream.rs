//! The events of a username's reservation. Nothing is sealed, because nothing is personal: the stream is named by a keyed
//! hash, and the events contain only ids.

use super::{Undecodable, json};
use crate::domain::{ReservationName, UserId};
use bytes::Bytes;
use event_streams::{NewEvent, RecordedEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Stored name of [`ReservationEvent::Claimed`].
pub const USERNAME_CLAIMED: &str = "UsernameClaimed.v1";
/// Stored name of [`ReservationEvent::Released`].
pub const USERNAME_RELEASED: &str = "UsernameReleased.v1";

/// An event of a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReservationEvent {
    /// This user has the username, or is about to get it.
    Claimed {
        /// The user.
        user: UserId,
        /// The reservation that the user held at that time, if this is the claim of a rename. Claims of earlier versions do not
        /// name it.
        leaves: Option<ReservationName>,
    },
    /// Nobody has the username.
    Released,
}

#[derive(Serialize, Deserialize)]
struct Claimed {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaves: Option<String>,
}

impl ReservationEvent {
    /// The claim of a user who has no other username.
    #[must_use]
    pub fn claimed(user: UserId) -> Self {
        Self::Claimed { user, leaves: None }
    }

    /// Decodes an event of a reservation. Every stored version is accepted.
    ///
    /// # Errors
    /// If its type is unknown or its content is malformed.
    pub fn decode(event: &RecordedEvent) -> Result<Self, Undecodable> {
        match event.event_type.as_str() {
            USERNAME_CLAIMED => {
                let malformed = || Undecodable::Malformed(USERNAME_CLAIMED.to_owned());
                let claimed: Claimed =
                    serde_json::from_slice(&event.data).map_err(|_| malformed())?;
                Ok(Self::Claimed {
                    user: claimed.user_id.parse().map_err(|_| malformed())?,
                    leaves: claimed.leaves.as_deref().map(ReservationName::new),
                })
            }
            USERNAME_RELEASED => Ok(Self::Released),
            unknown => Err(Undecodable::UnknownType(unknown.to_owned())),
        }
    }

    /// Encodes the event for the reservation's stream.
    #[must_use]
    pub fn encode(&self, id: Uuid) -> NewEvent {
        let (event_type, data) = match self {
            Self::Claimed { user, leaves } => {
                let claimed = Claimed {
                    user_id: user.to_string(),
                    leaves: leaves.as_ref().map(ToString::to_string),
                };
                (USERNAME_CLAIMED, json(&claimed))
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
