//! The crate as a client sees it: a real server on a free port.

#![expect(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod access;
mod bad_input;
mod lifecycle;
mod methods;
mod slow;
mod support;
