//! Tests and a bench of the whole system from outside, with real processes, a real broker and faults.
//!
//! This library is the harness. Invariants: each [`System`] has its own folder, store, ports and RabbitMQ vhost, so that
//! tests can run in parallel. Dropping it kills every process that it started, also after a failed test. Nothing sleeps
//! for a fixed time; tests wait for conditions with [`wait::until`].
#![expect(
    clippy::missing_errors_doc,
    reason = "a harness: every error is a failed test, whatever its cause"
)]

pub mod applications;
pub mod audit;
pub mod client;
pub mod deliveries;
pub mod flow;
pub mod load;
pub mod observer;
pub mod part;
pub mod process;
pub mod proxy;
pub mod search;
pub mod store_nodes;
pub mod system;
pub mod traffic;
pub mod verdict;
pub mod wait;

pub use client::{Answer, Users};
pub use part::Part;
pub use system::System;

/// A name that is unique over all tests and runs.
#[must_use]
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}
