//! A steady load of POSTs, and the users that were acknowledged.

use crate::client::{Users, user};
use crate::unique;
use anyhow::Result;
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
        let (attempt, attempted) = watch::channel(0);
        let (acknowledge, acknowledged) = watch::channel(0);
        let outcome = tokio::spawn(create(
            users.clone(),
            count,
            Duration::from_secs(1) / per_second,
            (attempt, acknowledge),
        ));
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

async fn create(users: Users, count: usize, pause: Duration, counters: Counters) -> Outcome {
    let (attempt, acknowledge) = counters;
    let mut pace = tokio::time::interval(pause);
    let mut posts = JoinSet::new();
    for _ in 0..count {
        pace.tick().await;
        let (users, acknowledge) = (users.clone(), acknowledge.clone());
        posts.spawn(async move {
            let answer = users.create(&user(&unique("load"))).await?.expect(201)?;
            acknowledge.send_modify(|count| *count += 1);
            Ok(answer.body)
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
