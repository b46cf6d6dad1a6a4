//! What exchanges, queues and bindings look like, and how they are declared so that RabbitMQ 3.10 and 4.x agree.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ErrorKind};

/// RabbitMQ 4 gives up on a message after 20 deliveries unless told otherwise; 3.10 refuses its word for "never"
/// (-1), and a queue declared without a limit there could not be declared with one after an upgrade. A limit that
/// nothing reaches means the same everywhere. It also has returned messages go near the head of the queue, where
/// they came from; without a limit they would go behind all others.
const NO_DELIVERY_LIMIT: i32 = i32::MAX;

/// What must exist before somebody publishes or consumes. All of it is durable, except request queues.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Declared first.
    pub exchanges: Vec<Exchange>,
    /// Declared second.
    pub queues: Vec<Queue>,
    /// Made last.
    pub bindings: Vec<Binding>,
}

/// An exchange to declare.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// At most 255 bytes.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeKind,
}

/// How an exchange routes.
#[derive(Clone, Debug)]
pub enum ExchangeKind {
    /// By patterns over the routing key.
    Topic,
    /// By the hash of a header's value; a binding's routing key is its weight. Needs the broker's
    /// consistent-hash plugin.
    ConsistentHash {
        /// The header's name.
        header: String,
    },
}

/// A queue to declare.
#[derive(Clone, Debug)]
pub struct Queue {
    /// At most 255 bytes.
    pub name: String,
    /// What it is for.
    pub kind: QueueKind,
}

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// A quorum queue without a delivery limit.
    Log,
    /// The same, consumed by one consumer at a time, in order.
    OrderedLog,
    /// Requests of the moment: gone with the last process that answers them, so that callers learn at once that
    /// nobody does.
    Requests,
}

/// A binding to make.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The exchange that messages come from.
    pub source: String,
    /// Where they go.
    pub destination: Destination,
    /// A pattern (topic) or a weight (consistent hash).
    pub routing_key: String,
}

/// Where a binding leads.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To the exchange of this name.
    Exchange(String),
    /// To the queue of this name.
    Queue(String),
}

/// Whether the queue exists. The channel is closed by the broker if it does not.
pub(crate) async fn queue_exists(channel: &Channel, queue: &Queue) -> lapin::Result<bool> {
    let passive = QueueDeclareOptions::durable().passive();
    let look = channel
        .queue_declare(short(&queue.name)?, passive, FieldTable::default())
        .await;
    found(look)
}

/// Whether the exchange exists, of whatever kind. The channel is closed by the broker if it does not.
pub(crate) async fn exchange_exists(channel: &Channel, exchange: &Exchange) -> lapin::Result<bool> {
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let kind = lapin::ExchangeKind::Topic;
    let look = channel
        .exchange_declare(short(&exchange.name)?, kind, passive, FieldTable::default())
        .await;
    found(look)
}

fn found<T>(look: lapin::Result<T>) -> lapin::Result<bool> {
    match look {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) async fn declare(channel: &Channel, topology: &Topology) -> lapin::Result<()> {
    for exchange in &topology.exchanges {
        declare_exchange(channel, exchange).await?;
    }
    for queue in &topology.queues {
        let (options, arguments) = queue_properties(queue.kind);
        channel
            .queue_declare(short(&queue.name)?, options, arguments)
            .await?;
    }
    for binding in &topology.bindings {
        bind(channel, binding).await?;
    }
    Ok(())
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

/// Quorum queues must be durable; a request queue is durable because RabbitMQ 4 refuses shared queues that are not.
fn queue_properties(kind: QueueKind) -> (QueueDeclareOptions, FieldTable) {
    let durable = QueueDeclareOptions::durable();
    let mut arguments = FieldTable::default();
    if kind == QueueKind::Requests {
        arguments.insert("x-queue-type".into(), text("classic"));
        return (durable.auto_delete(), arguments);
    }
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongInt(NO_DELIVERY_LIMIT),
    );
    if kind == QueueKind::OrderedLog {
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
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

/// AMQP limits names and keys to 255 bytes.
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
