//! A steady load of POSTs, and the users that were acknowledged.

use crate::client::{Answer, Users, user};
use crate::{unique, wait};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A running load: POSTs at a steady pace, each sent without waiting for the earlier ones.
#[derive(Debug)]
pub struct Load {
    attempted: watch::Receiver<usize>,
    acknowledged: watch::Receiver<usize>,
    outcome: JoinHandle<Outcome>,
}

/// The outcome of all POSTs.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The users in the answers 201.
    pub acknowledged: Vec<Value>,
    /// The errors of all other POSTs: a refusal, or a lost connection with an unknown outcome.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts to create `count` users at the rate of `per_second`.
    #[must_use]
    pub fn begin(users: &Users, count: usize, per_second: u32) -> Self {
        Self::of(post, users, (count, per_second))
    }

    /// The same with POSTs whose clients prefer an answer later, so that the commands go through the queue. A user counts as
    /// acknowledged when the status of the command says that it was created.
    #[must_use]
    pub fn begin_deferred(users: &Users, count: usize, per_second: u32) -> Self {
        Self::of(post_deferred, users, (count, per_second))
    }

    fn of<F>(create_one: fn(Users) -> F, users: &Users, (count, per_second): (usize, u32)) -> Self
    where
        F: Future<Output = Result<Value>> + Send + 'static,
    {
        let (attempt, attempted) = watch::channel(0);
        let (acknowledge, acknowledged) = watch::channel(0);
        let one = {
            let users = users.clone();
            move || create_one(users.clone())
        };
        let pause = Duration::from_secs(1) / per_second;
        let outcome = tokio::spawn(create(one, count, pause, (attempt, acknowledge)));
        Self {
            attempted,
            acknowledged,
            outcome,
        }
    }

    /// Waits until this many POSTs were answered 201.
    pub async fn acknowledged(&self, at_least: usize) -> Result<()> {
        let mut acknowledged = self.acknowledged.clone();
        acknowledged.wait_for(|count| *count >= at_least).await?;
        Ok(())
    }

    /// Waits until this many further POSTs, or all that are left, were sent.
    pub async fn more(&self, posts: usize) {
        let mut attempted = self.attempted.clone();
        let target = *attempted.borrow() + posts;
        // After the last POST the channel closes and ends the wait.
        let _ = attempted.wait_for(|count| *count >= target).await;
    }

    /// Waits until every POST has its outcome.
    pub async fn finished(self) -> Result<Outcome> {
        Ok(self.outcome.await?)
    }
}

type Counters = (watch::Sender<usize>, watch::Sender<usize>);

/// Creates a user and returns it.
async fn post(users: Users) -> Result<Value> {
    Ok(users
        .create(&user(&unique("load")))
        .await?
        .expect(201)?
        .body)
}

/// Creates a user through the queue, and returns it when the command is done. Without a broker the command is executed at once.
async fn post_deferred(users: Users) -> Result<Value> {
    let body = user(&unique("later"));
    let request = users.request(Method::POST, "/").json(&body);
    let answer = Answer::to(request.header("Prefer", "respond-async")).await?;
    if answer.status == 201 {
        return Ok(answer.body);
    }
    let link = answer.expect(202)?.location.context("a location")?;
    let result = wait::until("the command is done", || async {
        let status = Answer::to(users.request(Method::GET, &link)).await?;
        let status = status.expect(200)?.body;
        ensure!(status["status"] == "done", "{status}");
        Ok(status["result"].clone())
    })
    .await?;
    ensure!(result["status"] == 201, "{result}");
    let mut created = body;
    created["id"] = result["id"].clone();
    Ok(created)
}

async fn create<F>(
    one: impl Fn() -> F,
    count: usize,
    pause: Duration,
    (attempt, acknowledge): Counters,
) -> Outcome
where
    F: Future<Output = Result<Value>> + Send + 'static,
{
    let mut pace = tokio::time::interval(pause);
    let mut posts = JoinSet::new();
    for _ in 0..count {
        pace.tick().await;
        let (created, acknowledge) = (one(), acknowledge.clone());
        posts.spawn(async move {
            let user = created.await?;
            acknowledge.send_modify(|count| *count += 1);
            Ok(user)
        });
        attempt.send_modify(|count| *count += 1);
    }
    let mut outcome = Outcome::default();
    while let Some(post) = posts.join_next().await {
        match post.map_err(anyhow::Error::from).flatten() {
            Ok(user) => outcome.acknowledged.push(user),
            Err(error) => outcome.failures.push(format!("{error:#}")),
        }
    }
    outcome
}
