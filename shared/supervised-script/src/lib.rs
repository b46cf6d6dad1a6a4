//! Runs a script that supervises one private server of the tests, in a folder of its own, on free ports.
//!
//! The script says `ready` when the server answers. Then it takes one command a line, and answers each with one line.
//!
//! Invariant: the server ends when the last clone of its [`SupervisedScript`] is dropped, or when the process that started it
//! ends, also by `kill -9`. (The script reads a pipe whose other end only this process holds.)

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// A script that supervises a running server.
#[derive(Debug, Clone)]
pub struct SupervisedScript(Arc<Mutex<Pipes>>);

/// The script and its two pipes.
#[derive(Debug)]
struct Pipes {
    script: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl SupervisedScript {
    /// Starts the script with its arguments, and returns when the server is ready.
    ///
    /// # Errors
    /// If the script cannot be run, or the server does not become ready.
    pub async fn start(script: Command) -> anyhow::Result<Self> {
        let pipes = tokio::task::spawn_blocking(|| Pipes::start(script)).await??;
        Ok(Self(Arc::new(Mutex::new(pipes))))
    }

    /// The id of the script's process.
    #[must_use]
    pub fn id(&self) -> u32 {
        let pipes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pipes.script.id()
    }

    /// Sends a command, and returns when the script has given this answer.
    ///
    /// # Errors
    /// If the script gives another answer, or has ended.
    pub async fn command(&self, command: &str, answer: &'static str) -> anyhow::Result<()> {
        let (pipes, command) = (Arc::clone(&self.0), command.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut pipes = pipes.lock().unwrap_or_else(PoisonError::into_inner);
            pipes.command(&command, answer)
        })
        .await?
    }
}

impl Pipes {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut script = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let commands = script.stdin.take();
        let answers = BufReader::new(script.stdout.take().context("stdout is a pipe")?);
        let mut pipes = Self {
            script,
            commands,
            answers,
        };
        pipes.expect_answer("ready")?;
        Ok(pipes)
    }

    fn command(&mut self, command: &str, answer: &str) -> anyhow::Result<()> {
        let commands = self.commands.as_mut();
        writeln!(commands.context("the script still listens")?, "{command}")?;
        self.expect_answer(answer)
    }

    fn expect_answer(&mut self, expected: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.trim_end() != expected {
            bail!("the server's script answered {line:?} instead of {expected:?}");
        }
        Ok(())
    }
}

impl Drop for Pipes {
    /// Closing the script's input ends the server. Waiting for the script leaves no process behind.
    fn drop(&mut self) {
        self.commands.take();
        let _ = self.script.wait();
    }
}

/// Starts a server, at most three times. A free port is found by binding and releasing it, so another process may take it in
/// between.
///
/// # Errors
/// The last failure.
pub async fn attempts<T>(start: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for _ in 0..2 {
        if let Ok(started) = start().await {
            return Ok(started);
        }
    }
    start().await
}

/// Creates the folder of a server. Its script removes it, even if this process is killed.
///
/// # Errors
/// If that fails.
pub fn temporary_folder(prefix: &str) -> anyhow::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix(prefix).tempdir()?.keep())
}

/// Free ports below the range that the kernel gives to outgoing connections. While a server is down, between a kill and a
/// restart, an outgoing connection could take a port of that range, or even connect to itself.
///
/// # Errors
/// If no port is free.
pub fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = (0..1_000)
            .find_map(|_| listen_somewhere())
            .context("no port is free")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn listen_somewhere() -> Option<TcpListener> {
    let (random, ..) = Uuid::new_v4().as_fields();
    let port = u16::try_from(10_000 + random % 22_000).ok()?;
    TcpListener::bind(("127.0.0.1", port)).ok()
}
