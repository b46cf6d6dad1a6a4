//! A DELETE that `kill -9` interrupts is finished without a second request.

use anyhow::{Result, ensure};
use event_streams::{EventStreams, ReadError};
use futures::future::{join_all, select_all, try_join_all};
use private_broker::PrivateBroker;
use serde_json::Value;
use system_tests::client::{id, user};
use system_tests::system::Node;
use system_tests::{Part, System, unique, wait};

/// The number of users deleted at once, and of attempts to interrupt a DELETE.
const USERS: usize = 24;
const ROUNDS: usize = 10;

/// All parts except the eraser, which starts when there is a DELETE to finish.
const BEFORE: [Part; 5] = [
    Part::Api,
    Part::Projector,
    Part::Publisher,
    Part::Uuids,
    Part::Store,
];

fn stream(user: &Value) -> String {
    format!("users-{}", id(user))
}

/// Whether the user's stream ends with the deletion, so that the DELETE must be finished.
async fn deleted(store: &EventStreams, user: &Value) -> Result<bool> {
    let last = store.read_last(&stream(user)).await?;
    Ok(last.is_some_and(|event| event.event_type == "UserDeleted.v1"))
}

async fn tombstoned(store: &EventStreams, user: &Value) -> Result<()> {
    let read = store.read_last(&stream(user)).await;
    ensure!(read == Err(ReadError::StreamDeleted), "{read:?}");
    Ok(())
}

/// Deletes all users at once and kills the API when the first deletion is in the store. Returns the users whose deletion
/// is durable but was never answered.
async fn cut(system: &mut System, alive: &[Value]) -> Result<Vec<Value>> {
    let (users, store) = (system.users()?, system.store()?);
    let deletions = alive.iter().map(|user| {
        let (users, id) = (users.clone(), id(user).to_owned());
        tokio::spawn(async move { users.delete(&id).await })
    });
    let deletions: Vec<_> = deletions.collect();
    let first = alive.iter().map(|user| {
        Box::pin(wait::until("a deletion is in the store", || async {
            ensure!(deleted(&store, user).await?);
            Ok(())
        }))
    });
    select_all(first).await.0?;
    system.kill(Part::Api)?;
    let mut unanswered = Vec::new();
    for (user, deletion) in alive.iter().zip(join_all(deletions).await) {
        if deletion?.is_err() && deleted(&store, user).await? {
            unanswered.push(user.clone());
        }
    }
    Ok(unanswered)
}

/// Creates users once the API has reached the store.
async fn alive(system: &System) -> Result<Vec<Value>> {
    system.serves(Part::Api).await?;
    let users = system.users()?;
    let names: Vec<_> = (0..USERS).map(|_| unique("erased")).collect();
    try_join_all(names.iter().map(|name| users.created(name))).await
}

#[tokio::test]
async fn a_delete_cut_by_a_kill_is_finished_without_a_second_request() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let parts = [&BEFORE[..], &[Part::Eraser]].concat();
    let mut system = System::prepare(&parts, broker, &url, "info")?;
    for part in BEFORE {
        system.start_part(part).await?;
    }
    let (users, store) = (system.users()?, system.store()?);
    let mut unanswered = Vec::new();
    let mut others = Vec::new();
    for _ in 0..ROUNDS {
        let round = alive(&system).await?;
        unanswered = cut(&mut system, &round).await?;
        if !unanswered.is_empty() {
            others = round;
            break;
        }
        system.start_part(Part::Api).await?;
    }
    ensure!(!unanswered.is_empty(), "no DELETE was interrupted");
    others.retain(|user| !unanswered.contains(user));

    // The API stays down until the eraser alone has finished the deletions.
    system.start_part(Part::Eraser).await?;
    for user in &unanswered {
        wait::until("the stream is tombstoned", || tombstoned(&store, user)).await?;
    }
    system.start_part(Part::Api).await?;
    system.ready().await?;
    for gone in &unanswered {
        users.get(id(gone)).await?.expect(404)?;
        users.delete(id(gone)).await?.expect(404)?;
        let name = gone["username"].as_str().unwrap_or_default();
        users.create(&user(name)).await?.expect(201)?;
    }
    for user in &others {
        let status = users.get(id(user)).await?.status;
        let erased = tombstoned(&store, user).await.is_ok() || deleted(&store, user).await?;
        ensure!(
            status == if erased { 404 } else { 200 },
            "{status} for {user}"
        );
    }
    Ok(())
}
