//! Clients that create, change and delete users until they are stopped, and read their own writes in the list.
//!
//! Invariants: each user belongs to one client, who sends one command at a time, so the last acknowledged command says what the
//! list must show. A user is changed several times, so that there is an order to violate.

use crate::client::{Answer, Users, id, user};
use crate::unique;
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// How many clients only write, and how many of them read after each of their writes.
const WRITERS: usize = 5;
const READERS: usize = 2;
/// How often a client sends a command, if it is answered by then.
const PAUSE: Duration = Duration::from_millis(90);
const CHANGES: usize = 3;
/// Each so many-th user of a client is deleted in the end.
const DELETED: usize = 4;

/// What the list must show of each user. `None` if the user is deleted.
pub type ExpectedUsers = BTreeMap<String, Option<Value>>;

/// Running clients.
#[derive(Debug)]
pub struct Traffic {
    running: watch::Sender<bool>,
    acknowledged: watch::Receiver<usize>,
    clients: JoinSet<TrafficRecord>,
}

/// What the clients have seen.
#[derive(Debug, Default)]
pub struct TrafficRecord {
    /// The number of acknowledged commands.
    pub acknowledged: usize,
    /// The users as acknowledged.
    pub expected: ExpectedUsers,
    /// The commands that were not acknowledged, and the reads that failed.
    pub failures: Vec<String>,
    /// What readers saw of their own writes.
    pub reads: ReadCounts,
}

/// What readers with a consistency token saw of their own writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// The write is in the list.
    pub fresh: usize,
    /// The service could not say yet (503).
    pub later: usize,
    /// The list was answered without the write.
    pub stale: usize,
}

impl ReadCounts {
    /// Counts a page that should show the user as expected. `None` stands for a user who must not be in the list.
    pub fn count(&mut self, page: &Answer, user: &str, expected: Option<&Value>) -> Result<()> {
        let rows = page.body["data"].as_array();
        let row = rows.and_then(|rows| rows.iter().find(|row| id(row) == user));
        match page.status {
            503 => self.later += 1,
            200 if rows.is_some() && row == expected => self.fresh += 1,
            200 if rows.is_some() => self.stale += 1,
            _ => anyhow::bail!("no page: {page:?}"),
        }
        Ok(())
    }
}

impl Traffic {
    /// Starts all clients.
    #[must_use]
    pub fn begin(users: &Users) -> Self {
        let (running, run) = watch::channel(true);
        let (count, acknowledged) = watch::channel(0);
        let mut clients = JoinSet::new();
        for number in 0..WRITERS + READERS {
            let client = TrafficClient {
                users: users.clone(),
                reads: number >= WRITERS,
                running: run.clone(),
                count: count.clone(),
                record: TrafficRecord::default(),
            };
            clients.spawn(client.run());
        }
        Self {
            running,
            acknowledged,
            clients,
        }
    }

    /// Waits until so many further commands were acknowledged.
    pub async fn more(&self, commands: usize) -> Result<()> {
        let mut acknowledged = self.acknowledged.clone();
        let target = *acknowledged.borrow() + commands;
        let enough = acknowledged.wait_for(|count| *count >= target);
        let enough = tokio::time::timeout(crate::wait::DEADLINE, enough).await;
        enough.with_context(|| format!("{commands} commands were not acknowledged"))??;
        Ok(())
    }

    /// Ends the clients after their current commands.
    pub async fn stopped(mut self) -> Result<TrafficRecord> {
        self.running.send_replace(false);
        let mut all = TrafficRecord::default();
        while let Some(record) = self.clients.join_next().await {
            all.add(record?);
        }
        Ok(all)
    }
}

impl TrafficRecord {
    /// Adds what other clients have seen, of other users.
    pub fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.expected.extend(other.expected);
        self.failures.extend(other.failures);
        self.reads.fresh += other.reads.fresh;
        self.reads.later += other.reads.later;
        self.reads.stale += other.reads.stale;
    }
}

struct TrafficClient {
    users: Users,
    reads: bool,
    running: watch::Receiver<bool>,
    count: watch::Sender<usize>,
    record: TrafficRecord,
}

impl TrafficClient {
    async fn run(mut self) -> TrafficRecord {
        let mut pace = interval(PAUSE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        while *self.running.borrow() {
            number += 1;
            if let Err(error) = self.life(&mut pace, number % DELETED == 0).await {
                self.record.failures.push(format!("{error:#}"));
            }
        }
        self.record
    }

    /// Creates a user, changes it several times, and perhaps deletes it.
    async fn life(&mut self, pace: &mut tokio::time::Interval, ends: bool) -> Result<()> {
        pace.tick().await;
        let created = self.users.create(&user(&unique("flow"))).await?;
        let created = created.expect(201)?;
        let mut now = created.body.clone();
        let id = created.id()?;
        self.acknowledged(&created, &id, Some(&now)).await?;
        for change in 0..CHANGES {
            if !*self.running.borrow() {
                return Ok(());
            }
            pace.tick().await;
            let changes = json!({"given_name": format!("Change {change}")});
            let patched = self.users.patch(&id, &changes).await?.expect(204)?;
            now["given_name"] = changes["given_name"].clone();
            self.acknowledged(&patched, &id, Some(&now)).await?;
        }
        if ends {
            pace.tick().await;
            let deleted = self.users.delete(&id).await?.expect(204)?;
            self.acknowledged(&deleted, &id, None).await?;
        }
        Ok(())
    }

    async fn acknowledged(
        &mut self,
        answer: &Answer,
        id: &str,
        expected: Option<&Value>,
    ) -> Result<()> {
        self.record.acknowledged += 1;
        self.count.send_modify(|count| *count += 1);
        let known = self
            .record
            .expected
            .insert(id.to_owned(), expected.cloned());
        let came_back = known.as_ref().is_some_and(Option::is_none);
        ensure!(!came_back, "{id} came back");
        if self.reads {
            let token = answer.header("consistency-token").context("a token")?;
            // A deleted user is looked for by the last name.
            let user = expected.or(known.as_ref().and_then(Option::as_ref));
            let username = user.and_then(|user| user["username"].as_str());
            let page = format!("/?username={}", username.context("a username")?);
            let look = self.users.request(Method::GET, &page);
            let page = Answer::to(look.header("Consistency-Token", token)).await?;
            self.record.reads.count(&page, id, expected)?;
        }
        Ok(())
    }
}
