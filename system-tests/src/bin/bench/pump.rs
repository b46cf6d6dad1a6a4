//! The bare pump: it moves messages through the broker as publisher and projector do, without store, keys or view.
//!
//! It uses the same bytes as a real message, the topology of users-service, the publisher's window, confirms, the projector's
//! prefetch and batches, and one acknowledgement per batch.

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use messaging::{Broker, Consumer, Incoming, Message, Publisher, Topology};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use system_tests::system::Node;
use system_tests::{System, unique, wait};
use tokio::task::JoinSet;
use users_service::integration::consumer::{ReaderQueues, published};
use users_service::integration::message::{EXCHANGE, PARTITION_KEY};
use uuid::Uuid;

/// The most unconfirmed messages.
const WINDOW: usize = 512;
const PREFETCH: u16 = 500;
const BATCH: usize = 250;
const BATCH_EVERY: Duration = Duration::from_millis(10);
const SAMPLES: &str = "bench.sample";

/// A message that users-service published.
#[derive(Debug)]
pub(crate) struct Sample {
    routing_key: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Sample {
    /// Creates a user and takes the message about it.
    pub(crate) async fn take(system: &System) -> Result<Self> {
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

/// Messages per second that the broker confirms for these read models, while nobody consumes.
pub(crate) async fn confirmed(
    node: &Node,
    sample: &Sample,
    read_models: &[ReaderQueues],
    count: usize,
) -> Result<f64> {
    let (broker, topology) = declared(node, read_models).await?;
    let began = Instant::now();
    publish(broker, topology, sample, count).await?;
    Ok(rate(count, began.elapsed()))
}

/// Messages per second through this broker, from the first publication to the last acknowledgement. Each read model takes every
/// message.
pub(crate) async fn measure(
    node: &Node,
    sample: &Sample,
    read_models: &[ReaderQueues],
    count: usize,
) -> Result<f64> {
    let (broker, topology) = declared(node, read_models).await?;
    let began = Instant::now();
    let taken = Arc::new(AtomicUsize::default());
    let mut consumers = JoinSet::new();
    let deliveries = count * read_models.len();
    for queue in read_models.iter().flat_map(ReaderQueues::queues) {
        let consumer = Consumer::new(broker.clone(), topology.clone(), queue, PREFETCH);
        let consumer = consumer.at_most_every(BATCH_EVERY);
        consumers.spawn(consume(consumer, Arc::clone(&taken), deliveries));
    }
    publish(broker, topology, sample, count).await?;
    // The first consumer to end is the one that acknowledged the last message.
    consumers
        .join_next()
        .await
        .context("a consumer was started")???;
    let took = began.elapsed();
    consumers.shutdown().await;
    ensure!(
        taken.load(Ordering::Relaxed) == deliveries,
        "a message was delivered twice"
    );
    Ok(rate(count, took))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 messages")]
fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

async fn publish(broker: Broker, topology: Topology, sample: &Sample, count: usize) -> Result<()> {
    let publisher = Publisher::new(broker, topology);
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

/// Makes the topology in a virtual host of its own.
async fn declared(node: &Node, read_models: &[ReaderQueues]) -> Result<(Broker, Topology)> {
    let broker = Broker::connect(&node.vhost().await, "pump")?;
    let mut topology = published();
    for queues in read_models {
        let of_reader = queues.topology();
        topology.exchanges.extend(of_reader.exchanges);
        topology.queues.extend(of_reader.queues);
        topology.bindings.extend(of_reader.bindings);
    }
    broker.declare(&topology).await?;
    Ok((broker, topology))
}
