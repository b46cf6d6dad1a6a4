//! What leaves the service over the broker, and what comes back in: the published schema, who publishes it, and the
//! queues of those who consume it.
//!
//! Invariant: domain events never reach the broker as they are; [`mapping`] is the one place where they become messages.

pub mod consumer;
pub mod mapping;
pub mod message;
pub mod publisher;
