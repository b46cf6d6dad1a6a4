//! The executable in its own process, which ends with its owner.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::soon;

pub(crate) const EXECUTABLE: &str = env!("CARGO_BIN_EXE_eventstore-lite");

pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Process {
    /// Starts the executable on a free port and waits until it listens.
    pub(crate) async fn start(db: &Path) -> Self {
        Self::start_under(Command::new(EXECUTABLE), db, &[]).await
    }

    /// Starts the executable under `command`, with more arguments.
    pub(crate) async fn start_under(mut command: Command, db: &Path, arguments: &[&OsStr]) -> Self {
        command
            .args(["--insecure", "--node-port", "0", "--db"])
            .arg(db)
            .args(arguments);
        Self::listening(command).await
    }

    /// Starts this command and waits until it listens.
    pub(crate) async fn listening(command: Command) -> Self {
        let mut child = spawn(command);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = soon("the address", async {
            loop {
                let line = lines
                    .next_line()
                    .await
                    .unwrap()
                    .expect("the process listens before it ends");
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                if let Some(address) = line["fields"]["address"].as_str() {
                    return address.to_owned();
                }
            }
        });
        let address = address.await;
        // The rest of its log is read and dropped, so that it never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }

    /// Starts the executable and kills it after its first log line, which it writes before it opens the database.
    pub(crate) async fn killed_while_it_opens(db: &Path) {
        let mut command = Command::new(EXECUTABLE);
        command
            .args(["--insecure", "--node-port", "0", "--db"])
            .arg(db);
        let mut child = spawn(command);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        soon("its first log line", lines.next_line()).await.unwrap();
        child.kill().await.unwrap();
    }

    /// `kill -9`.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn spawn(mut command: Command) -> Child {
    command.env("RUST_LOG", "info").kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}
