//! The crate as a client sees it: a real server on a free port.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it says"
)]

mod bad_input;
mod lifecycle;
mod support;
