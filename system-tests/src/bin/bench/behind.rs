//! The speed at which a list catches up with missing users: through the queues, and by comparing the view with the log.

use anyhow::{Context, Result, ensure};
use event_streams::EventStreams;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde_json::Value;
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};
use system_tests::client::id;
use system_tests::system::Node;
use system_tests::{Answer, Part, System, Users, unique, wait};

const PARTS: [Part; 5] = [
    Part::Store,
    Part::Uuids,
    Part::Api,
    Part::Projector,
    Part::Publisher,
];

/// The number of users that are created at once.
const CONNECTIONS: usize = 64;
/// The largest page of the list.
const PAGE: usize = 1_000;
const QUEUES: usize = 4;

/// The times from the start of the part that delivers the users until the list has all of them.
#[derive(Debug)]
pub(crate) struct Behind {
    users: usize,
    by_queues: Duration,
    by_comparison: Duration,
}

/// Creates users in a separate system and measures how they reach the list in both ways. Fails unless each list has
/// exactly these users and no message was dead-lettered.
pub(crate) async fn measure(broker: Node, count: usize) -> Result<Behind> {
    let url = broker.vhost().await;
    let mut system = System::prepare(&PARTS, broker, &url, "info")?;
    let before_publishing = PARTS.iter().filter(|part| **part != Part::Publisher);
    for part in before_publishing {
        start(&mut system, *part).await?;
    }
    let users = system.users()?;
    eprintln!("creating {count} users that the list lacks");
    let (last, expected) = create(&users, count).await?;
    eprintln!("measuring how the list catches up through the queues");
    let by_queues = listed_after(&mut system, Part::Publisher, &expected).await?;
    until_published(&system.store()?, &last).await?;
    discard_view(&mut system).await?;
    start(&mut system, Part::Api).await?;
    eprintln!("measuring how the list catches up by comparison with the log");
    let by_comparison = listed_after(&mut system, Part::Projector, &expected).await?;
    for queue in 0..QUEUES {
        let dead = system.messages(&format!("{}.dead", name(queue))).await?;
        ensure!(dead.is_empty(), "dead-lettered: {dead:?}");
    }
    system.end();
    Ok(Behind {
        users: count,
        by_queues,
        by_comparison,
    })
}

fn name(queue: usize) -> String {
    format!("users.directory.g1.{queue}")
}

async fn start(system: &mut System, part: Part) -> Result<()> {
    system.start_part(part).await?;
    system.serves(part).await
}

/// Returns the ids of the users that were created last, and all users in the order of their ids.
async fn create(users: &Users, count: usize) -> Result<(Vec<String>, Vec<Value>)> {
    let prefix = unique("behind");
    let create = |number| {
        let name = format!("{prefix}-{number}");
        async move { users.created(&name).await }
    };
    let created = stream::iter(0..count).map(create);
    let mut all: Vec<Value> = created.buffer_unordered(CONNECTIONS).try_collect().await?;
    let last = all.iter().rev().take(CONNECTIONS);
    let last = last.map(|user| id(user).to_owned()).collect();
    all.sort_by_key(|user| id(user).parse::<u64>().unwrap_or_default());
    Ok((last, all))
}

/// Starts the part and waits until the list has exactly the expected users. Returns the time that this took.
async fn listed_after(system: &mut System, part: Part, expected: &[Value]) -> Result<Duration> {
    let users = system.users()?;
    let began = Instant::now();
    system.start_part(part).await?;
    for page in expected.chunks(PAGE) {
        let last = page.last().and_then(|last| last["username"].as_str());
        let path = format!("/?username={}", last.context("a user has a name")?);
        wait::until("the last user of a page is listed", || async {
            let answer = Answer::to(users.request(Method::GET, &path)).await?;
            let listed = answer.expect(200)?.body;
            let found = listed["data"]
                .as_array()
                .is_some_and(|found| found.len() == 1);
            ensure!(found, "not yet");
            Ok(())
        })
        .await?;
    }
    wait::until("the list has as many users as expected", || async {
        let count = users.list(PAGE).await?.len();
        ensure!(count == expected.len(), "{count} users");
        Ok(())
    })
    .await?;
    let took = began.elapsed();
    let mut listed = users.list(PAGE).await?;
    listed.sort_by_key(|user| id(user).parse::<u64>().unwrap_or_default());
    ensure!(listed == expected, "the list has other users than expected");
    Ok(took)
}

/// Waits until the publisher's checkpoint covers these users, because the comparison goes up to that checkpoint.
async fn until_published(store: &EventStreams, last: &[String]) -> Result<()> {
    let mut end = 0;
    for user in last {
        let event = store.read_last(&format!("users-{user}")).await?;
        end = event
            .context("a user has an event")?
            .position
            .commit
            .max(end);
    }
    wait::until("everything is published", || async {
        let checkpoint = store.read_last("publisher-users").await?;
        let checkpoint = checkpoint.context("no checkpoint yet")?;
        let checkpoint: Value = serde_json::from_slice(&checkpoint.data)?;
        ensure!(checkpoint["commit"].as_u64() >= Some(end), "{checkpoint}");
        Ok(())
    })
    .await
}

/// Deletes the view and empties the queues, so that only the log can restore the view.
async fn discard_view(system: &mut System) -> Result<()> {
    for part in [Part::Projector, Part::Api] {
        system.kill(part)?;
    }
    for file in [
        "directory_g1.db",
        "directory_g1.db-wal",
        "directory_g1.db-shm",
    ] {
        let file = system.folder().join("users").join(file);
        if file.exists() {
            fs::remove_file(file)?;
        }
    }
    for queue in 0..QUEUES {
        let contents = format!("{}/contents", name(queue));
        system
            .management("DELETE", "queues", &contents, &Value::Null)
            .await?;
    }
    Ok(())
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (queues, comparison) = (self.by_queues, self.by_comparison);
        write!(
            f,
            "catching up with {} users: through publisher and queues {:.1} s ({:.0}/s), by comparison with the log {:.1} s ({:.0}/s)",
            self.users,
            queues.as_secs_f64(),
            self.rate(queues),
            comparison.as_secs_f64(),
            self.rate(comparison)
        )
    }
}

impl Behind {
    /// Users per second that reach the list through publisher, broker and projector.
    pub(crate) fn rate_by_queues(&self) -> f64 {
        self.rate(self.by_queues)
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 users")]
    fn rate(&self, took: Duration) -> f64 {
        self.users as f64 / took.as_secs_f64()
    }
}
