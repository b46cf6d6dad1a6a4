//! Ids, the windows of time in which they may be issued, and the issuing itself.
//!
//! This module is pure: it has no clock, no storage and no threads. The caller passes all times, in milliseconds since
//! 2015-01-01T00:00:00Z, the number that an id begins with.

pub(crate) mod id;
pub(crate) mod issuer;
pub(crate) mod window;

#[cfg(test)]
mod tests;
