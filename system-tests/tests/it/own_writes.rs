//! Clients that read their own writes in the list, with the consistency tokens of their commands, while the projector is killed.

use anyhow::{Context, Result, ensure};
use private_broker::PrivateBroker;
use reqwest::Method;
use system_tests::client::{Answer, user};
use system_tests::system::Node;
use system_tests::{Part, System, Users, unique};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Clients at one time, and how many users each of them creates.
const CLIENTS: usize = 8;
const USERS: usize = 25;

/// What a client sees of a user that it has just created.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    /// The user is in the list.
    Listed,
    /// The service cannot say yet.
    Later,
    /// The list was answered without the user.
    Missing,
}

/// Creates a user, and looks for it in the list, with or without the token.
async fn create_and_look(users: &Users, with_token: bool) -> Result<Seen> {
    let name = unique("own");
    let created = users.create(&user(&name)).await?.expect(201)?;
    let id = created.id()?;
    let page = format!("/?username={name}");
    let mut look = users.request(Method::GET, &page);
    if with_token {
        let token = created.header("consistency-token").context("a token")?;
        look = look.header("Consistency-Token", token);
    }
    let list = Answer::to(look).await?;
    Ok(match list.status {
        503 => Seen::Later,
        _ if list.expect(200)?.body["data"][0]["id"] == id => Seen::Listed,
        _ => Seen::Missing,
    })
}

/// One client's looks. Counts them for all clients.
async fn looks(users: Users, done: watch::Sender<usize>) -> Result<Vec<Seen>> {
    let mut looks = Vec::new();
    for _ in 0..USERS {
        looks.push(create_and_look(&users, true).await?);
        done.send_modify(|done| *done += 1);
    }
    Ok(looks)
}

#[tokio::test]
async fn whoever_sends_the_token_of_a_command_never_reads_a_list_without_it() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let mut system = System::of(&Part::ROLES, broker, "info").await?;
    let users = system.users()?;
    let done = watch::Sender::new(0);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(looks(users.clone(), done.clone()));
    }
    let mut half = done.subscribe();
    let mut all = Vec::new();
    tokio::select! {
        half = half.wait_for(|done| *done >= CLIENTS * USERS / 2) => drop(half?),
        // A client ends so early only if it fails.
        Some(looks) = clients.join_next() => all.extend(looks??),
    }
    system.kill(Part::Projector)?;
    system.start_part(Part::Projector).await?;
    while let Some(looks) = clients.join_next().await {
        all.extend(looks??);
    }
    let count = |seen| all.iter().filter(|one| **one == seen).count();
    let (listed, later) = (count(Seen::Listed), count(Seen::Later));
    println!("{listed} listed, {later} to be asked again");
    ensure!(listed + later == CLIENTS * USERS, "{all:?}");
    ensure!(listed > later, "{all:?}");
    // The control: without the token, a list that lags is noticed.
    system.kill(Part::Projector)?;
    ensure!(create_and_look(&users, false).await? == Seen::Missing);
    system.end();
    Ok(())
}
