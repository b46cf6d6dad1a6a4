//! The server in a separate process, started as users start it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eventstore::Client;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The time limit of each step. A run that exceeds it fails.
pub(crate) const DEADLINE: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub(crate) struct Store {
    child: Child,
    address: String,
    /// The time from the start of the process until it listened.
    pub(crate) startup_time: Duration,
    /// The pipe stays open so that the server can write its log.
    _log: Lines<BufReader<ChildStdout>>,
}

impl Store {
    pub(crate) async fn start(db: &Path) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eventstore-lite"));
        let command = command.args(["--insecure", "--node-port", "0", "--db"]);
        Self::spawn(command.arg(db)).await
    }

    /// Starts the server that answers appends from memory. It ends when it is dropped.
    pub(crate) async fn from_memory() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Self::spawn(command.arg("--serve-from-memory")).await
    }

    async fn spawn(command: &mut Command) -> Result<Self> {
        let began = Instant::now();
        let mut child = command
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut log = BufReader::new(child.stdout.take().context("the server has a pipe")?).lines();
        let address = tokio::time::timeout(DEADLINE, address(&mut log)).await??;
        Ok(Self {
            child,
            address,
            startup_time: began.elapsed(),
            _log: log,
        })
    }

    pub(crate) fn id(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A client with its own connection.
    pub(crate) fn client(&self) -> Result<Client> {
        let url = format!("esdb://{}?tls=false&discoveryInterval=1", self.address);
        Ok(Client::new(url.parse()?)?)
    }

    /// Stops the server and waits until it has ended.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let process = self.id()?.to_string();
        let sent = Command::new("kill").args(["-TERM", &process]).status();
        ensure!(sent.await?.success(), "the server had already ended");
        let status = tokio::time::timeout(DEADLINE, self.child.wait()).await??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

async fn address(log: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    while let Some(line) = log.next_line().await? {
        let line: serde_json::Value = serde_json::from_str(&line)?;
        if let Some(address) = line["fields"]["address"].as_str() {
            return Ok(address.to_owned());
        }
    }
    anyhow::bail!("the server ended before it listened")
}
