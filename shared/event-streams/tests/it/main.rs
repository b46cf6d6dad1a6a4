//! The wrapper against a real server in the same process, with everything broken on purpose.

mod append;
mod misbehaving_server;
mod read;
mod reconnect;
mod subscription;
mod support;
mod tls;
