//! RabbitMQ: topology, confirmed and mandatory publishing, consuming, RPC, reconnection.
//!
//! Owns every connection to the broker. The only crate that uses `lapin` and `deadpool-lapin`.
//!
//! Invariants:
//! - After the loss of a connection, channel, queue or broker the crate reconnects by itself, with growing and jittered
//!   pauses, and declares the topology again. No process needs a restart.
//! - With several addresses, each new connection goes to the next one.
//! - A refusal for lack of a permission names the account, the permission, and the exchange or queue. No error shows a password.
//! - A publication succeeds only when the broker confirmed it *and* routed it to a queue.
//! - A consumer never sends a nack and never cancels: it acknowledges, or it closes its channel. A nack or a cancellation
//!   would change the order in which messages are redelivered.
//! - Every queue in memory is bounded: publications by the outbox, deliveries by the prefetch count, and requests by the
//!   limit of pending calls.

mod addresses;
mod broker;
mod connector;
mod consumer;
mod error;
mod message;
mod publisher;
mod replies;
mod rpc;
mod topology;

pub use broker::Broker;
pub use consumer::{Batch, Consumer, Incoming};
pub use error::{InvalidUrl, Unavailable};
pub use message::{Delivery, Message};
pub use publisher::{Confirm, PublishError, Publisher};
pub use replies::Replies;
pub use rpc::{RpcClient, RpcError, serve_rpc};
pub use topology::{Binding, Destination, Exchange, ExchangeKind, Queue, QueueKind, Topology};
