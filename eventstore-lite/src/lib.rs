//! An EventStoreDB-compatible server in one binary, and as a library for tests in the same process.
//!
//! It answers the unmodified clients of EventStoreDB as version 24 does: appends, batches, reads, catch-up
//! subscriptions, deletions, stream metadata, gossip. What it does not have yet (persistent subscriptions,
//! projections, operations, users) answers UNIMPLEMENTED. There is no TLS and no access control: whoever
//! reaches the port may do everything, as with the real server's `--insecure`.
//!
//! A change goes from `grpc` through the rules of `append_rules` to the one thread that writes
//! (`storage`), and is answered when it is on disk. Readers and subscriptions page from disk beside it and
//! are told by `heads` when there may be more.

mod append_rules;
mod clock;
mod config;
mod connection;
mod event;
mod filter;
mod grpc;
mod heads;
mod retention;
mod server;
mod storage;
mod stream_name;
pub mod wire;

pub use config::Config;
pub use server::Server;
