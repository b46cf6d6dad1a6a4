//! Personal data: how it is carried, sealed, and forgotten.
//!
//! Invariants: a personal value has no text form and no serialized form by itself; it leaves the process sealed under
//! its subject's key, or in an answer to somebody who asked for it; a key that was destroyed never comes back.

pub mod cipher;
pub mod pseudonym;
pub mod subject_keys;
