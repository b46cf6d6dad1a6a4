//! The command side: a command is decided, its events are appended to the store, and it is answered when they are durable.

pub mod api;
pub mod error;
mod execution;
pub mod handler;
mod holders;
pub mod reservation;
pub mod user_history;
