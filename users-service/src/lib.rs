//! User accounts: event-sourced commands, read models, real erasure.

pub mod command;
pub mod domain;
pub mod privacy;
pub mod stored_event;
