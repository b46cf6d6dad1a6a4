//! The comparison with the Node/Express design: it runs through, and it reports the faults that are planted.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Output;
use tokio::process::Command;

/// The shortest comparison; a debug build of the store slows the baseline down, so nothing is asked of its rate.
const SHORT: [&str; 7] = [
    "compare",
    "--seconds",
    "1",
    "--load",
    "1",
    "--behind",
    "100",
];

/// What the comparison printed, and whether it succeeded.
async fn compare(arguments: &[&str]) -> Result<(String, bool)> {
    let bench: PathBuf = env!("CARGO_BIN_EXE_bench").into();
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(bench)
        .args(SHORT)
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .context("run scripts/node-baseline first")?;
    let printed = [stdout, stderr].concat();
    Ok((
        String::from_utf8_lossy(&printed).into_owned(),
        status.success(),
    ))
}

#[tokio::test]
async fn both_systems_are_measured_and_ours_has_every_acknowledged_user() -> Result<()> {
    let (printed, valid) = compare(&["--floor", "0"]).await?;
    ensure!(valid, "{printed}");
    let rows = printed
        .lines()
        .filter(|line| line.starts_with("users-service, POST /"));
    let mut count = 0;
    for row in rows {
        let columns: Vec<_> = row.split_whitespace().rev().take(4).collect();
        let [listed, lost, stored, acknowledged] = columns[..] else {
            anyhow::bail!("{row}");
        };
        ensure!(acknowledged != "0" && lost == "0", "{row}");
        ensure!(stored == acknowledged && listed == acknowledged, "{row}");
        count += 1;
    }
    ensure!(count == 2, "{printed}");
    for row in ["bare Express, POST", "Node, GET /{id}", "Node, POST /"] {
        ensure!(printed.contains(row), "{row} is missing: {printed}");
    }
    ensure!(printed.matches("(aim ").count() == 5, "{printed}");
    Ok(())
}

#[tokio::test]
async fn a_baseline_that_is_slower_than_express_explains_makes_the_comparison_invalid() -> Result<()>
{
    let (printed, valid) = compare(&["--plant", "slow-baseline"]).await?;
    ensure!(
        !valid && printed.contains("INVALID: the baseline is at fault"),
        "{printed}"
    );
    ensure!(!printed.contains("(aim "), "a figure: {printed}");
    Ok(())
}

#[tokio::test]
async fn a_lost_user_of_ours_makes_the_comparison_invalid() -> Result<()> {
    let (printed, valid) = compare(&["--floor", "0", "--plant", "lost-user"]).await?;
    ensure!(
        !valid && printed.contains("INVALID: users-service lost 1 of "),
        "{printed}"
    );
    ensure!(!printed.contains("(aim "), "a figure: {printed}");
    Ok(())
}
