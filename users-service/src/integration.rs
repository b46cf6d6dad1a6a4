//! Integration over the broker: the published schema, the publisher, and the queues of the consumer.
//!
//! Invariant: domain events never reach the broker as they are. Only [`mapping`] turns them into messages.

pub mod consumer;
pub mod mapping;
pub mod message;
pub mod publisher;
