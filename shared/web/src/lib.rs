//! problem+json, health, readiness and graceful shutdown for actix-web services.
//!
//! This crate decides how a service speaks HTTP, not what it says. Invariants: every error answer is
//! `application/problem+json` with a `message`; no log line and no error text holds a path value, a query or a body; a
//! service listens before its dependencies are up, and names the missing ones at `/_readyz`.

mod connection;
mod extract;
mod observe;
mod problem;
mod readiness;
mod server;
mod shutdown;
mod unread;

pub use extract::{BODY_LIMIT, Json, PathId, Query};
pub use problem::Problem;
pub use readiness::{Importance, Readiness};
pub use server::Server;
pub use shutdown::on_signal;
