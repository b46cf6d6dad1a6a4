//! The service that is measured, with a store and a broker of its own.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use eventstore_lite::Server;
use private_broker::PrivateBroker;
use serde_json::Value;
use tempfile::TempDir;

/// The service runs until this is dropped.
pub(crate) struct Service {
    process: Child,
    pub(crate) address: String,
    pub(crate) amqp_url: String,
    _folder: TempDir,
    _store: Server,
    _broker: PrivateBroker,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Service {
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = eventstore_lite::Config::new(folder.path().join("store"));
        let store = Server::start(store).await?;
        let broker = PrivateBroker::start().await?;
        let amqp_url = broker.amqp_url();
        let log = folder.path().join("log");
        let process = Command::new(env!("CARGO_BIN_EXE_uuids-service"))
            .arg("serve")
            .env("UUIDS_BIND", "127.0.0.1:0")
            .env("UUIDS_DATA", folder.path().join("uuids"))
            .env(
                "EVENTSTORE_URL",
                format!("esdb://{}?tls=false", store.address()),
            )
            .env("AMQP_URL", &amqp_url)
            .env("RUST_LOG", "info")
            .stdout(File::create(&log)?)
            .stderr(Stdio::null())
            .spawn()?;
        let mut service = Self {
            process,
            address: String::new(),
            amqp_url,
            _folder: folder,
            _store: store,
            _broker: broker,
        };
        service.address = until(|| async { address_in(&fs::read_to_string(&log).ok()?) }).await?;
        let ready = format!("http://{}/_readyz", service.address);
        until(|| async {
            let ready: Value = reqwest::get(&ready).await.ok()?.json().await.ok()?;
            (ready["status"] == "ready").then_some(())
        })
        .await?;
        Ok(service)
    }
}

fn address_in(log: &str) -> Option<String> {
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line["fields"]["address"].as_str()?.to_owned())
    })
}

async fn until<T, F: Future<Output = Option<T>>>(mut condition: impl FnMut() -> F) -> Result<T> {
    let found = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        loop {
            looks.tick().await;
            if let Some(found) = condition().await {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_mins(1), found).await;
    found.context("the service is not ready within a minute")
}
