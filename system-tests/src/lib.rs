//! The whole system from outside: real processes, a real broker, faults, figures.
//!
//! This library is the harness. Invariants: a [`System`] has a folder, a store, ports and a RabbitMQ vhost of
//! its own, so that tests run side by side; every process it starts is killed when it is dropped, also by a
//! failed test; nothing sleeps for a fixed time: whatever takes time is waited for with [`wait::until`].
#![expect(
    clippy::missing_errors_doc,
    reason = "a harness: every error is a failed test, whatever its cause"
)]

pub mod audit;
pub mod client;
pub mod load;
pub mod part;
pub mod process;
pub mod proxy;
pub mod search;
pub mod system;
pub mod wait;

pub use client::{Answer, Users};
pub use part::Part;
pub use system::System;

/// A name that no other test and no other run uses.
#[must_use]
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}
