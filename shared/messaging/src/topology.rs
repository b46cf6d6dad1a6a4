//! Exchanges, queues and bindings, and their declaration with the same meaning on RabbitMQ 3.10 and 4.x.

use crate::error::{Unavailable, lacking};
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ErrorKind};
use std::time::Duration;

/// A delivery limit that no message reaches, which works on every version. RabbitMQ 4 drops a message after 20
/// deliveries by default. RabbitMQ 3.10 refuses -1 (no limit), and a queue declared there without a limit could not be
/// declared with one after an upgrade. The limit also makes the broker requeue messages near the head of the queue;
/// without a limit they would go to its tail.
const NO_DELIVERY_LIMIT: i32 = i32::MAX;

/// The exchanges, queues and bindings that a publisher or consumer needs. All are durable, except request queues.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// The exchanges, which are declared first.
    pub exchanges: Vec<Exchange>,
    /// The queues, which are declared second.
    pub queues: Vec<Queue>,
    /// The bindings, which are declared last.
    pub bindings: Vec<Binding>,
}

/// An exchange to declare.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The name, at most 255 bytes.
    pub name: String,
    /// How the exchange routes messages.
    pub kind: ExchangeKind,
}

/// How an exchange routes messages.
#[derive(Clone, Debug)]
pub enum ExchangeKind {
    /// By patterns that match the routing key.
    Topic,
    /// By the hash of a header. The routing key of a binding is its weight. Needs the broker's consistent-hash plugin.
    ConsistentHash {
        /// The name of the header.
        header: String,
    },
}

/// A queue to declare.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The name, at most 255 bytes.
    pub name: String,
    /// The purpose of the queue.
    pub kind: QueueKind,
}

/// The purpose of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// A quorum queue without a delivery limit.
    Log,
    /// A quorum queue without a delivery limit and with one consumer at a time, so that messages stay in order.
    OrderedLog,
    /// A queue of RPC requests. The broker deletes it with its last consumer, so that requests fail at once while no
    /// process serves them.
    Requests,
    /// A durable classic queue without arguments, so that other clients can declare it in the same way.
    Plain,
    /// A quorum queue without a delivery limit, whose messages the broker drops after this time.
    ExpiringLog(Duration),
}

/// A binding to declare.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The exchange from which messages come.
    pub source: String,
    /// The exchange or queue to which messages go.
    pub destination: Destination,
    /// A pattern (for a topic exchange) or a weight (for consistent hashing).
    pub routing_key: String,
}

/// The destination of a binding.
#[derive(Clone, Debug)]
pub enum Destination {
    /// The exchange with this name.
    Exchange(String),
    /// The queue with this name.
    Queue(String),
}

/// Whether the queue exists. If not, the broker closes the channel.
pub(crate) async fn queue_exists(channel: &Channel, queue: &Queue) -> lapin::Result<bool> {
    let passive = QueueDeclareOptions::durable().passive();
    let declared = channel
        .queue_declare(short(&queue.name)?, passive, FieldTable::default())
        .await;
    found(declared)
}

/// Whether an exchange of this name exists, of any kind. If not, the broker closes the channel.
pub(crate) async fn exchange_exists(channel: &Channel, exchange: &Exchange) -> lapin::Result<bool> {
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let kind = lapin::ExchangeKind::Topic;
    let declared = channel
        .exchange_declare(short(&exchange.name)?, kind, passive, FieldTable::default())
        .await;
    found(declared)
}

/// Deletes the waiting messages of a queue. If the queue is missing, the broker closes the channel.
pub(crate) async fn purge(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let purged = channel.queue_purge(short(queue)?, QueuePurgeOptions::default());
    found(purged.await).map(drop)
}

/// Deletes an exchange. A missing one is no error.
pub(crate) async fn delete_exchange(channel: &Channel, exchange: &str) -> lapin::Result<()> {
    let deleted = channel.exchange_delete(short(exchange)?, ExchangeDeleteOptions::default());
    deleted.await
}

/// Deletes a queue. A missing one is no error.
pub(crate) async fn delete_queue(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let deleted = channel.queue_delete(short(queue)?, QueueDeleteOptions::default());
    deleted.await.map(drop)
}

/// The number of waiting messages. `None` if the queue is missing; then the broker closes the channel.
pub(crate) async fn waiting(channel: &Channel, queue: &str) -> lapin::Result<Option<u32>> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(short(queue)?, passive, FieldTable::default());
    match declared.await {
        Ok(queue) => Ok(Some(queue.message_count())),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn found<T>(declared: lapin::Result<T>) -> lapin::Result<bool> {
    match declared {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) async fn declare(channel: &Channel, topology: &Topology) -> Result<(), Unavailable> {
    let refused = |error| lacking("configure", error);
    for exchange in &topology.exchanges {
        declare_exchange(channel, exchange).await.map_err(refused)?;
    }
    for queue in &topology.queues {
        let (options, arguments) = queue_properties(queue.kind);
        channel
            .queue_declare(short(&queue.name)?, options, arguments)
            .await
            .map_err(refused)?;
    }
    for binding in &topology.bindings {
        bind(channel, binding)
            .await
            .map_err(|error| binding.refused(error))?;
    }
    Ok(())
}

impl Binding {
    /// A binding needs two permissions. The broker's text says which exchange or queue it refused.
    fn refused(&self, error: lapin::Error) -> Unavailable {
        let of_source = error.to_string().contains(&format!("'{}'", self.source));
        lacking(if of_source { "read" } else { "write" }, error)
    }
}

async fn declare_exchange(channel: &Channel, exchange: &Exchange) -> lapin::Result<()> {
    let mut arguments = FieldTable::default();
    let kind = match &exchange.kind {
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        ExchangeKind::ConsistentHash { header } => {
            arguments.insert("hash-header".into(), text(header));
            lapin::ExchangeKind::Custom("x-consistent-hash".to_owned())
        }
    };
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(short(&exchange.name)?, kind, durable, arguments)
        .await
}

/// The options and arguments of a queue. Quorum queues must be durable. A request queue is durable because RabbitMQ 4
/// refuses shared queues that are not.
fn queue_properties(kind: QueueKind) -> (QueueDeclareOptions, FieldTable) {
    let durable = QueueDeclareOptions::durable();
    let mut arguments = FieldTable::default();
    match kind {
        QueueKind::Plain => return (durable, arguments),
        QueueKind::Requests => {
            arguments.insert("x-queue-type".into(), text("classic"));
            return (durable.auto_delete(), arguments);
        }
        QueueKind::Log => {}
        QueueKind::OrderedLog => {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        QueueKind::ExpiringLog(age) => {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(age));
        }
    }
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongInt(NO_DELIVERY_LIMIT),
    );
    (durable, arguments)
}

async fn bind(channel: &Channel, binding: &Binding) -> lapin::Result<()> {
    let source = short(&binding.source)?;
    let key = short(&binding.routing_key)?;
    let arguments = FieldTable::default();
    match &binding.destination {
        Destination::Queue(queue) => {
            let options = QueueBindOptions::default();
            channel
                .queue_bind(short(queue)?, source, key, options, arguments)
                .await
        }
        Destination::Exchange(exchange) => {
            let options = ExchangeBindOptions::default();
            channel
                .exchange_bind(short(exchange)?, source, key, options, arguments)
                .await
        }
    }
}

/// Converts a name or key. Fails if it exceeds AMQP's limit of 255 bytes.
pub(crate) fn short(name: &str) -> lapin::Result<ShortString> {
    ShortString::try_new(name.to_owned()).map_err(|error| std::io::Error::other(error).into())
}

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error)
        if matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)))
}
