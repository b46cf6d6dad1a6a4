//! Ids, the windows of time they may be issued in, and the issuing itself.
//!
//! Pure: knows no clock, no storage, no threads. All times are milliseconds since 2015-01-01T00:00:00Z, the number that
//! an id begins with, and come from the caller.

pub(crate) mod id;
pub(crate) mod issuer;
pub(crate) mod window;

#[cfg(test)]
mod tests;
