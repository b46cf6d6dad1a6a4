//! Programs in Node and Python that consume the events of users, and validate each message against the served schemas.

use anyhow::{Context, Result, ensure};
use event_streams::{Expected, NewEvent};
use private_broker::PrivateBroker;
use reqwest::Method;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::Stdio;
use system_tests::client::{Answer, id, user};
use system_tests::system::Node;
use system_tests::{Part, System, unique, wait};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use users_service::contracts;

/// The programs, with the packages that `scripts/consumers` installs.
const CONSUMERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/consumers");
/// No projector, because it would find the planted messages too.
const PARTS: [Part; 4] = [Part::Store, Part::Uuids, Part::Api, Part::Publisher];
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A program that prints a line for each message.
struct Consumer {
    lines: Lines<BufReader<ChildStdout>>,
    _killed_when_dropped: Child,
}

impl Consumer {
    /// Starts the program, and returns when its queue is bound.
    async fn start(
        (program, script): (&str, &str),
        system: &System,
        amqp_url: &str,
    ) -> Result<Self> {
        let address = system.address(Part::Api).context("an address")?;
        let mut child = Command::new(program)
            .arg(format!("{CONSUMERS}/{script}"))
            .env("AMQP_URL", amqp_url)
            .env("USERS_URL", format!("http://{address}"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{program} does not start: run scripts/consumers"))?;
        let stdout = child.stdout.take().context("a pipe")?;
        let mut consumer = Self {
            lines: BufReader::new(stdout).lines(),
            _killed_when_dropped: child,
        };
        let ready = consumer.next().await?;
        ensure!(ready == json!({"ready": true}), "{ready}");
        Ok(consumer)
    }

    /// What the program says about the next message.
    async fn next(&mut self) -> Result<Value> {
        let line = tokio::time::timeout(wait::DEADLINE, self.lines.next_line()).await;
        let line = line.context("no message came")??;
        Ok(serde_json::from_str(&line.context("the consumer ended")?)?)
    }

    /// What it says about the next messages that it has not seen before. It may find none of them wrong.
    async fn next_new(&mut self, count: usize) -> Result<Vec<Value>> {
        let mut messages = Vec::new();
        while messages.len() < count {
            let message = self.next().await?;
            ensure!(message["errors"] == json!([]), "{message}");
            if message["repeated"] == false {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    /// What it says about this very message.
    async fn about(&mut self, message: &Value) -> Result<Value> {
        loop {
            let said = self.next().await?;
            if said["headers"] == message["headers"] && said["data"] == message["data"] {
                return Ok(said);
            }
        }
    }
}

/// The types and revisions of the messages about this user.
fn seen<'a>(messages: &'a [Value], user: &str) -> Vec<(&'a str, u64)> {
    let about = messages.iter().filter(|message| message["user"] == user);
    about
        .filter_map(|message| Some((message["type"].as_str()?, message["revision"].as_u64()?)))
        .collect()
}

/// A creation, a change and a deletion over HTTP, and a fence. Returns the deleted user.
async fn live(system: &System) -> Result<Value> {
    let users = system.users()?;
    let create = users.request(Method::POST, "/").json(&user(&unique("ada")));
    let create = create.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    let ada = Answer::to(create).await?.expect(201)?.body;
    let changes = json!({"given_name": "Augusta"});
    users.patch(id(&ada), &changes).await?.expect(204)?;
    let fence = NewEvent {
        id: uuid::Uuid::new_v4(),
        event_type: "RegistrationAbandoned.v1".into(),
        data: "{}".into(),
        metadata: "".into(),
    };
    let store = system.store()?;
    store
        .append("users-77", Expected::NoStream, vec![fence])
        .await?;
    Ok(ada)
}

/// Lets a consumer see every kind of message, and then messages that break their schemas.
async fn consumes(program: &str, script: &str) -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let mut system = System::prepare(&PARTS, broker, &url, "info")?;
    let [store, uuids, api, publisher] = PARTS;
    for part in [store, uuids, api] {
        system.start_part(part).await?;
    }
    system.serves(uuids).await?;
    system.serves(api).await?;
    let users = system.users()?;
    // This user is deleted before the creation is published, so the names in it are erased.
    let eda = users.created(&unique("eda")).await?;
    users.delete(id(&eda)).await?.expect(204)?;
    let mut consumer = Consumer::start((program, script), &system, &url).await?;
    system.start_part(publisher).await?;
    let erased = consumer.next_new(2).await?;
    let expected = [("user.created.v1", 0), ("user.deleted.v1", 1)];
    ensure!(seen(&erased, id(&eda)) == expected, "{erased:#?}");
    ensure!(erased[0]["data"] == json!({"id": id(&eda), "erased": true}));

    let ada = live(&system).await?;
    let mut messages = consumer.next_new(3).await?;
    users.delete(id(&ada)).await?.expect(204)?;
    messages.extend(consumer.next_new(1).await?);
    let expected = [
        ("user.created.v1", 0),
        ("user.patched.v1", 1),
        ("user.deleted.v1", 2),
    ];
    ensure!(seen(&messages, id(&ada)) == expected, "{messages:#?}");
    ensure!(seen(&messages, "77") == [("user.fenced.v1", 0)]);
    let created = messages.iter().find(|it| it["type"] == "user.created.v1");
    let created = created.context("a creation")?;
    let trace = &created["headers"]["cloudEvents:traceparent"];
    let trace = trace.as_str().context("a trace")?;
    ensure!(trace.starts_with(&format!("00-{TRACE}-")), "{trace}");

    finds_planted_messages(&system, &mut consumer, created).await
}

/// The message again, which is right, and then with one fault each.
async fn finds_planted_messages(
    system: &System,
    consumer: &mut Consumer,
    created: &Value,
) -> Result<()> {
    let publish = async |message: &Value| {
        let headers = &message["headers"];
        let properties = json!({"message_id": headers["cloudEvents:id"], "headers": headers});
        let body = message["data"].to_string();
        let routing_key = created["type"].as_str().context("a type")?;
        system
            .publish("users", routing_key, (properties, &body))
            .await
    };
    publish(created).await?;
    let again = consumer.about(created).await?;
    ensure!(again["errors"] == json!([]), "{again}");
    ensure!(again["repeated"] == true, "{again}");
    for (pointer, fault) in [
        ("/data/id", json!(77)),
        ("/data/key", json!("no key")),
        ("/data/sealed", json!({"username": "Ada Lovelace"})),
        ("/headers/cloudEvents:type", json!("user.praised.v1")),
        ("/headers/cloudEvents:specversion", json!("2.0")),
        ("/headers/cloudEvents:time", json!("yesterday")),
        ("/headers/cloudEvents:partitionkey", json!("Ada")),
        ("/headers/cloudEvents:traceparent", json!("00-0")),
    ] {
        let mut planted = created.clone();
        *planted.pointer_mut(pointer).context(pointer)? = fault;
        publish(&planted).await?;
        let report = consumer.about(&planted).await?;
        ensure!(report["errors"] != json!([]), "{pointer}: {report}");
    }
    let garbage = (json!({}), "no JSON");
    system.publish("users", "user.created.v1", garbage).await?;
    let report = consumer.next().await?;
    ensure!(report["errors"] != json!([]), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_consumer_in_node_finds_every_message_as_its_schema_says_and_reports_planted_ones()
-> Result<()> {
    consumes("node", "node/consumer.js").await
}

#[tokio::test]
async fn a_consumer_in_python_finds_every_message_as_its_schema_says_and_reports_planted_ones()
-> Result<()> {
    let python = format!("{CONSUMERS}/python/.venv/bin/python");
    consumes(&python, "python/consumer.py").await
}

/// Validates values against the schemas with these names, and returns the errors of each.
pub(crate) async fn errors_of(values: &[(&str, Value)]) -> Result<Vec<Value>> {
    let input = json!({"schemas": contracts::schemas(), "values": values});
    let (went_well, printed) = run_node("validate.js", &input.to_string()).await?;
    ensure!(went_well, "{printed}");
    let lines = printed.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// Whether the script goes well with this input, and what it prints.
async fn run_node(script: &str, input: &str) -> Result<(bool, String)> {
    let mut node = Command::new("node")
        .arg(format!("{CONSUMERS}/node/{script}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = node.stdin.take().context("a pipe")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = node.wait_with_output().await?;
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    write!(printed, "{}", String::from_utf8_lossy(&output.stderr))?;
    Ok((output.status.success(), printed))
}

#[tokio::test]
async fn the_parser_of_the_asyncapi_project_accepts_the_document_and_reports_planted_faults()
-> Result<()> {
    let document = contracts::text(&contracts::asyncapi());
    let (accepted, printed) = run_node("parse-asyncapi.js", &document).await?;
    ensure!(accepted, "{printed}");
    ensure!(printed == "accepted: 8 messages\n", "{printed}");
    for (pointer, fault, reported) in [
        ("/info", json!({"title": "users-service"}), "version"),
        ("/operations/execute/action", json!("take"), "action"),
        (
            "/operations/execute/channel/$ref",
            json!("#/channels/orders"),
            "orders",
        ),
        (
            "/components/schemas/user.deleted.v1/type",
            json!("text"),
            "type",
        ),
    ] {
        let mut planted = contracts::asyncapi();
        *planted.pointer_mut(pointer).context(pointer)? = fault;
        let (accepted, printed) = run_node("parse-asyncapi.js", &planted.to_string()).await?;
        ensure!(
            !accepted && printed.contains(reported),
            "{pointer}: {printed}"
        );
    }
    Ok(())
}
