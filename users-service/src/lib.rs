//! User accounts: event-sourced commands, read models, and erasure by destroying keys.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("failpoints end the process, so no release build may have them");

pub mod admission;
pub mod clock;
pub mod command;
pub mod config;
pub mod consistency_token;
pub mod contracts;
pub mod database;
pub mod domain;
pub mod eraser;
pub mod erasure;
pub mod feed;
pub mod ids;
pub mod integration;
mod log_checkpoint;
mod message_schema;
mod opaque_text;
pub mod operations;
pub mod operator_routes;
pub mod privacy;
pub mod problem_types;
pub mod projection;
pub mod query;
pub mod read_model;
pub mod scopes;
pub mod startup;
pub mod stored_event;
pub mod sweeper;
mod trace_parent;
mod user_body;
