//! A user's reference to the reservation of the username.

use std::fmt;
use std::sync::Arc;

/// The name of a reservation. It contains no personal data. All usernames with the same
/// [folding](super::Username::folded) share one reservation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationName(Arc<str>);

impl ReservationName {
    /// Wraps a name that was derived from a username earlier.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReservationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One claim to a username: the reservation, and the revision of the claim in its stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The claimed reservation.
    pub reservation: ReservationName,
    /// The revision of the claim in the reservation's stream, counted from 0.
    pub revision: u64,
}

#[cfg(test)]
impl Claim {
    /// The claim of the reservation with this name.
    pub(crate) fn of(reservation: &str, revision: u64) -> Self {
        Self {
            reservation: ReservationName::new(reservation),
            revision,
        }
    }
}
