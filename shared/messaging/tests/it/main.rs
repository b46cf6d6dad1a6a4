//! The crate against a real broker, which some of the tests kill.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

mod addresses;
mod consuming;
mod publishing;
mod replying;
mod rpc;
mod support;
