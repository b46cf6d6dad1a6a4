//! What the figures of a bench were measured on, and what its processes took of it. On Linux.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

/// A second has so many ticks, on every Linux that this is built for.
const TICKS: u64 = 100;

/// Machine, build, commit and command, one a line.
///
/// # Errors
///
/// If `/proc` does not say.
pub fn describe() -> Result<String> {
    let lines = [
        format!(
            "machine: {} cores, {}, {} memory, load {}",
            cores()?,
            field("/proc/cpuinfo", "model name")?,
            field("/proc/meminfo", "MemTotal")?,
            fs::read_to_string("/proc/loadavg")?.trim()
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
///
/// # Errors
///
/// If the system does not say.
pub fn cores() -> Result<f64> {
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

/// The processor time of a process so far, user and system, all threads, also those that have ended; in hundredths of a second.
///
/// # Errors
///
/// If `/proc` does not say.
pub fn processor_time(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("a process has a name")?;
    let fields: Vec<_> = fields.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// The processor time of this process so far, user and system, of all threads that are there; in nanoseconds.
///
/// # Errors
///
/// If `/proc` does not say.
pub fn own_processor_time() -> Result<Duration> {
    let mut taken = Duration::ZERO;
    for thread in fs::read_dir("/proc/self/task")? {
        // The first figure is the time on a processor in nanoseconds.
        let times = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanoseconds = times.split_whitespace().next().context("a figure")?;
        taken += Duration::from_nanos(nanoseconds.parse()?);
    }
    Ok(taken)
}

/// The most memory a process has had, in MiB.
///
/// # Errors
///
/// If `/proc` does not say.
pub fn peak_memory(process: u32) -> Result<u64> {
    let peak = field(&format!("/proc/{process}/status"), "VmHWM")?;
    let kilobytes = peak.split(' ').next().context("a figure")?;
    Ok(kilobytes.parse::<u64>()? / 1024)
}
