//! How a user refers to the reservation of the username.

use std::fmt;
use std::sync::Arc;

/// The name of a reservation: one per username (as [`Username::folded`](super::Username::folded) sees it), and no personal data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationName(Arc<str>);

impl ReservationName {
    /// Takes a name that was made from a username before.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name, as it is stored.
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

/// One claim to a username: the reservation, and the revision of the claim in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Which reservation.
    pub reservation: ReservationName,
    /// The revision of the claim in the reservation, from 0.
    pub revision: u64,
}
