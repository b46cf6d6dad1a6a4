//! problem+json, health, readiness and graceful shutdown for actix-web services.
//!
//! Owns how a service speaks HTTP, whatever it says. Invariants: every error answer is `application/problem+json`
//! with a `message`; no path value, query or body is in a log line or in an error's text; a service listens before
//! its dependencies are there, and says at `/_readyz` which is missing.

mod connection;
mod extract;
mod observe;
mod problem;
mod readiness;
mod server;
mod shutdown;
mod unread;

pub use extract::{BODY_LIMIT, Id, Json, Query};
pub use problem::Problem;
pub use readiness::{Importance, Readiness};
pub use server::Server;
pub use shutdown::on_signal;
