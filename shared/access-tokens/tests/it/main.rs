//! Tokens are verified under a secret, or under the public keys of a set that changes.

mod key_sets;
mod secrets;
mod support;
