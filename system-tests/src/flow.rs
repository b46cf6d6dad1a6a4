//! A system under traffic with all checkers of the path from a command to every consumer.

use crate::applications::{ApplicationCounts, Applications};
use crate::deliveries::{EventName, user_log};
use crate::observer::Observer;
use crate::system::{Node, System};
use crate::traffic::{Traffic, TrafficRecord};
use crate::verdict::{Evidence, ListCounts};
use crate::{Part, wait};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::collections::HashSet;
use std::time::Duration;
use users_service::integration::publisher::published_up_to;

/// Longer than the longest pause between two attempts of any part, which is a minute.
const SETTLED_WITHIN: Duration = Duration::from_mins(4);
/// How many commands are acknowledged before, during and after each fault, at least.
const COMMANDS: usize = 60;

/// A system, the other team, and what clients have seen.
#[derive(Debug)]
pub struct Flow {
    /// The system.
    pub system: System,
    observer: Observer,
    applications: Applications,
    record: TrafficRecord,
}

async fn note(system: &System, generation: u32) -> Result<Applications> {
    let file = format!("directory_g{generation}.db");
    Applications::note(&system.folder().join("users").join(file)).await
}

impl Flow {
    /// Starts each role as a process of its own, on this broker.
    pub async fn start(broker: Node) -> Result<Self> {
        Self::on(System::of(&Part::ROLES, broker, "info").await?).await
    }

    /// Watches a system that is ready and has no users.
    pub async fn on(system: System) -> Result<Self> {
        let observer = Observer::begin(&system.amqp_url()).await?;
        let applications = note(&system, 1).await?;
        Ok(Self {
            observer,
            applications,
            system,
            record: TrafficRecord::default(),
        })
    }

    /// Runs a fault in the middle of traffic. No command may fail.
    pub async fn under_traffic(
        &mut self,
        fault: impl AsyncFnOnce(&mut System, &Traffic) -> Result<()>,
    ) -> Result<()> {
        let traffic = Traffic::begin(&self.system.users()?);
        traffic.more(COMMANDS).await?;
        fault(&mut self.system, &traffic).await?;
        traffic.more(COMMANDS).await?;
        let record = traffic.stopped().await?;
        ensure!(record.failures.is_empty(), "{:#?}", record.failures);
        self.record.add(record);
        Ok(())
    }

    /// Judges what was applied to the list until now, and goes on with another generation of it.
    pub async fn list_moved_to(&mut self, generation: u32) -> Result<()> {
        let counts = self.applications.counts().await?;
        ensure!(counts == ApplicationCounts::default(), "{counts}");
        self.applications = note(&self.system, generation).await?;
        Ok(())
    }

    /// Expects a user that was created past the traffic.
    pub fn expect(&mut self, id: &str, user: Value) {
        self.record.expected.insert(id.to_owned(), Some(user));
    }

    /// Waits until all events so far are published.
    pub async fn published(&self) -> Result<()> {
        self.until_published().await.map(drop)
    }

    /// Waits until everything is where it must be, and counts what is wrong. Prints the counts, and checks that each checker
    /// finds a planted fault. All counts must be zero.
    pub async fn verdict(mut self, what: &str) -> Result<()> {
        // A part may rightly be degraded: the projector reports messages that never came for ten minutes.
        for part in self.system.parts() {
            self.system.serves(part).await?;
        }
        let log = self.until_published().await?;
        self.until_delivered(&log).await?;
        self.until_listed().await?;
        let evidence = Evidence {
            log,
            delivered: self.observer.delivered(),
            expected: std::mem::take(&mut self.record.expected),
            listed: self.system.users()?.list(100).await?,
            reads: self.record.reads,
        };
        let verdict = evidence.judged(self.applications.counts().await?);
        eprintln!(
            "{what}: {} commands, {} events; {verdict}",
            self.record.acknowledged,
            evidence.log.len()
        );
        verdict.all_zero()?;
        evidence.check_with_planted_faults()?;
        self.system.kill(Part::Projector)?;
        self.applications.check_with_planted_faults().await?;
        self.system.end();
        Ok(())
    }

    /// Waits until the publisher's mark is behind the last event, and returns all events.
    async fn until_published(&self) -> Result<Vec<EventName>> {
        let store = self.system.store()?;
        let (log, end) = user_log(&store).await?;
        wait::until_within(SETTLED_WITHIN, "everything is published", || async {
            let mark = published_up_to(&store).await?;
            ensure!(mark >= end, "the mark is at {mark:?}, not at {end:?}");
            Ok(())
        })
        .await?;
        Ok(log)
    }

    /// Waits until the other team has every event. In vain if one is lost, and then the counts tell.
    async fn until_delivered(&self, log: &[EventName]) -> Result<()> {
        let delivered = wait::until_within(SETTLED_WITHIN, "everything is delivered", || async {
            let delivered = self.observer.delivered();
            let came: HashSet<_> = delivered.iter().collect();
            let missing = log.iter().find(|event| !came.contains(event));
            ensure!(missing.is_none(), "{missing:?}");
            Ok(())
        });
        if let Err(error) = delivered.await {
            eprintln!("{error:#}");
        }
        Ok(())
    }

    async fn until_listed(&self) -> Result<()> {
        let users = self.system.users()?;
        let listed = wait::until_within(SETTLED_WITHIN, "the list is as acknowledged", || async {
            let listed = users.list(100).await?;
            let counts = ListCounts::of(&self.record.expected, &listed);
            ensure!(counts == ListCounts::default(), "{counts:?}");
            Ok(())
        });
        if let Err(error) = listed.await {
            eprintln!("{error:#}");
        }
        Ok(())
    }
}
