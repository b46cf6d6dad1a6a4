//! The service of the Node/Express design as a process of its own.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use system_tests::client::http;
use system_tests::process::Process;
use system_tests::{Answer, Part, System, wait};

const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../loadtest/node-baseline/run");
/// How long the commands that it acknowledged may take to be handled.
const DRAINED_WITHIN: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub(super) struct Baseline {
    /// It ends with its value.
    _process: Process,
    address: SocketAddr,
    http: reqwest::Client,
}

impl Baseline {
    /// Starts it on the store, the broker and the ids of this system.
    pub(super) async fn start(system: &System, slow: bool) -> Result<Self> {
        let store = system.address(Part::Store).context("a store")?;
        let mut process = Process::foreign("baseline", Path::new(RUN).to_owned(), system.folder())
            .variable("AMQP_URL", system.broker.vhost().await)
            .variable("EVENTSTORE_URL", format!("esdb://{store}?tls=false"))
            .variable("UUIDS_URL", system.uuids_url());
        if slow {
            process.set_variable("PLANTED_DELAY_MS", "1000");
        }
        process.start()?;
        let address = process.address().await?;
        Ok(Self {
            _process: process,
            address,
            http: http()?,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is made of.
    pub(super) async fn versions(&self) -> Result<String> {
        let counts = self.counts().await?;
        Ok(counts["versions"].as_str().context("versions")?.to_owned())
    }

    /// Waits until each command that it acknowledged is stored, or has failed; says why the last one failed that did.
    pub(super) async fn until_drained(&self) -> Result<()> {
        let counts = wait::until_within(
            DRAINED_WITHIN,
            "the baseline has handled its commands",
            || async {
                let counts = self.counts().await?;
                let count = |name: &str| counts[name].as_u64().context("a count");
                ensure!(
                    count("stored")? + count("failed")? == count("published")?,
                    "{counts}"
                );
                Ok(counts)
            },
        )
        .await?;
        if let Some(reason) = counts["reason"].as_str() {
            eprintln!(
                "the baseline has lost {} commands so far: {reason}",
                counts["failed"]
            );
        }
        Ok(())
    }

    async fn counts(&self) -> Result<Value> {
        let url = format!("http://{}/counts", self.address);
        Ok(Answer::to(self.http.get(url)).await?.expect(200)?.body)
    }
}
