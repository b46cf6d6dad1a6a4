//! User accounts: event-sourced commands, read models, real erasure.

pub mod command;
pub mod domain;
pub mod ids;
pub mod privacy;
pub mod stored_event;
