//! Users created at a steady pace, and what was acknowledged of it.

use crate::client::{Users, user};
use crate::unique;
use anyhow::Result;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A load under way: `count` POSTs, one every `pause`, whatever becomes of the ones before.
#[derive(Debug)]
pub struct Load {
    attempted: watch::Receiver<usize>,
    acknowledged: watch::Receiver<usize>,
    outcome: JoinHandle<Outcome>,
}

/// What became of the POSTs.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The users that were answered 201, as answered.
    pub acknowledged: Vec<Value>,
    /// The others: a refusal, or a connection lost with the outcome unknown.
    pub failures: Vec<String>,
}

impl Load {
    /// Begins to create `count` users, `per_second` a second.
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

    /// Returns when this many users were answered 201.
    pub async fn acknowledged(&self, at_least: usize) -> Result<()> {
        let mut acknowledged = self.acknowledged.clone();
        acknowledged.wait_for(|count| *count >= at_least).await?;
        Ok(())
    }

    /// Returns when this many more POSTs were sent, or the last one was.
    pub async fn more(&self, posts: usize) {
        let mut attempted = self.attempted.clone();
        let target = *attempted.borrow() + posts;
        // The load that has sent its last one ends the channel.
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
