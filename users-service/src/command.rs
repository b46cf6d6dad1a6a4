//! The write side: commands come in, events go to the store, and the answer waits until they are durable.

pub mod api;
pub mod error;
mod execution;
pub mod handler;
mod holders;
pub mod reservation;
pub mod user_history;
