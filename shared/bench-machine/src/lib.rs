//! Describes the machine and the build of a bench, and measures the processor time and memory of its processes. Linux
//! only.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks per second in `/proc/<pid>/stat`; the same on every Linux that we build for.
const TICKS_PER_SECOND: u64 = 100;

/// The machine, commit, build and command, each on a line of its own.
///
/// # Errors
///
/// If `/proc` cannot be read.
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
/// If the system does not report it.
pub fn cores() -> Result<f64> {
    let cores = std::thread::available_parallelism()?.get();
    Ok(f64::from(u32::try_from(cores)?))
}

fn build() -> &'static str {
    if cfg!(debug_assertions) {
        "debug, so these figures say nothing about a release build"
    } else {
        "release"
    }
}

/// The commit of the sources, marked `-dirty` if they differ from it.
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

/// The user and system time that a process has used so far, including threads that have ended. The resolution is a
/// hundredth of a second.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn processor_time(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("a process has a name")?;
    let fields: Vec<_> = fields.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// The user and system time that the living threads of this process have used so far. The resolution is a nanosecond.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn own_processor_time() -> Result<Duration> {
    let mut taken = Duration::ZERO;
    for thread in fs::read_dir("/proc/self/task")? {
        // The first number is the time on a processor, in nanoseconds.
        let times = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanoseconds = times.split_whitespace().next().context("a figure")?;
        taken += Duration::from_nanos(nanoseconds.parse()?);
    }
    Ok(taken)
}

/// The peak memory of a process, in MiB.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn peak_memory(process: u32) -> Result<u64> {
    let peak = field(&format!("/proc/{process}/status"), "VmHWM")?;
    let kilobytes = peak.split(' ').next().context("a figure")?;
    Ok(kilobytes.parse::<u64>()? / 1024)
}
