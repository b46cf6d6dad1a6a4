//! An EventStoreDB-compatible server in one binary, and as a library for tests in the same process.
//!
//! It answers the unmodified clients of EventStoreDB as version 24 does: appends, batches, reads, catch-up
//! subscriptions, persistent subscriptions, deletions, stream metadata, scavenges, gossip. What it does not
//! have (projections, users) answers UNIMPLEMENTED. Without TLS whoever reaches the port may do
//! everything, as with the real server's `--insecure`; with it callers are users ([`Security`]).
//!
//! A change goes from `grpc` through the rules of `append_rules` to the one thread that writes
//! (`storage`), and is answered when it is on disk. Readers and subscriptions page from disk beside it and
//! are told by `heads` when there may be more.

mod access;
mod append_rules;
mod calls;
mod checkpoints;
pub mod cli;
mod clock;
mod config;
mod connection;
mod event;
mod filter;
mod grpc;
mod heads;
mod http;
mod metrics;
mod node;
mod options;
mod persistent;
mod private_file;
mod retention;
mod server;
mod storage;
mod stream_name;
mod system_streams;
mod tls;
mod transfer;
mod users;
mod web;

pub use config::{Advertised, Config, Limits, Security};
pub use eventstore_protocol as wire;
pub(crate) use eventstore_protocol::event_id;
pub use server::Server;
pub use users::{Role, Users, hash_password};

/// The example of the README, which is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
