//! Protection of personal data: sealing, the keys of users, and the names of reservations.
//!
//! Invariants: a personal value leaves the process only sealed under its subject's key, or in an answer to a request for
//! it. A destroyed key never comes back.

pub mod cipher;
pub mod pseudonym;
pub mod search_secret;
pub mod subject_keys;
