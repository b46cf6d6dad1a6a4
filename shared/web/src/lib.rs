//! problem+json, health, readiness and graceful shutdown for actix-web services.
//!
//! This crate decides how a service speaks HTTP, not what it says. Invariants: every error answer is
//! `application/problem+json` with a `message` and a `type` of its own; no log line and no error text holds a path value, a query or a body; a
//! service listens before its dependencies are up, and names the missing ones at `/_readyz`.

mod access;
mod connection;
mod extract;
mod fields;
mod input_error;
mod observe;
mod problem;
mod problem_type;
pub mod problem_types;
mod readiness;
mod server;
mod shutdown;
mod unread;

pub use access::secured;
pub use actix_web::http::StatusCode;
pub use extract::{BODY_LIMIT, Json, MergePatch, PathId, Query};
pub use fields::Fields;
pub use input_error::InputError;
pub use problem::Problem;
pub use problem_type::ProblemType;
pub use readiness::{Importance, Readiness};
pub use server::Server;
pub use shutdown::on_signal;
