//! The command side: a command is decided, its events are appended to the store, and it is answered when they are durable.

pub mod api;
mod attempt;
mod command_memory;
mod conditions;
pub mod envelope;
pub mod error;
mod execution;
pub mod handler;
mod holders;
pub mod idempotency_key;
mod once;
mod plan;
mod request_context;
pub mod reservation;
mod snapshots;
mod stores;
pub mod user_histories;
pub mod user_history;
pub mod version;
