//! The name of a username's reservation: a keyed hash, so that no stream name contains personal data.

use super::cipher::{NotHexadecimal, from_hex};
use crate::domain::{Personal, ReservationName, Username};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt;
use std::str::FromStr;
use zeroize::ZeroizeOnDrop;

/// The prefix of every reservation's name.
pub const RESERVATION_PREFIX: &str = "username-";

/// The secret for the names of reservations, written as 64 hexadecimal digits. Without it nobody can find out the
/// reservation of a username.
#[derive(Clone, ZeroizeOnDrop)]
pub struct UsernameSecret([u8; 32]);

impl UsernameSecret {
    /// The reservation that all spellings of the username share: `username-`, followed by an HMAC-SHA256 in 64 hexadecimal
    /// digits.
    #[must_use]
    pub fn reservation(&self, username: &Username) -> ReservationName {
        self.of_folded(&username.folded())
    }

    /// The reservation that this spelling had before Unicode 17, if it was different.
    #[must_use]
    pub fn former_reservation(&self, username: &Username) -> Option<ReservationName> {
        let folded = username.folded_formerly()?;
        Some(self.of_folded(&folded))
    }

    /// Other reservations that may hold the username since before Unicode 17: see [`Username::former_foldings`].
    #[must_use]
    pub fn former_reservations(&self, username: &Username) -> Vec<ReservationName> {
        let folded = username.former_foldings();
        folded.iter().map(|folded| self.of_folded(folded)).collect()
    }

    fn of_folded(&self, folded: &Personal<String>) -> ReservationName {
        let mac = self.mac(folded.reveal());
        ReservationName::new(&format!("{RESERVATION_PREFIX}{}", hex::encode(mac)))
    }

    fn mac(&self, text: &str) -> [u8; 32] {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        let mac = mac.expect("HMAC accepts keys of any length");
        mac.chain_update(text.as_bytes())
            .finalize()
            .into_bytes()
            .into()
    }
}

impl FromStr for UsernameSecret {
    type Err = NotHexadecimal;

    fn from_str(text: &str) -> Result<Self, NotHexadecimal> {
        from_hex(text).map(Self)
    }
}

impl fmt::Debug for UsernameSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UsernameSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::UsernameSecret;
    use crate::domain::Username;

    fn reservation(secret: &str, username: &str) -> String {
        let secret: UsernameSecret = secret.repeat(32).parse().unwrap();
        let name = secret.reservation(&Username::parse(username).unwrap());
        name.to_string()
    }

    #[test]
    fn spellings_of_one_username_share_a_reservation() {
        assert_eq!(reservation("01", "Ada"), reservation("01", "ADA"));
        assert_ne!(reservation("01", "ada"), reservation("01", "eda"));
    }

    #[test]
    fn another_secret_gives_other_reservations() {
        assert_ne!(reservation("01", "ada"), reservation("02", "ada"));
    }

    #[test]
    fn the_name_of_a_reservation_never_changes() {
        // printf ada | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101…01
        assert_eq!(
            reservation("01", "ada"),
            include_str!("../../tests/fixtures/reservation-of-ada").trim()
        );
    }
}
