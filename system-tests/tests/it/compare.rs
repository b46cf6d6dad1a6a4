//! The comparison with the Node/Express design completes, and it reports planted faults.

use anyhow::{Result, ensure};
use std::process::{Command, Output};

/// Arguments for the shortest comparison. It starts one broker instead of four.
const SHORT: [&str; 8] = [
    "compare",
    "--shared-broker",
    "--seconds",
    "1",
    "--load",
    "1",
    "--behind",
    "100",
];

/// Runs a short comparison. Returns its output and whether it succeeded.
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

// A debug build of the store slows the baseline down, so this test accepts any rate of the baseline.
#[test]
fn both_systems_are_measured_and_ours_stores_and_lists_every_acknowledged_user() -> Result<()> {
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
fn a_baseline_that_is_much_slower_than_express_makes_the_comparison_invalid() -> Result<()> {
    let (printed, valid) = compare(&["--plant", "slow-baseline"])?;
    ensure!(
        !valid && printed.contains("INVALID: the baseline is at fault"),
        "{printed}"
    );
    ensure!(
        !printed.contains("(aim "),
        "an invalid run prints a figure: {printed}"
    );
    Ok(())
}

#[test]
fn a_lost_user_of_ours_makes_the_comparison_invalid() -> Result<()> {
    let (printed, valid) = compare(&["--plant", "lost-user"])?;
    ensure!(
        !valid && printed.contains("INVALID: users-service lost 1 of "),
        "{printed}"
    );
    ensure!(
        !printed.contains("(aim "),
        "an invalid run prints a figure: {printed}"
    );
    Ok(())
}
