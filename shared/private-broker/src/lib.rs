//! Starts private RabbitMQ nodes for tests, through `scripts/rabbitmq-node`.
//!
//! Invariants: each node has its own temporary folder and its own free loopback ports. The node ends and its folder is
//! deleted when its [`PrivateBroker`] is dropped, or when the process that started it ends, also by `kill -9`. (The
//! script reads a pipe whose other end only this process holds.)

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
    /// The one node that all tests of this process share; give each test its own [`vhost`](Self::vhost).
    ///
    /// # Panics
    /// If the node cannot be started, because then no test can run.
    pub async fn shared() -> &'static Self {
        SHARED
            .get_or_init(|| async { Self::start().await.expect("a RabbitMQ node can be started") })
            .await
    }

    /// Starts a node that nobody shares, for tests that kill it.
    ///
    /// # Errors
    /// If RabbitMQ is not installed, or the node does not become ready.
    pub async fn start() -> anyhow::Result<Self> {
        let mut failure = None;
        // A free port is found by binding and releasing it, so another process may take it in between.
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

    /// `http://127.0.0.1:PORT`; the login is guest:guest.
    #[must_use]
    pub fn management_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.management_port)
    }

    /// Creates a virtual host with a random name and returns its AMQP URL, which ends in that name.
    ///
    /// # Panics
    /// If the node does not answer, because then the test cannot run.
    pub async fn vhost(&self) -> String {
        let name = Uuid::new_v4().simple().to_string();
        let rights = serde_json::json!({"configure": ".*", "write": ".*", "read": ".*"});
        for (path, body) in [
            (format!("vhosts/{name}"), serde_json::json!({})),
            (format!("permissions/{name}/guest"), rights),
        ] {
            self.management("PUT", &path, &body)
                .await
                .expect("the node creates a virtual host");
        }
        self.vhost_url(&name)
    }

    fn vhost_url(&self, name: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{name}", self.amqp_port)
    }

    /// Calls the management API at `path`, without its prefix `/api/`. Returns the answer's JSON, or null if it is empty.
    ///
    /// # Errors
    /// If the node does not answer, or its answer is not a success.
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

    /// Ends the node with SIGKILL; its ports and data are kept for [`restart`](Self::restart).
    ///
    /// # Errors
    /// If the supervising script has ended.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.command("kill", "killed").await
    }

    /// Starts a killed node again with the same ports and data, and returns when it is ready.
    ///
    /// # Errors
    /// If the node does not become ready.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.command("start", "ready").await
    }

    async fn command(&self, command: &'static str, answer: &'static str) -> anyhow::Result<()> {
        let supervisor = Arc::clone(&self.supervisor);
        tokio::task::spawn_blocking(move || {
            supervisor
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .command(command, answer)
        })
        .await?
    }
}

/// The script and its two pipes.
#[derive(Debug)]
struct Supervisor {
    script: Child,
    commands: Option<ChildStdin>,
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
        let commands = script.stdin.take();
        let answers = BufReader::new(script.stdout.take().context("stdout is a pipe")?);
        let mut supervisor = Self {
            script,
            commands,
            answers,
        };
        supervisor.expect_answer("ready")?;
        Ok(supervisor)
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
            bail!("the node's script answered {line:?} instead of {expected:?}");
        }
        Ok(())
    }
}

impl Drop for Supervisor {
    /// Closing the script's input ends the node. Waiting for the script leaves no process behind.
    fn drop(&mut self) {
        self.commands.take();
        let _ = self.script.wait();
    }
}

/// Creates the folder of a node. The script removes it, even if this process is killed.
fn temporary_folder() -> anyhow::Result<PathBuf> {
    Ok(tempfile::Builder::new()
        .prefix("rabbitmq-")
        .tempdir()?
        .keep())
}

/// Free ports below the range that the kernel gives to outgoing connections. While the node is down, between
/// [`PrivateBroker::kill`] and [`PrivateBroker::restart`], an outgoing connection could take a port of that range, or even
/// connect to itself.
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
