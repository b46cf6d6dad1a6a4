//! A consumer of another team: it has its own account and queue, and notes every delivery.
//!
//! Invariant: a delivery is noted before it is acknowledged.

use crate::deliveries::EventName;
use anyhow::{Context as _, Result, ensure};
use messaging::{
    Binding, Broker, Consumer, Delivery, Destination, Incoming, Queue, QueueKind, Topology,
};
use private_broker::as_account;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;
use users_service::integration::consumer::{READERS, keep_declared};

const ACCOUNT: &str = "outside";
const QUEUE: &str = "outside.observer";
const BATCH: usize = 250;

/// A running consumer. Dropping it ends it; its queue stays.
#[derive(Debug)]
pub struct Observer {
    noted: Arc<Mutex<Vec<EventName>>>,
    _ended_when_dropped: JoinSet<()>,
}

impl Observer {
    /// Binds the queue, at a broker where publishers have declared the exchange, and begins to consume.
    pub async fn begin(amqp_url: &str) -> Result<Self> {
        let broker = Broker::connect(&as_account(amqp_url, ACCOUNT), "observer")?;
        let mut consumer = Consumer::new(broker.clone(), topology(), QUEUE.to_owned(), 500);
        let opened = consumer.next(BATCH).await;
        ensure!(matches!(opened, Incoming::Opened { .. }), "{opened:?}");
        let noted = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(consume(consumer, Arc::clone(&noted)));
        tasks.spawn(async move { keep_declared(&broker, &topology(), || ()).await });
        Ok(Self {
            noted,
            _ended_when_dropped: tasks,
        })
    }

    /// All deliveries so far, in their order.
    #[must_use]
    pub fn delivered(&self) -> Vec<EventName> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.clone()
    }
}

fn topology() -> Topology {
    Topology {
        exchanges: Vec::new(),
        queues: vec![Queue {
            name: QUEUE.to_owned(),
            kind: QueueKind::OrderedLog,
        }],
        bindings: vec![Binding {
            source: READERS.to_owned(),
            destination: Destination::Queue(QUEUE.to_owned()),
            routing_key: "#".to_owned(),
        }],
    }
}

async fn consume(mut consumer: Consumer, noted: Arc<Mutex<Vec<EventName>>>) {
    loop {
        if let Incoming::Batch(batch) = consumer.next(BATCH).await {
            let names = batch.deliveries.iter().map(|delivery| {
                // A message without these headers is counted as a ghost.
                name(delivery).unwrap_or_else(|error| EventName {
                    user: format!("{error:#}"),
                    revision: 0,
                    id: delivery.id().unwrap_or_default().to_owned(),
                })
            });
            note(&noted, names);
            batch.ack().await;
        }
    }
}

fn note(noted: &Mutex<Vec<EventName>>, names: impl Iterator<Item = EventName>) {
    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
    noted.extend(names);
}

fn name(delivery: &Delivery) -> Result<EventName> {
    let header = |name: &str| delivery.header(name).context("a header is missing");
    Ok(EventName {
        user: header("cloudEvents:subject")?.to_owned(),
        revision: header("cloudEvents:sequence")?.parse()?,
        id: header("cloudEvents:id")?.to_owned(),
    })
}
