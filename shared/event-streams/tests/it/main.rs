//! The wrapper against a real server in the same process, with everything broken on purpose.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod append;
mod cluster;
mod misbehaving_server;
mod read;
mod reconnect;
mod secure;
mod session;
mod stand_in;
mod subscription;
mod support;
