//! Access tokens: JSON Web Tokens (RFC 7519) that callers send as bearer tokens (RFC 6750).
//!
//! Invariants:
//! - The key decides the algorithm, never the token: a secret verifies HS256, an RSA key RS256, a P-256 key ES256. So `none`
//!   and a public key used as a secret are refused (RFC 8725, sections 2.1 and 3.1).
//! - A token without a subject, an expiry, the configured issuer or the configured audience is refused. So is a token with a
//!   critical header that this crate does not know.
//! - No error, log line or debug output contains a token, a claim or a key.

mod key_set;
mod settings;
mod signer;
mod verifier;

pub use settings::{AccessSettings, Exposed};
pub use signer::{TokenRequest, TokenSigner};
pub use verifier::{Access, TokenError, Verifier};
