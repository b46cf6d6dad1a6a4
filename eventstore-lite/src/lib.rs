//! An EventStoreDB-compatible server in one binary, and as a library for tests in the same process.
//!
//! It serves the unmodified clients of EventStoreDB like version 24: appends, batches, reads, catch-up subscriptions,
//! persistent subscriptions, deletions, stream metadata, scavenges, gossip. It does not have projections and user
//! management; calls to them are answered UNIMPLEMENTED. Without TLS everybody who can reach the port may do
//! everything, as with the real server's `--insecure`. With TLS callers are users ([`Security`]).
//!
//! A change goes from `grpc` through the rules of `append_rules` to the only writer thread (`storage`), and is
//! answered when it is on disk. Readers and subscriptions read pages from disk at the same time; `heads` tells them
//! when there may be new events.

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

/// The example in the README is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
