//! User accounts: event-sourced commands, read models, real erasure.

pub mod command;
pub mod config;
pub mod domain;
pub mod ids;
pub mod integration;
pub mod privacy;
pub mod projection;
pub mod query;
pub mod startup;
pub mod stored_event;
