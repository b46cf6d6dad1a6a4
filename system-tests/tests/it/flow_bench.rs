//! `make bench-flow` measures everything that it promises.

use anyhow::{Result, ensure};
use std::process::Command;

/// Arguments for the shortest run. It starts one broker instead of seventeen.
const SHORT: [&str; 10] = [
    "flow",
    "--shared-broker",
    "--users",
    "1000",
    "--rates",
    "50",
    "--seconds",
    "1",
    "--sizes",
    "10,1000",
];

/// It checks itself, in each run, that both read models have exactly the users that went in, and that a missing one is noticed.
#[test]
fn path_lag_rebuild_and_lists_are_measured() -> Result<()> {
    let bench = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(SHORT)
        .output()?;
    let printed = String::from_utf8_lossy(&[bench.stdout, bench.stderr].concat()).into_owned();
    ensure!(bench.status.success(), "{printed}");
    let lines = [
        ("from the 201 to the list, at 50 users/s: p50", 1),
        ("the broker confirms", 2),
        ("/s, whole path ", 4),
        ("1000 users, built at", 1),
        ("(aim ", 4 * 3 + 3),
    ];
    for (line, count) in lines {
        let found = printed.lines().filter(|printed| printed.contains(line));
        ensure!(found.count() == count, "{line}: {printed}");
    }
    Ok(())
}
