//! The comparison with the Node/Express design: it runs through, and it reports the faults that are planted.

use anyhow::{Result, ensure};
use std::process::{Command, Output};

/// The shortest comparison.
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
fn compare(arguments: &[&str]) -> Result<(String, bool)> {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(SHORT)
        .args(arguments)
        .output()?;
    let printed = [stdout, stderr].concat();
    Ok((
        String::from_utf8_lossy(&printed).into_owned(),
        status.success(),
    ))
}

// A debug build of the store slows the baseline down, so two of these ask nothing of its rate.
#[test]
fn both_systems_are_measured_and_ours_has_every_acknowledged_user() -> Result<()> {
    let (printed, valid) = compare(&["--floor", "0"])?;
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

#[test]
fn a_baseline_that_is_slower_than_express_explains_makes_the_comparison_invalid() -> Result<()> {
    let (printed, valid) = compare(&["--plant", "slow-baseline"])?;
    ensure!(
        !valid && printed.contains("INVALID: the baseline is at fault"),
        "{printed}"
    );
    ensure!(!printed.contains("(aim "), "a figure: {printed}");
    Ok(())
}

#[test]
fn a_lost_user_of_ours_makes_the_comparison_invalid() -> Result<()> {
    let (printed, valid) = compare(&["--floor", "0", "--plant", "lost-user"])?;
    ensure!(
        !valid && printed.contains("INVALID: users-service lost 1 of "),
        "{printed}"
    );
    ensure!(!printed.contains("(aim "), "a figure: {printed}");
    Ok(())
}
