//! What the figures were measured on.

use anyhow::{Context, Result};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Machine, build, commit and command, one a line.
pub(crate) fn describe() -> Result<String> {
    let lines = [
        format!(
            "machine: {} cores, {}, {} memory",
            cores()?,
            field("/proc/cpuinfo", "model name")?,
            field("/proc/meminfo", "MemTotal")?
        ),
        format!("commit: {}", commit()),
        format!("build: {}", build()),
        format!(
            "command: {}",
            std::env::args().collect::<Vec<_>>().join(" ")
        ),
    ];
    Ok(lines.join("\n"))
}

/// The number of cores that this process may use.
pub(crate) fn cores() -> Result<f64> {
    let cores = std::thread::available_parallelism()?.get();
    Ok(f64::from(u32::try_from(cores)?))
}

fn build() -> &'static str {
    if cfg!(debug_assertions) {
        "debug, so these figures say nothing of a release build"
    } else {
        "release"
    }
}

/// The commit of the sources, and whether they differ from it.
fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match git {
        Ok(answer) if answer.status.success() => {
            String::from_utf8_lossy(&answer.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

fn field(file: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    let (_, value) = value.with_context(|| format!("{name} in {file}"))?;
    Ok(value.trim().to_owned())
}

/// The processor time of this process so far, user and system, all threads.
pub(crate) fn own_processor_time() -> Result<Duration> {
    let mut taken = Duration::ZERO;
    for thread in fs::read_dir("/proc/self/task")? {
        // The first figure is the time on a processor in nanoseconds.
        let times = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanoseconds = times.split_whitespace().next().context("a figure")?;
        taken += Duration::from_nanos(nanoseconds.parse()?);
    }
    Ok(taken)
}
