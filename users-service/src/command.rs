//! The command side: a command is decided, its events are appended to the store, and it is answered when they are durable.

pub mod api;
mod attempt;
pub mod command_answer;
mod command_memory;
pub mod command_status;
mod conditions;
mod deleted_users;
pub mod envelope;
pub mod error;
mod execute;
mod execution;
pub mod handler;
mod holders;
pub mod idempotency_key;
mod once;
mod plan;
mod prefer;
mod problems;
pub mod queue;
mod request_context;
pub mod reservation;
mod snapshots;
mod status_link;
mod stores;
pub mod user_histories;
pub mod user_history;
pub mod version;
