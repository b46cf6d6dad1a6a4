//! An EventStoreDB-compatible server in one binary, and as a library for tests in the same process.

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
