//! The service of the Node/Express design in a separate process.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use system_tests::client::http;
use system_tests::process::Process;
use system_tests::{Answer, Part, System, wait};

const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../loadtest/node-baseline/run");
/// The time limit for the baseline to handle its acknowledged commands.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub(super) struct Baseline {
    /// Dropping it ends the process.
    _process: Process,
    address: SocketAddr,
    http: reqwest::Client,
}

impl Baseline {
    /// Starts the baseline with the store, broker and uuids-service of this system. A slow one pauses for two seconds
    /// in each POST.
    pub(super) async fn start(system: &System, slow: bool) -> Result<Self> {
        let store = system
            .address(Part::Store)
            .context("the system has a store")?;
        let mut process = Process::foreign("baseline", Path::new(RUN).to_owned(), system.folder())
            .variable("AMQP_URL", system.broker.vhost().await)
            .variable("EVENTSTORE_URL", format!("esdb://{store}?tls=false"))
            .variable("UUIDS_URL", system.uuids_url());
        if slow {
            process.set_variable("PLANTED_DELAY_MS", "2000");
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

    /// The versions of Node and of the packages.
    pub(super) async fn versions(&self) -> Result<String> {
        let counts = self.counts().await?;
        Ok(counts["versions"]
            .as_str()
            .context("the baseline reports its versions")?
            .to_owned())
    }

    /// Waits until each acknowledged command is stored or has failed. Prints the reason of the last failure.
    pub(super) async fn until_drained(&self) -> Result<()> {
        let counts = wait::until_within(
            DRAIN_TIMEOUT,
            "the baseline has handled its commands",
            || async {
                let counts = self.counts().await?;
                let count = |name: &str| {
                    counts[name]
                        .as_u64()
                        .context("the baseline reports its counts")
                };
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
                "the baseline has lost {} commands so far; the last failure: {reason}",
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
