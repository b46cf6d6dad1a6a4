//! A listener of `GET /events` while the processes behind the feed are killed: it hears of every acknowledged user once.

use anyhow::{Context, Result, ensure};
use private_broker::PrivateBroker;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use system_tests::client::id;
use system_tests::load::Load;
use system_tests::system::Node;
use system_tests::{Part, System, Users, unique, wait};
use tokio::task::JoinSet;

/// The number of users created during each kill, at 50 per second.
const USERS: usize = 150;
/// The parts behind the feed.
const VICTIMS: [Part; 3] = [Part::Api, Part::Publisher, Part::Store];

/// The user and the revision of every event, in the order in which a listener heard of them. The second report of a deletion
/// has no revision.
pub(crate) type Heard = Arc<Mutex<Vec<(String, Option<u64>)>>>;

/// Listens to this feed for ever: each time after the last id that it has read.
pub(crate) async fn listen(users: Users, feed: &str, heard: Heard) {
    let mut last = None;
    loop {
        // An end is expected: the process was killed.
        let _ = listen_once(users.request(Method::GET, feed), &heard, &mut last).await;
        tokio::task::yield_now().await;
    }
}

async fn listen_once(
    mut request: RequestBuilder,
    heard: &Heard,
    last: &mut Option<String>,
) -> Result<()> {
    if let Some(last) = last {
        request = request.header("Last-Event-ID", &*last);
    }
    let mut answer = request.send().await?;
    let status = answer.status().as_u16();
    // An id that is unknown is never unknown by accident.
    assert_ne!(status, 412, "{last:?}");
    ensure!(status == 200, "{status}");
    let mut text = String::new();
    while let Some(chunk) = answer.chunk().await? {
        text.push_str(std::str::from_utf8(&chunk)?);
        while let Some((block, rest)) = text.split_once("\n\n") {
            hear(block, heard, last)?;
            text = rest.to_owned();
        }
    }
    Ok(())
}

fn hear(block: &str, heard: &Heard, last: &mut Option<String>) -> Result<()> {
    for line in block.lines() {
        match line.split_once(": ").context("a line of the feed")? {
            ("id", id) => *last = Some(id.to_owned()),
            ("data", data) => {
                let data: Value = serde_json::from_str(data)?;
                let user = data["subject"].as_str().context("a user")?.to_owned();
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push((user, data["sequence"].as_u64()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Fails unless each of these users was heard of once.
fn complete(acknowledged: &[String], heard: &Heard) -> Result<()> {
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    for user in acknowledged {
        let times = heard.iter().filter(|(subject, _)| subject == user).count();
        ensure!(times == 1, "user {user} was heard of {times} times");
    }
    Ok(())
}

#[tokio::test]
async fn a_listener_hears_of_every_user_once_whatever_is_killed() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let mut system = System::of(&Part::ROLES, broker, "info").await?;
    let users = system.users()?;
    let heard = Heard::default();
    let mut listening = JoinSet::new();
    let feed = "/events?type=user.created.v1&from=start";
    listening.spawn(listen(users.clone(), feed, Arc::clone(&heard)));
    let mut acknowledged = Vec::new();
    for victim in VICTIMS {
        let load = Load::begin(&users, USERS, 50);
        load.acknowledged(USERS / 4).await?;
        system.kill(victim)?;
        load.more(USERS / 4).await;
        system.start_part(victim).await?;
        let outcome = load.finished().await?;
        acknowledged.extend(outcome.acknowledged.iter().map(|user| id(user).to_owned()));
        system.ready().await?;
        wait::until("the listener has heard of every user once", || async {
            complete(&acknowledged, &heard)
        })
        .await?;
    }
    println!("{} users, each heard of once", acknowledged.len());
    // The controls: a user that was never created, and one that was heard of twice.
    acknowledged.push(unique("nobody"));
    ensure!(complete(&acknowledged, &heard).is_err());
    acknowledged.pop();
    heard
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((acknowledged[0].clone(), Some(0)));
    ensure!(complete(&acknowledged, &heard).is_err());
    system.end();
    Ok(())
}
