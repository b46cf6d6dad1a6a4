//! Personal data is only where it must be. The tests prove it by searching all files for canary values.

use anyhow::{Context, Result, ensure};
use event_streams::ReadError;
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use system_tests::client::Answer;
use system_tests::search::{Search, canary, canary_name};
use system_tests::system::Node;
use system_tests::{Part, System, wait};

/// A queue of the test that gets a copy of every message.
const COPY: &str = "copy";

async fn copy_every_message(system: &System) -> Result<()> {
    let queue = json!({"durable": true, "arguments": {}});
    system.management("PUT", "queues", COPY, &queue).await?;
    let binding = json!({"routing_key": "#", "arguments": {}});
    let rest = format!("e/users/q/{COPY}");
    system
        .management("POST", "bindings", &rest, &binding)
        .await?;
    Ok(())
}

/// So many changes of a user that a snapshot is written.
const CHANGES: usize = 100;

fn snapshot_of(id: &str) -> String {
    format!("snapshot-1-users-{id}")
}

/// A text in the log line of a request, which is logged below the default level.
const LOGGED: &str = r#""route":"/{id}""#;

/// A system that logs at TRACE, and the values that must not appear in its files.
struct Watched {
    system: System,
    canaries: Vec<String>,
    search: Search,
}

impl Watched {
    async fn start() -> Result<Self> {
        let broker = Node::own().await?;
        let system = System::of(&Part::ROLES, broker, "trace").await?;
        copy_every_message(&system).await?;
        let names = || [canary_name(), canary(), canary()];
        let canaries = [names(), names()].concat();
        let search = Search::for_values(&canaries)?;
        Ok(Self {
            system,
            canaries,
            search,
        })
    }

    /// Creates a user with the first three canaries, changes them to the last three, and provokes refusals and errors with
    /// the same values. Returns the id.
    async fn live(&self) -> Result<String> {
        let users = self.system.users()?;
        let c = &self.canaries;
        let new = json!({"username": c[0], "given_name": c[1], "family_name": c[2]});
        // An idempotency key is a text of the caller, so it may be personal.
        let keyed = |method, path: &str, name: usize| {
            let key = c[name].replace('é', "e");
            users.request(method, path).header("Idempotency-Key", key)
        };
        let create = || Answer::to(keyed(Method::POST, "/", 0).json(&new));
        let id = create().await?.expect(201)?.id()?;
        create().await?.expect(201)?;
        users.create(&new).await?.expect(409)?;
        Answer::to(keyed(Method::POST, "/", 1).json(&new))
            .await?
            .expect(409)?;
        let changes = json!({"username": c[3], "given_name": c[4], "family_name": c[5]});
        let patch = keyed(Method::PATCH, &format!("/{id}"), 3).json(&changes);
        Answer::to(patch).await?.expect(204)?;
        self.defer(&id, &changes).await?;
        self.grow(&id).await?;
        users.get(&id).await?.expect(200)?;
        let with_a_mistake = json!({"username": c[0], "given_name": c[1], "family_name": 1});
        users.create(&with_a_mistake).await?.expect(422)?;
        let cut = new.to_string();
        let malformed = users
            .request(Method::POST, "/")
            .header("content-type", "application/json");
        let malformed = malformed.body(cut[..cut.len() - 3].to_owned());
        ensure!(malformed.send().await?.status() == 400);
        for path in [
            format!("/{}", c[0]),
            format!("/?cursor={}", c[1]),
            format!("/?{}=1", c[2]),
        ] {
            users.request(Method::GET, &path).send().await?;
        }
        Ok(id)
    }

    /// Sends a change through the queue of commands. It changes nothing.
    async fn defer(&self, id: &str, changes: &Value) -> Result<()> {
        let users = self.system.users()?;
        let patch = users.request(Method::PATCH, &format!("/{id}"));
        let patch = patch.header("Prefer", "respond-async").json(changes);
        let accepted = Answer::to(patch).await?.expect(202)?;
        let status = accepted.location.context("a location")?;
        wait::until("the change is done", || async {
            let status = Answer::to(users.request(Method::GET, &status)).await?;
            let status = status.expect(200)?.body;
            ensure!(status["status"] == "done", "{status}");
            Ok(())
        })
        .await
    }

    /// Changes the user until there is a snapshot, and back to the last three canaries.
    async fn grow(&self, id: &str) -> Result<()> {
        let (users, c) = (self.system.users()?, &self.canaries);
        for change in 0..CHANGES {
            let changes = json!({"given_name": c[if change % 2 == 0 { 1 } else { 4 }]});
            users.patch(id, &changes).await?.expect(204)?;
        }
        let (store, stream) = (self.system.store()?, snapshot_of(id));
        wait::until("there is a snapshot", || async {
            ensure!(store.read_last(&stream).await?.is_some(), "not yet");
            Ok(())
        })
        .await
    }

    async fn listed(&self, count: usize) -> Result<()> {
        let users = self.system.users()?;
        wait::until(&format!("{count} users are listed"), || async {
            let listed = users.list(10).await?;
            ensure!(listed.len() == count, "{listed:?}");
            Ok(())
        })
        .await
    }

    fn logs(&self) -> Vec<PathBuf> {
        let name = |part: &Part| format!("{part:?}.log").to_lowercase();
        let logs = Part::ROLES.iter().map(name);
        logs.map(|log| self.system.folder().join(log)).collect()
    }

    /// Fails if a file in these places contains a canary. It also fails if no file contains the witness, because then the
    /// search looked in the wrong place.
    fn not_in(&self, places: &[PathBuf], witness: &str) -> Result<()> {
        let places: Vec<_> = places.iter().map(PathBuf::as_path).collect();
        let witnesses = Search::for_texts(&[witness])?.in_files(&places)?;
        let found = !witnesses.found.is_empty();
        ensure!(found, "{witness} is not in {places:?}");
        let canaries = self.search.in_files(&places)?.found;
        ensure!(canaries.is_empty(), "personal data in {canaries:?}");
        Ok(())
    }

    fn store(&self) -> PathBuf {
        self.system.folder().join("store")
    }

    /// The folder of the read model and the keys.
    fn users(&self) -> PathBuf {
        self.system.folder().join("users")
    }

    async fn nowhere_in_clear(&self, id: &str) -> Result<()> {
        self.not_in(&[self.store()], &format!("users-{id}"))?;
        self.not_in(&[self.store()], "command-")?;
        self.not_in(&[self.store()], &snapshot_of(id))?;
        self.not_in(&[self.system.broker_folder().await?], id)?;
        self.not_in(&[self.users()], "given_name")?;
        self.not_in(&self.logs(), LOGGED)
    }
}

/// Waits until the copy has all messages of the user, and searches them including their headers. Returns the id of the key
/// under which the user's data is sealed.
async fn messages_are_clean(watched: &Watched, id: &str, count: usize) -> Result<String> {
    let messages = wait::until("every event has its message", || async {
        let messages = watched.system.messages(COPY).await?;
        ensure!(messages.len() >= count, "{messages:?}");
        Ok(messages)
    })
    .await?;
    for message in &messages {
        let headers = &message["properties"]["headers"];
        ensure!(
            headers["cloudEvents:subject"] == id,
            "the message belongs to another user: {message}"
        );
        ensure!(
            !watched.search.finds_in(message.to_string().as_bytes()),
            "{message}"
        );
    }
    let created = messages[0]["payload"].as_str().context("a payload")?;
    let created: Value = serde_json::from_str(created)?;
    Ok(created["key"].as_str().context("a key id")?.to_owned())
}

async fn erased(watched: &Watched, id: &str) -> Result<()> {
    let store = watched.system.store()?;
    let stream = format!("users-{id}");
    wait::until("the eraser has finished", || async {
        let read = store.read_last(&stream).await;
        ensure!(read == Err(ReadError::StreamDeleted), "{read:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn personal_data_is_nowhere_in_clear_and_gone_after_delete() -> Result<()> {
    let watched = Watched::start().await?;
    let system = &watched.system;
    let id = watched.live().await?;
    watched.listed(1).await?;
    let key = messages_are_clean(&watched, &id, 2 + CHANGES).await?;
    watched.nowhere_in_clear(&id).await?;
    // The data in the read model is sealed, so the search looks for the key id that the row names. It must disappear.
    let row = Search::for_texts(&[&key])?;
    let held = row.in_files(&[&watched.users()])?.found;
    ensure!(!held.is_empty(), "the read model does not hold the user");

    system.users()?.delete(&id).await?.expect(204)?;
    watched.listed(0).await?;
    erased(&watched, &id).await?;
    wait::until("the read model has nothing of the user", || async {
        let left = row.in_files(&[&watched.users()])?.found;
        ensure!(left.is_empty(), "the row is in {left:?}");
        Ok(())
    })
    .await?;
    messages_are_clean(&watched, &id, 3 + CHANGES).await?;
    watched.nowhere_in_clear(&id).await?;
    planted_data_is_found(&watched, &id).await
}

/// A plain message of another program may stay in the broker's files for a while, but nowhere else.
#[tokio::test]
async fn names_in_plain_commands_are_in_no_log_and_no_other_file_of_ours() -> Result<()> {
    let watched = Watched::start().await?;
    let (system, c) = (&watched.system, &watched.canaries);
    let names = json!({"username": c[0], "given_name": c[1], "family_name": c[2]});
    let create = json!({"command": "CreateUser", "data": names}).to_string();
    let malformed = create[..create.len() - 1].to_owned();
    let unknown = json!({"command": c[3], "data": {}}).to_string();
    let mut wrong = names.clone();
    wrong[&c[4]] = json!(1);
    let wrong = json!({"command": "CreateUser", "data": wrong}).to_string();
    let properties = json!({"message_id": c[5].replace('é', "e"), "correlation_id": c[4]});
    for text in [&create, &malformed, &unknown, &wrong, &create] {
        let message = (properties.clone(), text.as_str());
        system.publish("amq.default", "users", message).await?;
    }
    watched.listed(1).await?;
    wait::until("both dead letters are there", || async {
        let dead = system.messages("users.dead").await?;
        ensure!(dead.len() == 2, "{dead:?}");
        let shown: Vec<_> = dead
            .iter()
            .map(|dead| &dead["properties"]["headers"])
            .collect();
        let shown = json!(shown).to_string();
        ensure!(!watched.search.finds_in(shown.as_bytes()), "{shown}");
        Ok(())
    })
    .await?;
    wait::until("the queue is empty", || async {
        let waiting = system.messages("users").await?;
        ensure!(waiting.is_empty(), "{waiting:?}");
        Ok(())
    })
    .await?;
    watched.not_in(&[watched.store()], "command-")?;
    watched.not_in(&[watched.users()], "given_name")?;
    watched.not_in(&watched.logs(), "a message goes to the dead-letter queue")
}

/// The control of all searches above: the same search finds a value that was planted in the searched folder.
async fn planted_data_is_found(watched: &Watched, id: &str) -> Result<()> {
    let planted = watched.store().join("planted");
    let value = Value::from(watched.canaries[5].clone()).to_string();
    fs::write(&planted, format!("before {value} after")).context("plant")?;
    let failure = watched.nowhere_in_clear(id).await.err();
    let failure = failure.context("a planted value was not found")?;
    ensure!(failure.to_string().contains("planted"), "{failure}");
    Ok(())
}
