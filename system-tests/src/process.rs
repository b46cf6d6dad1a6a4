//! One real process with its executable and its log file.
//!
//! Invariant: dropping a [`Process`] ends the process by SIGKILL through its own handle. On Linux it also ends when the
//! test itself is killed.

use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program with its arguments and environment that can be started, killed and started again.
#[derive(Debug)]
pub struct Process {
    name: String,
    executable: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
    log: PathBuf,
    /// A folder that is a disk of its own while the process runs, and its size in KiB.
    small_disk: Option<(PathBuf, u32)>,
    /// Offset in the log at which the current run begins.
    started_at: u64,
    child: Option<Child>,
}

impl Process {
    /// Prepares a binary of this workspace named `program`; its output goes to `<folder>/<name>.log`.
    pub fn new(name: &str, program: &str, folder: &Path) -> Result<Self> {
        Ok(Self::foreign(name, executable(program)?, folder))
    }

    /// The same for an executable that is no binary of this workspace.
    #[must_use]
    pub fn foreign(name: &str, executable: PathBuf, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            executable,
            arguments: Vec::new(),
            environment: Vec::new(),
            log: folder.join(format!("{name}.log")),
            small_disk: None,
            started_at: 0,
            child: None,
        }
    }

    /// Adds a command-line argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable of the process.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.set_variable(name, value);
        self
    }

    /// Sets an environment variable for the next start, replacing an earlier value.
    pub fn set_variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// A command of the same program with these arguments instead, in the same environment.
    #[must_use]
    pub fn other(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Gives the process a disk of its own (a tmpfs) for this folder from its next start on. Only the process sees the disk; its
    /// content ends with the process. Works on Linux, also for users other than root.
    pub fn set_small_disk(&mut self, folder: &Path, kibibytes: u32) {
        self.small_disk = Some((folder.to_owned(), kibibytes));
    }

    /// The path of a file as the process sees it, seen from outside.
    pub fn inside(&self, path: &Path) -> Result<PathBuf> {
        let root = format!("/proc/{}/root", self.id().context("not started")?);
        Ok(Path::new(&root).join(path.strip_prefix("/")?))
    }

    /// Starts the process and returns at once; [`Process::address`] waits until it listens. Restarts append to the log.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} already runs", self.name);
        let log = File::options().create(true).append(true).open(&self.log)?;
        self.started_at = log.metadata()?.len();
        let child = self
            .command()
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.executable.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// The command to run. On Linux the kernel also kills the process if the test's thread ends without running destructors.
    fn command(&self) -> Command {
        if !cfg!(target_os = "linux") {
            return Command::new(&self.executable);
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some((folder, kibibytes)) = &self.small_disk {
            command.args(["unshare", "--map-root-user", "--mount"]);
            command.args(["sh", "-c", ON_SMALL_DISK]);
            command.arg(kibibytes.to_string()).arg(folder);
        }
        command.arg(&self.executable);
        command
    }

    /// Sends `kill -9` and waits until the process has ended; does nothing if it does not run.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Runs another binary of this workspace from the next start on.
    pub fn set_program(&mut self, program: &str) -> Result<()> {
        self.executable = executable(program)?;
        Ok(())
    }

    /// A second process with the same program, arguments and environment, and with an address of its own.
    pub fn twin(&self) -> Result<Self> {
        let name = format!("{}-twin", self.name);
        let folder = self.log.parent().context("a log is in a folder")?;
        let mut twin = Self::foreign(&name, self.executable.clone(), folder);
        twin.arguments.clone_from(&self.arguments);
        twin.environment.clone_from(&self.environment);
        twin.set_variable("HEALTH_BIND", "127.0.0.1:0");
        Ok(twin)
    }

    /// Waits until the process has ended by itself, and returns how.
    pub async fn until_ended(&mut self) -> Result<String> {
        let what = format!("{} ends", self.name);
        let end = wait::until(&what, || {
            let ended = self.ended();
            async move { ended?.context("it still runs") }
        });
        let end = end.await.with_context(|| self.tail())?;
        self.child = None;
        Ok(end)
    }

    /// Sends a signal, for example `HUP`, as a closed terminal does.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let id = self.id().context("not started")?.to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status()?;
        ensure!(sent.success(), "no signal was sent to {}", self.name);
        Ok(())
    }

    /// The process id, while the process runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits for the log line with a field `address` and returns that address; fails if the process ends first.
    pub async fn address(&mut self) -> Result<SocketAddr> {
        let what = format!("{} listens", self.name);
        // The end of the process is an answer too, so that the test does not wait in vain.
        wait::until(&what, || {
            let ended = self.ended();
            let found = self.address_in_log();
            async move {
                match (found?, ended?) {
                    (Some(address), _) => Ok(Ok(address)),
                    (None, Some(end)) => Ok(Err(end)),
                    (None, None) => bail!("no address in the log yet"),
                }
            }
        })
        .await
        .with_context(|| self.tail())?
        .map_err(|end| anyhow::anyhow!("{} ended: {end}\n{}", self.name, self.tail()))
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Result<Option<String>> {
        let child = self.child.as_mut().context("not started")?;
        Ok(child.try_wait()?.map(|status| status.to_string()))
    }

    fn address_in_log(&self) -> Result<Option<SocketAddr>> {
        let log = fs::read(&self.log)?;
        let this_run = String::from_utf8_lossy(&log[usize::try_from(self.started_at)?..]);
        Ok(this_run
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find_map(|entry| entry["fields"]["address"].as_str()?.parse().ok()))
    }

    /// The whole log, over all runs.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| self.log.display().to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines of its log, for the report of a failed test.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(TAIL)..];
        let last = last.join("\n");
        format!("--- the end of {}'s log ---\n{last}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{} could not be killed: {error}", self.name);
        }
    }
}

const TAIL: usize = 25;

/// Mounts a disk of `$0` KiB at `$1`, and runs the rest of the arguments.
const ON_SMALL_DISK: &str =
    r#"mount -t tmpfs -o "size=$0k,mode=700" tmpfs "$1" && shift && exec "$@""#;

const BUILD: &str = "run the builds of scripts/test (for a release build: `cargo build --workspace --bins --release`) first";

/// Finds the binary beside the running test or benchmark; fails if it is missing or older than its sources.
pub fn executable(program: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("SYSTEM_TESTS_BIN") {
        return Ok(Path::new(&folder).join(program));
    }
    let this = std::env::current_exe()?;
    let folder = this
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .context("an executable is in a folder")?;
    let path = folder.join(program);
    ensure!(path.exists(), "{} is missing: {BUILD}", path.display());
    ensure!(!stale(&path)?, "{} is stale: {BUILD}", path.display());
    Ok(path)
}

/// Whether the executable is older than one of the sources that Cargo lists beside it (`<name>.d`). Generated sources, which lie in
/// the same folder, do not count: Cargo generates them anew for each set of features.
fn stale(executable: &Path) -> Result<bool> {
    let built = fs::metadata(executable)?.modified()?;
    let Ok(noted) = fs::read_to_string(executable.with_extension("d")) else {
        return Ok(false);
    };
    let sources = noted.split_once(": ").map_or("", |(_, sources)| sources);
    let folder = executable
        .parent()
        .context("an executable is in a folder")?;
    let written = sources.split_whitespace().map(Path::new);
    let mut written = written.filter(|source| !source.starts_with(folder));
    Ok(written.any(|source| {
        fs::metadata(source)
            .and_then(|file| file.modified())
            .is_ok_and(|changed| changed > built)
    }))
}
