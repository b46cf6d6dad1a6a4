//! The bare pump: it moves messages through the broker as publisher and projector do, without store, keys or view.
//!
//! It uses the same bytes as a real message, the publisher's window, confirms, four quorum queues behind a
//! consistent-hash exchange, the projector's prefetch and batches, and one acknowledgement per batch.

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use messaging::{
    Binding, Broker, Consumer, Destination, Exchange, ExchangeKind, Incoming, Message, Publisher,
    Queue, QueueKind, Topology,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use system_tests::system::Node;
use system_tests::{System, unique, wait};
use tokio::task::JoinSet;
use uuid::Uuid;

const EXCHANGE: &str = "users";
const HASHED: &str = "pump";
const PARTITION_KEY: &str = "cloudEvents:partitionkey";
const QUEUES: usize = 4;
/// The most unconfirmed messages.
const WINDOW: usize = 512;
const PREFETCH: u16 = 500;
const BATCH: usize = 250;
const BATCH_EVERY: Duration = Duration::from_millis(10);
const SAMPLES: &str = "bench.sample";

/// A message that users-service published.
#[derive(Debug)]
pub(super) struct Sample {
    routing_key: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Sample {
    /// Creates a user and takes the message about it.
    pub(super) async fn take(system: &System) -> Result<Self> {
        let binding = format!("e/{EXCHANGE}/q/{SAMPLES}");
        let queue = json!({"durable": true});
        system.management("PUT", "queues", SAMPLES, &queue).await?;
        let all = json!({"routing_key": "#"});
        system
            .management("POST", "bindings", &binding, &all)
            .await?;
        system.users()?.created(&unique("sample")).await?;
        let message = wait::until("the message is published", || async {
            let mut messages = system.messages(SAMPLES).await?;
            messages.pop().context("no message yet")
        })
        .await?;
        system
            .management("DELETE", "queues", SAMPLES, &Value::Null)
            .await?;
        Self::of(&message)
    }

    fn of(message: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let headers = message["properties"]["headers"].as_object();
        let headers = headers.context("a message has headers")?.iter();
        let headers = headers.map(|(name, value)| Some((name.clone(), text(value)?)));
        let headers: Option<Vec<_>> = headers.collect();
        Ok(Self {
            routing_key: text(&message["routing_key"]).context("a message has a routing key")?,
            headers: headers.context("headers are text")?,
            body: text(&message["payload"])
                .context("a message has a body")?
                .into_bytes(),
        })
    }

    /// A message of the same size with another partition key.
    fn message(&self, number: usize) -> Message {
        let mut headers = self.headers.clone();
        for (name, value) in &mut headers {
            if name == PARTITION_KEY {
                *value = format!("{number:0width$}", width = value.len());
            }
        }
        Message {
            exchange: EXCHANGE.to_owned(),
            routing_key: self.routing_key.clone(),
            id: Uuid::new_v4().to_string(),
            content_type: "application/json".into(),
            headers,
            body: self.body.clone(),
        }
    }
}

/// Messages per second through this broker, from the first publication to the last acknowledgement.
pub(super) async fn measure(node: &Node, sample: &Sample, count: usize) -> Result<f64> {
    let broker = Broker::connect(&node.vhost().await, "pump")?;
    broker.declare(&topology()).await?;
    let began = Instant::now();
    let taken = Arc::new(AtomicUsize::default());
    let mut consumers = JoinSet::new();
    for queue in (0..QUEUES).map(queue) {
        let consumer = Consumer::new(broker.clone(), topology(), queue, PREFETCH);
        let consumer = consumer.at_most_every(BATCH_EVERY);
        consumers.spawn(consume(consumer, Arc::clone(&taken), count));
    }
    publish(broker, sample, count).await?;
    // The first consumer to end is the one that acknowledged the last message.
    consumers
        .join_next()
        .await
        .context("a consumer was started")???;
    let took = began.elapsed();
    consumers.shutdown().await;
    ensure!(
        taken.load(Ordering::Relaxed) == count,
        "a message was delivered twice"
    );
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 messages")]
    Ok(count as f64 / took.as_secs_f64())
}

async fn publish(broker: Broker, sample: &Sample, count: usize) -> Result<()> {
    let publisher = Publisher::new(broker, topology());
    let mut unconfirmed = FuturesUnordered::new();
    for number in 0..count {
        if unconfirmed.len() == WINDOW {
            unconfirmed
                .next()
                .await
                .context("a message is unconfirmed")??;
        }
        unconfirmed.push(publisher.send(sample.message(number)).await?);
    }
    while let Some(confirmed) = unconfirmed.next().await {
        confirmed?;
    }
    Ok(())
}

/// Returns when this consumer has acknowledged the last of all messages.
async fn consume(mut consumer: Consumer, taken: Arc<AtomicUsize>, count: usize) -> Result<()> {
    loop {
        match consumer.next(BATCH).await {
            Incoming::Opened { .. } => {}
            Incoming::Closed(error) => return Err(error.into()),
            Incoming::Batch(batch) => {
                let more = batch.deliveries.len();
                batch.ack().await;
                if taken.fetch_add(more, Ordering::Relaxed) + more >= count {
                    return Ok(());
                }
            }
        }
    }
}

fn queue(partition: usize) -> String {
    format!("{HASHED}.{partition}")
}

fn topology() -> Topology {
    let exchange = |name: &str, kind| Exchange {
        name: name.to_owned(),
        kind,
    };
    let binding = |source: &str, destination, routing_key: &str| Binding {
        source: source.to_owned(),
        destination,
        routing_key: routing_key.to_owned(),
    };
    let header = PARTITION_KEY.to_owned();
    let mut topology = Topology {
        exchanges: vec![
            exchange(EXCHANGE, ExchangeKind::Topic),
            exchange(HASHED, ExchangeKind::ConsistentHash { header }),
        ],
        ..Topology::default()
    };
    for name in (0..QUEUES).map(queue) {
        topology.queues.push(Queue {
            name: name.clone(),
            kind: QueueKind::OrderedLog,
        });
        let to = Destination::Queue(name);
        topology.bindings.push(binding(HASHED, to, "1"));
    }
    let to = Destination::Exchange(HASHED.to_owned());
    topology.bindings.push(binding(EXCHANGE, to, "#"));
    topology
}
