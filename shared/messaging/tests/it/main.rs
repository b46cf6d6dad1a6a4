//! The crate against a real broker, which some of the tests kill.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod consuming;
mod publishing;
mod rpc;
mod support;
