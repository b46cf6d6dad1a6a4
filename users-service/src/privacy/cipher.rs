//! Sealing of personal values: AES-256-GCM under the subject's key, bound to the place of the sealed value.
//!
//! Invariants: a value that was sealed for one stream, event type and field opens nowhere else, so a copy for another place
//! is sealed again. Key material is wiped from memory when its last owner drops it.

use crate::domain::Personal;
use aes_gcm::aead::{Aead as _, Generate as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

const NONCE_LENGTH: usize = 12;
const SALT_LENGTH: usize = 16;

/// The key of one subject (user).
#[derive(Clone, ZeroizeOnDrop)]
pub struct SubjectKey([u8; 32]);

/// The id of a key: the first 16 bytes of its SHA-256, written as 32 hexadecimal digits. It is not secret.
///
/// A key cannot get another id, so refusing an id for ever also refuses its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 16]);

/// The key that wraps subject keys where they are stored.
#[derive(Clone, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

/// A key that seals whole messages between processes of this service. It is derived from the master key for one purpose, and
/// opens nothing else.
#[derive(Clone, ZeroizeOnDrop)]
pub struct MessageKey([u8; 32]);

/// The place of a sealed value. The value opens only there.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The stream or the exchange.
    pub container: &'a str,
    /// The name and version of the event as it is stored or sent.
    pub event_type: &'a str,
    /// The field of the event.
    pub field: &'a str,
}

/// A sealed value: base64 of nonce (12 bytes), ciphertext and tag (16 bytes).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

/// A fingerprint of personal values under a subject's key: an HMAC-SHA256 in 64 hexadecimal digits. Once the key is destroyed
/// nobody can test a guess.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

/// The value was sealed under another key or for another place, or it is damaged. The error does not repeat the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open with this key at this place")]
pub struct DoesNotOpen;

/// The text does not have the expected number of hexadecimal digits. The error does not repeat the text, because it may be
/// a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct NotHexadecimal {
    expected: usize,
}

impl SubjectKey {
    /// A new key from the operating system's random number generator.
    #[must_use]
    pub fn generate() -> Self {
        Self(<[u8; 32]>::generate())
    }

    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The id of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = Sha256::digest(self.0);
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        KeyId(id)
    }

    /// Seals a value for one place.
    #[must_use]
    pub fn seal(&self, place: Place<'_>, value: &Personal<String>) -> Sealed {
        let sealed = encrypt(&self.0, &place.under(self.id()), value.reveal().as_bytes());
        Sealed(STANDARD.encode(sealed))
    }

    /// Opens a value that was sealed for this place.
    ///
    /// # Errors
    /// If it was sealed under another key or for another place, or is damaged.
    pub fn open(&self, place: Place<'_>, sealed: &Sealed) -> Result<Personal<String>, DoesNotOpen> {
        let bytes = STANDARD.decode(&sealed.0).map_err(|_| DoesNotOpen)?;
        let plain = decrypt(&self.0, &place.under(self.id()), &bytes)?;
        let text = String::from_utf8(plain).map_err(|_| DoesNotOpen)?;
        Ok(Personal::new(text))
    }
}

impl SubjectKey {
    /// The fingerprint of these values, which may be absent. The same values have other fingerprints in other containers.
    #[must_use]
    pub fn fingerprint(
        &self,
        container: &str,
        values: &[Option<&Personal<String>>],
    ) -> Fingerprint {
        let mut mac = hmac(hmac_of(&self.0, b"fingerprints").as_slice());
        let parts = values
            .iter()
            .map(|value| value.map(|value| value.reveal().as_bytes()));
        for part in std::iter::once(Some(container.as_bytes())).chain(parts) {
            mac.update(&[u8::from(part.is_some())]);
            let part = part.unwrap_or_default();
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        Fingerprint(hex::encode(mac.finalize().into_bytes()))
    }
}

pub(super) fn hmac(key: &[u8]) -> Hmac<Sha256> {
    use hmac::KeyInit as _;
    Hmac::new_from_slice(key).expect("HMAC accepts keys of any length")
}

fn hmac_of(key: &[u8], text: &[u8]) -> Zeroizing<[u8; 32]> {
    let mac = hmac(key).chain_update(text);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubjectKey({})", self.id())
    }
}

impl KeyId {
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) fn first_byte(self) -> u8 {
        self.0[0]
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for KeyId {
    type Err = NotHexadecimal;

    fn from_str(text: &str) -> Result<Self, NotHexadecimal> {
        from_hex(text).map(Self)
    }
}

impl MasterKey {
    /// The key for messages of one purpose.
    #[must_use]
    pub fn message_key(&self, purpose: &str) -> MessageKey {
        MessageKey(*self.secret(purpose))
    }

    /// The secret for one purpose.
    pub(super) fn secret(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        hmac_of(&self.0, purpose.as_bytes())
    }

    pub(super) fn wrap(&self, key: &SubjectKey) -> Vec<u8> {
        encrypt(&self.0, &wrapping(key.id()), &key.0)
    }

    pub(super) fn unwrap(&self, id: KeyId, wrapped: &[u8]) -> Result<SubjectKey, DoesNotOpen> {
        let plain = Zeroizing::new(decrypt(&self.0, &wrapping(id), wrapped)?);
        let bytes = plain.as_slice().try_into().map_err(|_| DoesNotOpen)?;
        let key = SubjectKey(bytes);
        (key.id() == id).then_some(key).ok_or(DoesNotOpen)
    }
}

impl FromStr for MasterKey {
    type Err = NotHexadecimal;

    fn from_str(text: &str) -> Result<Self, NotHexadecimal> {
        from_hex(text).map(Self)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MessageKey {
    /// Seals a message. Each message has a key of its own, so there is no limit to their number. The result is the salt of that
    /// key (16 bytes), a nonce (12), the ciphertext and a tag (16).
    #[must_use]
    pub fn seal(&self, place: &[&str], message: &[u8]) -> Vec<u8> {
        let salt = <[u8; SALT_LENGTH]>::generate();
        let sealed = encrypt(&hmac_of(&self.0, &salt), &parts(place), message);
        [salt.as_slice(), &sealed].concat()
    }

    /// Opens a message that was sealed for this place.
    ///
    /// # Errors
    /// If it was sealed under another key or for another place, or is damaged.
    pub fn open(&self, place: &[&str], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        let (salt, sealed) = sealed
            .split_first_chunk::<SALT_LENGTH>()
            .ok_or(DoesNotOpen)?;
        decrypt(&hmac_of(&self.0, salt), &parts(place), sealed).map(Zeroizing::new)
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageKey(…)")
    }
}

impl Place<'_> {
    fn under(self, key: KeyId) -> Vec<u8> {
        let parts = [self.container, self.event_type, self.field];
        associated_data(key, &parts)
    }
}

fn wrapping(id: KeyId) -> Vec<u8> {
    associated_data(id, &["subject key"])
}

fn associated_data(key: KeyId, place: &[&str]) -> Vec<u8> {
    [key.0.as_slice(), &parts(place)].concat()
}

/// The parts, each preceded by its length, so that no two lists of parts give the same bytes.
fn parts(place: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    for part in place {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part.as_bytes());
    }
    data
}

fn encrypt(key: &[u8; 32], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    let nonce = <[u8; NONCE_LENGTH]>::generate();
    let ciphertext = Aes256Gcm::new(key.into())
        .encrypt(&Nonce::from(nonce), Payload { msg, aad })
        .expect("AES-GCM refuses only messages of more than 64 GiB");
    [nonce.as_slice(), &ciphertext].concat()
}

fn decrypt(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
    let (nonce, msg) = sealed
        .split_first_chunk::<NONCE_LENGTH>()
        .ok_or(DoesNotOpen)?;
    Aes256Gcm::new(key.into())
        .decrypt(&Nonce::from(*nonce), Payload { msg, aad })
        .map_err(|_| DoesNotOpen)
}

/// Reads exactly `2 * N` hexadecimal digits.
pub(super) fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], NotHexadecimal> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| {
        bytes.zeroize();
        NotHexadecimal { expected: 2 * N }
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place {
        container: "users-1",
        event_type: "UserCreated.v1",
        field: "username",
    };

    fn ada() -> Personal<String> {
        Personal::new("ada".to_owned())
    }

    #[test]
    fn a_sealed_value_opens_at_its_place() {
        let key = SubjectKey::generate();
        assert_eq!(key.open(PLACE, &key.seal(PLACE, &ada())), Ok(ada()));
    }

    #[test]
    fn a_sealed_value_opens_nowhere_else() {
        let key = SubjectKey::generate();
        let sealed = key.seal(PLACE, &ada());
        let others = [
            Place {
                container: "users-2",
                ..PLACE
            },
            Place {
                event_type: "UserPatched.v1",
                ..PLACE
            },
            Place {
                field: "given_name",
                ..PLACE
            },
        ];
        for place in others {
            assert_eq!(key.open(place, &sealed), Err(DoesNotOpen), "{place:?}");
        }
        assert_eq!(
            SubjectKey::generate().open(PLACE, &sealed),
            Err(DoesNotOpen)
        );
    }

    #[test]
    fn places_whose_parts_concatenate_to_the_same_text_are_different() {
        let place = |container, event_type| Place {
            container,
            event_type,
            ..PLACE
        };
        let key = SubjectKey::generate();
        let sealed = key.seal(place("ab", "c"), &ada());
        assert_eq!(key.open(place("a", "bc"), &sealed), Err(DoesNotOpen));
    }

    #[test]
    fn sealing_a_value_twice_gives_different_bytes() {
        let key = SubjectKey::generate();
        assert_ne!(key.seal(PLACE, &ada()), key.seal(PLACE, &ada()));
    }

    #[test]
    fn a_damaged_value_does_not_open() {
        let key = SubjectKey::generate();
        for text in ["", "AAAA", "not base64!", &"A".repeat(64)] {
            assert_eq!(key.open(PLACE, &Sealed(text.to_owned())), Err(DoesNotOpen));
        }
    }

    #[test]
    fn a_fingerprint_depends_on_key_container_and_every_value() {
        let (key, other) = (SubjectKey([7; 32]), SubjectKey([8; 32]));
        let (ada, eve) = (ada(), Personal::new("eve".to_owned()));
        let empty = Personal::new(String::new());
        let prints = [
            key.fingerprint("a", &[Some(&ada), Some(&eve)]),
            other.fingerprint("a", &[Some(&ada), Some(&eve)]),
            key.fingerprint("b", &[Some(&ada), Some(&eve)]),
            key.fingerprint("a", &[Some(&eve), Some(&ada)]),
            key.fingerprint("a", &[Some(&ada), None]),
            key.fingerprint("a", &[Some(&ada), Some(&empty)]),
        ];
        for (index, print) in prints.iter().enumerate() {
            assert!(!prints[index + 1..].contains(print), "{index}");
        }
        assert_eq!(prints[0], key.fingerprint("a", &[Some(&ada), Some(&eve)]));
    }

    #[test]
    fn a_wrapped_key_unwraps_only_with_its_id_and_master_key() {
        let master: MasterKey = "0f".repeat(32).parse().unwrap();
        let (key, other) = (SubjectKey::generate(), SubjectKey::generate());
        let wrapped = master.wrap(&key);
        assert_eq!(master.unwrap(key.id(), &wrapped).unwrap().id(), key.id());
        assert!(master.unwrap(other.id(), &wrapped).is_err());
        let stranger: MasterKey = "f0".repeat(32).parse().unwrap();
        assert!(stranger.unwrap(key.id(), &wrapped).is_err());
    }

    #[test]
    fn a_sealed_message_opens_only_at_its_place_and_for_its_purpose() {
        let master: MasterKey = "0f".repeat(32).parse().unwrap();
        let key = master.message_key("commands");
        let sealed = key.seal(&["users", "7"], b"ada");
        assert_eq!(*key.open(&["users", "7"], &sealed).unwrap(), b"ada");
        assert_ne!(sealed, key.seal(&["users", "7"], b"ada"));
        assert!(key.open(&["users", "8"], &sealed).is_err());
        assert!(key.open(&["users7", ""], &sealed).is_err());
        let other = master.message_key("letters");
        assert!(other.open(&["users", "7"], &sealed).is_err());
        for position in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[position] ^= 1;
            assert!(key.open(&["users", "7"], &damaged).is_err());
            assert!(key.open(&["users", "7"], &sealed[..position]).is_err());
        }
    }

    #[test]
    fn the_text_of_a_key_id_can_be_parsed() {
        let id = SubjectKey::generate().id();
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "00", &"0".repeat(33), &"g".repeat(32), &"é".repeat(16)] {
            assert!(text.parse::<KeyId>().is_err(), "{text}");
        }
    }

    #[test]
    fn debug_output_shows_no_key() {
        let master: MasterKey = "ab".repeat(32).parse().unwrap();
        assert_eq!(format!("{master:?}"), "MasterKey(…)");
        let message_key = master.message_key("commands");
        assert_eq!(format!("{message_key:?}"), "MessageKey(…)");
        let key = SubjectKey([7; 32]);
        assert_eq!(format!("{key:?}"), format!("SubjectKey({})", key.id()));
    }
}
