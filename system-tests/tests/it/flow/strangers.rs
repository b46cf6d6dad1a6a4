//! Messages that a stranger sends to the read model: with the administrator's account, because that of other teams may send none.

use super::{QUEUES, in_long_form, waiting};
use anyhow::{Context as _, Result, bail, ensure};
use messaging::{
    Binding, Broker, Consumer, Delivery, Destination, Incoming, Message, Publisher, Queue,
    QueueKind, Topology,
};
use private_broker::PrivateBroker;
use std::borrow::Cow;
use system_tests::client::{Answer, http, id};
use system_tests::deliveries::user_log;
use system_tests::flow::Flow;
use system_tests::process::Process;
use system_tests::system::{Node, System};
use system_tests::{Part, unique, wait};
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
const COPIED: usize = 150;
/// A message is tried three times after its first delivery.
const MOST_DEATHS: usize = 10;
const PROGRAM: &str = "users-service-failpoints";

/// Copies messages and sends them to the queues of the list.
struct Stranger {
    copies: Consumer,
    sender: Publisher,
}

impl Stranger {
    async fn begin(system: &System) -> Result<Self> {
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
    async fn copied(&mut self, count: usize) -> Result<Vec<Message>> {
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

    async fn send(&self, messages: impl IntoIterator<Item = Message>) -> Result<usize> {
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

fn projector(system: &mut System) -> Result<&mut Process> {
    let mut processes = system.processes();
    let projector = processes.find(|(part, _)| *part == Part::Projector);
    projector.map(|(_, process)| process).context("a projector")
}

/// The route of held users.
fn held(system: &System) -> Result<String> {
    let address = system.address(Part::Projector).context("an address")?;
    Ok(format!("http://{address}/operations/held"))
}

/// Starts the projector again and again until it lives and has no message left, or holds a user. Returns how often it died.
async fn deaths(system: &mut System) -> Result<usize> {
    let broker = PrivateBroker::shared().await;
    let (url, list) = (system.amqp_url(), http()?.get(held(system)?));
    let projector = projector(system)?;
    for deaths in 0..MOST_DEATHS {
        projector.start()?;
        let done = wait::until("every message is done, or a user is held", || async {
            let list = list.try_clone().context("a request without a body")?;
            let held = Answer::to(list).await?.expect(200)?.body;
            let waiting = waiting(broker, &url, &QUEUES).await?;
            ensure!(held["total"] == 1 || waiting == 0, "{held}, {waiting}");
            Ok(())
        });
        tokio::select! {
            done = done => return done.map(|()| deaths),
            end = projector.until_ended() => {
                let end = end?;
                ensure!(end.starts_with("signal: 6"), "{end}");
            }
        }
    }
    bail!("the message kills every projector")
}

/// The user's event may be applied from the log before its message kills the process, and then nobody is held.
#[tokio::test]
async fn a_message_that_kills_the_process_is_given_up_and_delays_no_other() -> Result<()> {
    let mut flow = Flow::start(Node::Shared(PrivateBroker::shared().await)).await?;
    let mut stranger = Stranger::begin(&flow.system).await?;
    flow.system.kill(Part::Projector)?;
    let messages = in_long_form(1_000, 100_000);
    let ada = flow.system.users()?.created(&unique("ada")).await?;
    let (log, _) = user_log(&flow.system.store()?).await?;
    let poison = log.last().context("an event")?.id.clone();
    flow.expect(id(&ada), ada.clone());
    flow.under_traffic(async |_, _| {
        let genuine = stranger.copied(COPIED).await?;
        let repeats = genuine.iter().skip(1).cycle().take(messages);
        stranger.send(repeats.cloned()).await.map(drop)
    })
    .await?;
    flow.published().await?;
    let victim = projector(&mut flow.system)?;
    victim.set_program(PROGRAM)?;
    victim.set_variable("FAILPOINTS", format!("directory-{poison}=return"));
    let deaths = deaths(&mut flow.system).await?;
    // The first attempt is not counted, because the message was not delivered before. Three are.
    ensure!((1..=4).contains(&deaths), "{deaths} deaths");
    flow.under_traffic(async |_, traffic| traffic.more(60).await)
        .await?;
    let held = held(&flow.system)?;
    let all = Answer::to(http()?.get(&held)).await?.expect(200)?.body;
    if all["total"] != 0 {
        ensure!(
            all["total"] == 1 && all["data"][0]["user"] == id(&ada),
            "{all}"
        );
        let replay = http()?.post(format!("{held}/{}/replay", id(&ada)));
        let replayed = Answer::to(replay).await?.expect(200)?.body;
        ensure!(replayed["held"].is_null(), "{replayed}");
    }
    let what = "a message that killed the process";
    flow.verdict(&format!(
        "{what} {deaths} times, among {messages}; held: {}",
        all["total"]
    ))
    .await
}
