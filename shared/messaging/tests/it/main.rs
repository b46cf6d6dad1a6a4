//! The crate against a real broker, which some of the tests kill.

mod consuming;
mod publishing;
mod rpc;
mod support;
