//! The secret of search terms: keyed hashes by which a read model finds users without holding their names.

use super::cipher::{MasterKey, hmac};
use crate::domain::Personal;
use hmac::Mac as _;
use std::fmt;
use zeroize::ZeroizeOnDrop;

/// The purpose for which the secret is derived from the master key.
const PURPOSE: &str = "search terms";

/// The secret. Whoever has it and a read model can test a guess of a name.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SearchSecret([u8; 32]);

impl SearchSecret {
    /// The secret of the service with this master key.
    #[must_use]
    pub fn of(master: &MasterKey) -> Self {
        Self(*master.secret(PURPOSE))
    }

    /// The term for this kind of text: the first 64 bits of an HMAC-SHA256. Two texts may have the same term.
    #[must_use]
    pub fn term(&self, kind: &str, text: &Personal<String>) -> i64 {
        let mac = hmac(&self.0).chain_update(kind).chain_update([0]);
        let hash = mac.chain_update(text.reveal()).finalize().into_bytes();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        i64::from_be_bytes(first)
    }
}

impl fmt::Debug for SearchSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SearchSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_depends_on_secret_kind_and_text() {
        let secret = |digits: &str| SearchSecret::of(&digits.repeat(32).parse().unwrap());
        let text = |text: &str| Personal::new(text.to_owned());
        let terms = [
            secret("0a").term("prefix", &text("ada")),
            secret("0b").term("prefix", &text("ada")),
            secret("0a").term("username", &text("ada")),
            secret("0a").term("prefix", &text("adam")),
        ];
        for (index, term) in terms.iter().enumerate() {
            assert!(!terms[index + 1..].contains(term), "{index}");
        }
        assert_eq!(terms[0], secret("0a").term("prefix", &text("ada")));
        assert_eq!(format!("{:?}", secret("0a")), "SearchSecret(…)");
    }
}
