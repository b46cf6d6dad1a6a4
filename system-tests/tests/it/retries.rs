//! Commands that `kill -9` interrupts are repeated with their idempotency keys: each is executed once.

use anyhow::{Result, ensure};
use futures::future::{join_all, try_join_all};
use private_broker::PrivateBroker;
use reqwest::Method;
use std::collections::HashSet;
use system_tests::client::{Answer, user};
use system_tests::system::Node;
use system_tests::{Part, System, Users, unique, wait};

/// The number of users created at once, and of rounds.
const USERS: usize = 24;
const ROUNDS: usize = 6;

const PARTS: [Part; 3] = [Part::Store, Part::Uuids, Part::Api];

async fn create(users: &Users, name: &str) -> Result<Answer> {
    let post = users.request(Method::POST, "/").json(&user(name));
    Answer::to(post.header("Idempotency-Key", name)).await
}

/// The number of users that were ever created.
async fn created(system: &System) -> Result<usize> {
    let page = system.store()?.read_all(&["users-"], None, 10_000).await?;
    ensure!(page.end);
    let created = page.events.iter();
    Ok(created
        .filter(|event| event.event_type == "UserCreated.v1")
        .count())
}

/// Creates all users at once, and kills the API when the first of them is in the store. Returns the answers.
async fn interrupted(
    system: &mut System,
    names: &[String],
    before: usize,
) -> Result<Vec<Option<Answer>>> {
    let users = system.users()?;
    let creations = names.iter().map(|name| {
        let (users, name) = (users.clone(), name.clone());
        tokio::spawn(async move { create(&users, &name).await })
    });
    let creations: Vec<_> = creations.collect();
    wait::until("a user is in the store", || async {
        ensure!(created(system).await? > before, "not yet");
        Ok(())
    })
    .await?;
    system.kill(Part::Api)?;
    let answers = join_all(creations).await.into_iter();
    answers.map(|answer| Ok(answer?.ok())).collect()
}

#[tokio::test]
async fn creations_cut_by_a_kill_and_repeated_are_made_once() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let mut system = System::prepare(&PARTS, broker, &url, "info")?;
    for part in PARTS {
        system.start_part(part).await?;
    }
    let mut cut = 0;
    for round in 0..ROUNDS {
        system.serves(Part::Api).await?;
        let names: Vec<_> = (0..USERS).map(|_| unique("again")).collect();
        let first = interrupted(&mut system, &names, round * USERS).await?;
        cut += first.iter().filter(|answer| answer.is_none()).count();
        system.start_part(Part::Api).await?;
        system.serves(Part::Api).await?;
        let users = system.users()?;
        let repeated = try_join_all(names.iter().map(|name| create(&users, name))).await?;
        let mut ids = HashSet::new();
        for (first, repeated) in first.into_iter().zip(repeated) {
            let id = repeated.expect(201)?.id()?;
            if let Some(first) = first {
                ensure!(first.expect(201)?.id()? == id, "another user was created");
            }
            ids.insert(id);
        }
        ensure!(ids.len() == USERS, "two commands share a user");
        let created = created(&system).await?;
        ensure!(
            created == (round + 1) * USERS,
            "{created} users were created"
        );
    }
    ensure!(cut > 0, "no creation was interrupted");
    system.end();
    Ok(())
}
