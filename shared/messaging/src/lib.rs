//! RabbitMQ: topology, confirmed and mandatory publishing, consuming, RPC, reconnection.
//!
//! Owns every connection to the broker and the only use of `lapin` and `deadpool-lapin`.
//!
//! Invariants:
//! - Whatever breaks (connection, channel, queue, the whole broker) is opened again by itself, with growing and
//!   jittered waits, and the topology is declared again each time; nobody is restarted by hand.
//! - A publication succeeds only when the broker confirmed it *and* routed it to a queue.
//! - A consumer never sends nack and never cancels: it finishes, or closes its channel. Both others change the order
//!   in which messages come back.
//! - What waits is bounded: publications by the outbox, deliveries by the prefetch count, requests by the limit of
//!   pending calls.

mod broker;
mod consumer;
mod message;
mod publisher;
mod rpc;
mod topology;

pub use broker::{Broker, InvalidUrl, Unavailable};
pub use consumer::{Batch, Consumer, Incoming};
pub use message::{Delivery, Message};
pub use publisher::{Confirm, PublishError, Publisher};
pub use rpc::{RpcClient, RpcError, serve_rpc};
pub use topology::{Binding, Destination, Exchange, ExchangeKind, Queue, QueueKind, Topology};
