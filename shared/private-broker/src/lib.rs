//! Starts private RabbitMQ nodes for tests, through `scripts/rabbitmq-node`.
//!
//! Invariants: a node has a temporary folder and free loopback ports of its own; it ends, and its folder
//! goes, when its [`PrivateBroker`] is dropped or the process that started it ends, also by `kill -9`
//! (the script reads a pipe whose other end only this process holds).

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;
use uuid::Uuid;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/rabbitmq-node");
const PORTS: [&str; 6] = ["amqp", "management", "prometheus", "stream", "dist", "epmd"];

static SHARED: OnceCell<PrivateBroker> = OnceCell::const_new();

/// A running RabbitMQ node that belongs to this process.
#[derive(Debug)]
pub struct PrivateBroker {
    amqp_port: u16,
    management_port: u16,
    supervisor: Arc<Mutex<Supervisor>>,
}

impl PrivateBroker {
    /// The one node that all tests of this process share; give each test a [`vhost`](Self::vhost).
    ///
    /// # Panics
    /// When the node cannot be started: no test can run then.
    pub async fn shared() -> &'static Self {
        SHARED
            .get_or_init(|| async { Self::start().await.expect("a RabbitMQ node can be started") })
            .await
    }

    /// A node of one's own, for tests that kill it.
    ///
    /// # Errors
    /// When RabbitMQ is not installed, or the node does not become ready.
    pub async fn start() -> anyhow::Result<Self> {
        let mut failure = None;
        // Free ports are found by binding and letting go, so another process can be quicker.
        for _ in 0..3 {
            match Self::start_once().await {
                Ok(broker) => return Ok(broker),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("no attempt was made")?)
    }

    async fn start_once() -> anyhow::Result<Self> {
        let ports = free_ports()?;
        let supervisor = tokio::task::spawn_blocking(move || Supervisor::start(&ports)).await??;
        Ok(Self {
            amqp_port: ports[0],
            management_port: ports[1],
            supervisor: Arc::new(Mutex::new(supervisor)),
        })
    }

    /// `amqp://guest:guest@127.0.0.1:PORT/%2f`
    #[must_use]
    pub fn amqp_url(&self) -> String {
        self.vhost_url("%2f")
    }

    /// `http://127.0.0.1:PORT`, where guest:guest may log in.
    #[must_use]
    pub fn management_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.management_port)
    }

    /// Makes a virtual host with a random name and returns its AMQP URL, which ends in that name.
    ///
    /// # Panics
    /// When the node does not answer: the test cannot run then.
    pub async fn vhost(&self) -> String {
        let name = Uuid::new_v4().simple().to_string();
        let rights = serde_json::json!({"configure": ".*", "write": ".*", "read": ".*"});
        for (path, body) in [
            (format!("vhosts/{name}"), serde_json::json!({})),
            (format!("permissions/{name}/guest"), rights),
        ] {
            self.management("PUT", &path, &body)
                .await
                .expect("the node makes a virtual host");
        }
        self.vhost_url(&name)
    }

    fn vhost_url(&self, name: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{name}", self.amqp_port)
    }

    /// A call of the management API: `path` without `/api/`; returns the answer's JSON (null if empty).
    ///
    /// # Errors
    /// When the node does not answer, or answers anything but success.
    pub async fn management(
        &self,
        method: &str,
        path: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        let url = format!("{}/api/{path}", self.management_url());
        let request = reqwest::Client::new()
            .request(method.parse()?, &url)
            .basic_auth("guest", Some("guest"));
        let response = request.json(body).send().await?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("{method} {path}: {status} {text}");
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Ends the node with SIGKILL; ports and data stay reserved for [`restart`](Self::restart).
    ///
    /// # Errors
    /// When the supervising script is gone.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.tell("kill", "killed").await
    }

    /// Starts a killed node again, on the same ports and data, and returns when it is ready.
    ///
    /// # Errors
    /// When the node does not become ready.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.tell("start", "ready").await
    }

    async fn tell(&self, word: &'static str, answer: &'static str) -> anyhow::Result<()> {
        let supervisor = Arc::clone(&self.supervisor);
        tokio::task::spawn_blocking(move || {
            supervisor
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .tell(word, answer)
        })
        .await?
    }
}

/// The script and its two pipes.
#[derive(Debug)]
struct Supervisor {
    script: Child,
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    fn start(ports: &[u16; PORTS.len()]) -> anyhow::Result<Self> {
        let mut command = Command::new(SCRIPT);
        command.arg("run").arg(temporary_folder()?).arg("--remove");
        for (name, port) in PORTS.iter().zip(ports) {
            command.arg(format!("--{name}-port")).arg(port.to_string());
        }
        let mut script = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {SCRIPT}"))?;
        let words = script.stdin.take();
        let answers = BufReader::new(script.stdout.take().context("stdout is a pipe")?);
        let mut supervisor = Self {
            script,
            words,
            answers,
        };
        supervisor.expect_answer("ready")?;
        Ok(supervisor)
    }

    fn tell(&mut self, word: &str, answer: &str) -> anyhow::Result<()> {
        writeln!(
            self.words.as_mut().context("the script still listens")?,
            "{word}"
        )?;
        self.expect_answer(answer)
    }

    fn expect_answer(&mut self, expected: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.trim_end() != expected {
            bail!("the node's script answered {line:?} instead of {expected:?}");
        }
        Ok(())
    }
}

impl Drop for Supervisor {
    /// Closing the script's input ends the node; waiting leaves nothing behind.
    fn drop(&mut self) {
        self.words.take();
        let _ = self.script.wait();
    }
}

/// The script removes the folder, also when this process is killed.
fn temporary_folder() -> anyhow::Result<PathBuf> {
    Ok(tempfile::Builder::new()
        .prefix("rabbitmq-")
        .tempdir()?
        .keep())
}

/// Free ports below the range that the kernel gives to outgoing connections: those can be taken, or even connected to
/// themselves, while the node is down between [`PrivateBroker::kill`] and [`PrivateBroker::restart`].
fn free_ports() -> anyhow::Result<[u16; PORTS.len()]> {
    let mut ports = [0; PORTS.len()];
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

#[cfg(test)]
mod tests {
    use super::PrivateBroker;
    use serde_json::Value;

    #[tokio::test]
    async fn a_killed_node_comes_back_with_its_data() {
        let broker = PrivateBroker::start().await.unwrap();
        let url = broker.vhost().await;
        let name = url.rsplit('/').next().unwrap();
        broker.kill().await.unwrap();
        assert!(
            broker
                .management("GET", "overview", &Value::Null)
                .await
                .is_err()
        );
        broker.restart().await.unwrap();
        broker
            .management("GET", &format!("vhosts/{name}"), &Value::Null)
            .await
            .unwrap();
    }
}
