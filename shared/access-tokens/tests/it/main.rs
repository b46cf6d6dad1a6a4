//! Tokens are verified under a secret, or under the public keys of a set that changes.

#![expect(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod key_sets;
mod secrets;
mod support;
