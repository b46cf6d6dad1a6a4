//! The promises of the harness: dropping a process ends it, and a closed proxy is closed.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use system_tests::client::{Answer, http};
use system_tests::process::Process;
use system_tests::proxy::Proxy;
use tempfile::TempDir;

/// A process of this crate that serves HTTP and has no dependencies.
fn server(folder: &TempDir) -> Result<Process> {
    Ok(Process::new("server", "bench", folder.path())?.argument("empty-handler"))
}

fn runs(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[tokio::test]
async fn a_process_can_restart_and_ends_when_it_is_dropped() -> Result<()> {
    let folder = TempDir::new()?;
    let mut process = server(&folder)?;
    process.start()?;
    let first = (process.id().context("it runs")?, process.address().await?);
    ensure!(runs(first.0));
    process.kill()?;
    ensure!(!runs(first.0));
    process.start()?;
    let second = (process.id().context("it runs")?, process.address().await?);
    ensure!(
        first.1 != second.1,
        "the address is that of the previous run"
    );
    drop(process);
    ensure!(!runs(second.0));
    Ok(())
}

#[tokio::test]
async fn the_harness_does_not_wait_for_a_process_that_has_ended() -> Result<()> {
    let folder = TempDir::new()?;
    let mut process = Process::new("broken", "bench", folder.path())?.argument("--nonsense");
    process.start()?;
    let failure = process.address().await.err().context("it ended")?;
    let failure = format!("{failure:#}");
    ensure!(
        failure.contains("ended") && failure.contains("--nonsense"),
        "{failure}"
    );
    Ok(())
}

#[tokio::test]
async fn a_proxy_forwards_only_between_open_and_close() -> Result<()> {
    let folder = TempDir::new()?;
    let mut process = server(&folder)?;
    process.start()?;
    let proxy = Proxy::closed(process.address().await?).await?;
    let http = http()?;
    let ask = || Answer::to(http.get(format!("http://{}/", proxy.address())));
    ensure!(ask().await.is_err());
    proxy.open();
    ask().await?.expect(200)?;
    proxy.close();
    ensure!(ask().await.is_err());
    proxy.attempts(2).await
}
