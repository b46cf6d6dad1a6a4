//! The client against a real server in the same process and against stand-ins. The tests break connections on purpose.

#![expect(clippy::unwrap_used, reason = "a failing helper fails the test")]

mod append;
mod cluster;
mod metadata;
mod misbehaving_server;
mod read;
mod reconnect;
mod secure;
mod session;
mod stand_in;
mod subscription;
mod support;
