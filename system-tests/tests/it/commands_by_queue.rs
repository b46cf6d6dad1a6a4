//! Commands over the queue `users`, with real processes: a client in Node, a store that is away, and a message that kills.

use crate::consumers::errors_of;
use anyhow::{Context, Result, ensure};
use private_broker::PrivateBroker;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Command;
use system_tests::client::{id, user};
use system_tests::system::Node;
use system_tests::{Answer, Part, System, Users, unique, wait};

/// Runs a script with the npm packages that `scripts/node-baseline` installs.
const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../loadtest/node-baseline/run");
/// The list is in readiness, so the part that builds it is there.
const PARTS: [Part; 4] = [Part::Store, Part::Uuids, Part::Api, Part::Projector];
const DEAD: &str = "users.dead";
/// The log line of each attempt at a command.
const TRIED: &str = "a command of the queue is tried";

fn text(command: &str, data: &Value) -> String {
    json!({"command": command, "data": data}).to_string()
}

async fn send(system: &System, message_id: &str, text: &str) -> Result<()> {
    let properties = json!({"message_id": message_id, "delivery_mode": 2});
    system
        .publish("amq.default", "users", (properties, text))
        .await
}

/// Sends the messages from Node, and returns the replies.
async fn send_from_node(amqp_url: &str, messages: Vec<String>) -> Result<Vec<Value>> {
    let mut command = Command::new(RUN);
    command.arg("send-commands.js").args(messages);
    command.env("AMQP_URL", amqp_url);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let failure = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{printed}{failure}");
    let replies = printed.lines().map(serde_json::from_str);
    Ok(replies.collect::<Result<_, _>>()?)
}

async fn read(users: &Users, id: &str, status: u16) -> Result<Value> {
    Ok(users.get(id).await?.expect(status)?.body)
}

#[tokio::test]
async fn a_client_that_asserts_the_queue_as_the_original_does_sends_commands_from_node()
-> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    // The client declares the queue before the service does, and again when the service has.
    ensure!(send_from_node(&url, Vec::new()).await?.is_empty());
    let mut system = System::prepare(&PARTS, broker, &url, "info")?;
    for part in PARTS {
        system.start_part(part).await?;
    }
    system.ready().await?;
    let users = system.users()?;
    let mut ada = user(&unique("ada"));
    ada["id"] = json!("1509466340062097408");
    let create = text("CreateUser", &ada);
    let created = send_from_node(&url, vec![create.clone(), create]).await?;
    ensure!(created[0]["status"] == 201, "{created:?}");
    ensure!(created[0]["id"] == ada["id"], "{created:?}");
    ensure!(created[1]["status"] == 409, "{created:?}");
    ensure!(read(&users, id(&ada), 200).await? == ada);
    let changes = json!({"id": ada["id"], "given_name": "Augusta"});
    let patched = send_from_node(&url, vec![text("PatchUser", &changes)]).await?;
    ensure!(patched[0]["status"] == 204, "{patched:?}");
    ada["given_name"] = json!("Augusta");
    ensure!(read(&users, id(&ada), 200).await? == ada);
    let delete = text("DeleteUser", &json!({"id": ada["id"]}));
    let deleted = send_from_node(&url, vec![delete.clone(), delete]).await?;
    ensure!(deleted[0]["status"] == 204, "{deleted:?}");
    ensure!(deleted[1]["status"] == 404, "{deleted:?}");
    read(&users, id(&ada), 404).await?;
    Ok(())
}

#[tokio::test]
async fn a_command_waits_for_the_store_and_is_executed_once() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let mut system = System::of(&PARTS, broker, "info").await?;
    let name = unique("ada");
    system.kill(Part::Store)?;
    for _ in 0..3 {
        send(&system, "k", &text("CreateUser", &user(&name))).await?;
    }
    wait::until("readiness says that the commands wait", || async {
        let (_, readiness) = system.readiness(Part::Api).await?;
        let state = &readiness["dependencies"]["commands over the queue"];
        let state = state.as_str().context("a state")?;
        ensure!(state.contains("3 waiting"), "{readiness}");
        Ok(())
    })
    .await?;
    system.kill(Part::Api)?;
    system.start_part(Part::Store).await?;
    system.start_part(Part::Api).await?;
    system.ready().await?;
    let created = async || {
        let page = system.store()?.read_all(&["users-"], None, 100).await?;
        let created = page.events.iter();
        let created = created.filter(|event| event.event_type == "UserCreated.v1");
        anyhow::Ok(created.count())
    };
    wait::until("the user exists, and no message is left", || async {
        ensure!(created().await? == 1, "no user, or two");
        let queue = system.management("GET", "queues", "users", &Value::Null);
        let left = queue.await?["messages"].as_u64();
        ensure!(left == Some(0), "{left:?}");
        Ok(())
    })
    .await?;
    ensure!(created().await? == 1, "two users");
    ensure!(system.messages(DEAD).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_settings_make_the_queue_a_quorum_queue_for_our_own_commands_only() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let mut system = System::prepare(&PARTS, broker, &url, "info")?;
    system.set(Part::Api, "COMMANDS_QUEUE", "quorum")?;
    system.set(Part::Api, "COMMANDS_PLAIN", "refuse")?;
    for part in PARTS {
        system.start_part(part).await?;
    }
    system.ready().await?;
    let queue = system.management("GET", "queues", "users", &Value::Null);
    ensure!(queue.await?["type"] == "quorum");
    send(&system, "plain", &text("CreateUser", &user(&unique("ada")))).await?;
    let users = system.users()?;
    let post = users.request(Method::POST, "/").json(&user(&unique("bob")));
    let accepted = Answer::to(post.header("Prefer", "respond-async")).await?;
    let status = accepted.expect(202)?.location.context("a location")?;
    wait::until(
        "our own command is done, and the plain one is dead",
        || async {
            let status = Answer::to(users.request(Method::GET, &status)).await?;
            let status = status.expect(200)?.body;
            ensure!(status["result"]["status"] == 201, "{status}");
            let dead = system.messages(DEAD).await?;
            ensure!(dead.len() == 1, "{dead:?}");
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn commands_and_replies_are_as_their_schemas_say() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let mut system = System::prepare(&PARTS, broker, &url, "info")?;
    for part in PARTS {
        system.start_part(part).await?;
    }
    system.ready().await?;
    let mut ada = user(&unique("ada"));
    ada["id"] = json!("1509466340062097408");
    let changes = json!({"id": 1_509_466_340_062_097_408_u64, "given_name": "Augusta"});
    let nobody = json!({"id": ada["id"], "username": "", "age": 7});
    let delete = json!({"id": ada["id"]});
    let commands = [
        ("CreateUser", &ada, 201),
        ("CreateUser", &ada, 409),
        ("PatchUser", &changes, 204),
        ("PatchUser", &nobody, 422),
        ("DeleteUser", &delete, 204),
        ("DeleteUser", &delete, 404),
    ];
    let texts = commands.map(|(command, data, _)| text(command, data));
    let replies = send_from_node(&url, texts.to_vec()).await?;
    let mut values = Vec::new();
    for ((command, data, status), reply) in commands.into_iter().zip(&replies) {
        ensure!(reply["status"] == status, "{command} {reply}");
        values.push((command, json!({"command": command, "data": data})));
        values.push(("CommandReply", reply.clone()));
    }
    values.push(("CommandReply", json!({"status": "201"})));
    let errors = errors_of(&values).await?;
    for ((schema, value), errors) in values.iter().zip(&errors) {
        let is_wrong = value["data"] == nobody || value["status"] == "201";
        ensure!(
            (*errors != json!([])) == is_wrong,
            "{schema} {value}: {errors}"
        );
    }
    ensure!(errors.len() == values.len());
    Ok(())
}

/// Waits until the API has tried a command so many times since its first start.
async fn tried(system: &System, times: usize) -> Result<()> {
    wait::until(&format!("attempt {times} has begun"), || async {
        let log = system.log(Part::Api)?;
        ensure!(log.matches(TRIED).count() == times, "not yet");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_message_whose_process_is_killed_three_times_is_a_dead_letter() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let mut system = System::of(&PARTS, broker, "info,users_service=debug").await?;
    let users = system.users()?;
    let ada = users.created(&unique("ada")).await?;
    let changes = json!({"id": ada["id"], "given_name": "Augusta"});
    let poison = text("PatchUser", &changes);
    // A store that hangs keeps the attempt from ending.
    system.signal(Part::Store, "STOP")?;
    send(&system, "poison", &poison).await?;
    for times in 1..=3 {
        tried(&system, times).await?;
        system.kill(Part::Api)?;
        system.start_part(Part::Api).await?;
    }
    system.signal(Part::Store, "CONT")?;
    let dead = wait::until("the message is a dead letter", || async {
        let dead = system.messages(DEAD).await?;
        ensure!(dead.len() == 1, "{dead:?}");
        Ok(dead)
    })
    .await?;
    ensure!(dead[0]["payload"] == json!(poison), "{dead:?}");
    ensure!(dead[0]["properties"]["message_id"] == "poison", "{dead:?}");
    system.ready().await?;
    tried(&system, 3).await?;
    ensure!(read(&users, id(&ada), 200).await? == ada);
    let other = json!({"id": ada["id"], "given_name": "A."});
    send(&system, "other", &text("PatchUser", &other)).await?;
    wait::until("another change is made", || async {
        let read = read(&users, id(&ada), 200).await?;
        ensure!(read["given_name"] == "A.", "{read}");
        Ok(())
    })
    .await
}
