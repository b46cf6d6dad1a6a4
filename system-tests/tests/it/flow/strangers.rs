//! Messages that a stranger sends to the read model: with the administrator's account, because that of other teams may send none.

use super::{QUEUES, waiting};
use anyhow::{Context as _, Result, ensure};
use messaging::{
    Binding, Broker, Consumer, Delivery, Destination, Incoming, Message, Publisher, Queue,
    QueueKind, Topology,
};
use private_broker::PrivateBroker;
use std::borrow::Cow;
use system_tests::flow::Flow;
use system_tests::system::{Node, System};
use system_tests::wait;
use users_service::integration::consumer::READERS;

/// The exchange of the list's queues.
const LIST: &str = "users.directory.g1";
const COPIES: &str = "copies";
const HEADERS: [&str; 9] = [
    "cloudEvents:specversion",
    "cloudEvents:id",
    "cloudEvents:type",
    "cloudEvents:source",
    "cloudEvents:subject",
    "cloudEvents:sequence",
    "cloudEvents:partitionkey",
    "cloudEvents:time",
    "cloudEvents:traceparent",
];
/// How many messages are copied, and sent again in several ways.
pub(super) const COPIED: usize = 150;

/// Copies messages and sends them to the queues of the list.
pub(super) struct Stranger {
    copies: Consumer,
    sender: Publisher,
}

impl Stranger {
    pub(super) async fn begin(system: &System) -> Result<Self> {
        let broker = Broker::connect(&system.amqp_url(), "stranger")?;
        let topology = Topology {
            exchanges: Vec::new(),
            queues: vec![Queue {
                name: COPIES.to_owned(),
                kind: QueueKind::Log,
            }],
            bindings: vec![Binding {
                source: READERS.to_owned(),
                destination: Destination::Queue(COPIES.to_owned()),
                routing_key: "#".to_owned(),
            }],
        };
        let mut copies = Consumer::new(broker.clone(), topology, COPIES.to_owned(), 500);
        let opened = copies.next(1).await;
        ensure!(matches!(opened, Incoming::Opened { .. }), "{opened:?}");
        let sender = Publisher::new(broker, Topology::default());
        Ok(Self { copies, sender })
    }

    /// The next messages, in their order.
    pub(super) async fn copied(&mut self, count: usize) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        while messages.len() < count {
            if let Incoming::Batch(batch) = self.copies.next(250).await {
                messages.extend(batch.deliveries.iter().map(copy));
                batch.ack().await;
            }
        }
        messages.truncate(count);
        Ok(messages)
    }

    pub(super) async fn send(&self, messages: impl IntoIterator<Item = Message>) -> Result<usize> {
        let mut confirms = Vec::new();
        for message in messages {
            confirms.push(self.sender.send(message).await?);
        }
        let count = confirms.len();
        for confirm in confirms {
            confirm.await?;
        }
        Ok(count)
    }
}

fn copy(delivery: &Delivery) -> Message {
    let header = |name: &&str| Some(((*name).to_owned(), delivery.header(name)?.to_owned()));
    Message {
        exchange: LIST.to_owned(),
        routing_key: "copied".to_owned(),
        id: delivery.id().unwrap_or_default().to_owned(),
        content_type: Cow::Borrowed("application/json"),
        headers: HEADERS.iter().filter_map(header).collect(),
        body: delivery.body.clone(),
    }
}

fn header<'a>(message: &'a mut Message, name: &str) -> Result<&'a mut String> {
    let mut headers = message.headers.iter_mut();
    let header = headers.find(|(header, _)| header == name);
    header.map(|(_, value)| value).context("a header")
}

/// The same message with this header changed.
fn with(message: &Message, name: &str, value: String) -> Result<Message> {
    let mut altered = message.clone();
    *header(&mut altered, name)? = value;
    Ok(altered)
}

/// The message with half its body.
fn truncated(message: &Message) -> Message {
    let mut truncated = message.clone();
    truncated.body.truncate(message.body.len() / 2);
    truncated
}

/// An event that the log does not have: far ahead, and under an id of its own.
fn invented(message: &Message) -> Result<Message> {
    let invented = with(message, "cloudEvents:sequence", "1000000".to_owned())?;
    with(
        &invented,
        "cloudEvents:id",
        uuid::Uuid::new_v4().to_string(),
    )
}

/// The names of each message under the user and place of the next one of another user.
fn exchanged(messages: &[Message]) -> Vec<Message> {
    let mut bodies: Vec<_> = messages
        .iter()
        .map(|message| message.body.clone())
        .collect();
    bodies.rotate_left(1);
    let exchanged = messages.iter().zip(bodies);
    exchanged
        .map(|(message, body)| Message {
            body,
            ..message.clone()
        })
        .collect()
}

async fn dead_letters(system: &System) -> Result<u64> {
    let dead = QUEUES.map(|queue| format!("{queue}.dead"));
    waiting(
        &system.broker,
        &system.amqp_url(),
        &dead.each_ref().map(String::as_str),
    )
    .await
}

#[tokio::test]
async fn what_a_stranger_sends_to_the_list_changes_nothing_in_it() -> Result<()> {
    let mut flow = Flow::start(Node::Shared(PrivateBroker::shared().await)).await?;
    let mut stranger = Stranger::begin(&flow.system).await?;
    let mut truncations = 0;
    flow.under_traffic(async |_, _| {
        let genuine = stranger.copied(COPIED).await?;
        let mut backwards = genuine.clone();
        backwards.reverse();
        // The first events of users are stale by now.
        let sent = stranger.send(genuine.clone()).await?
            + stranger.send(backwards).await?
            + stranger.send(exchanged(&genuine)).await?;
        ensure!(sent == 3 * COPIED);
        let invented = genuine.iter().map(invented).collect::<Result<Vec<_>>>()?;
        stranger.send(invented).await?;
        truncations = stranger.send(genuine.iter().map(truncated)).await?;
        Ok(())
    })
    .await?;
    let truncations = u64::try_from(truncations)?;
    wait::until("truncated messages are dead letters", || async {
        let dead = dead_letters(&flow.system).await?;
        ensure!(dead >= truncations, "{dead}");
        Ok(())
    })
    .await?;
    let dead = dead_letters(&flow.system).await?;
    flow.verdict(&format!(
        "{COPIED} messages repeated, reversed, exchanged, invented, truncated ({dead} dead letters)"
    ))
    .await
}
