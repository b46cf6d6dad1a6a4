//! Starts private RabbitMQ nodes for tests, through `scripts/rabbitmq-node`.
//!
//! Invariants: each node has its own temporary folder and its own free loopback ports. The node ends and its folder is
//! deleted when its [`PrivateBroker`] is dropped, or when the process that started it ends, also by `kill -9`. (The
//! script reads a pipe whose other end only this process holds.)

use anyhow::{Context, bail};
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;
use uuid::Uuid;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/rabbitmq-node");
/// The accounts of the services and their permissions.
const DEFINITIONS: &str = include_str!("../../../deploy/rabbitmq/definitions.json");
const PORTS: [&str; 6] = ["amqp", "management", "prometheus", "stream", "dist", "epmd"];

/// Places in [`PORTS`].
const AMQP: usize = 0;
const MANAGEMENT: usize = 1;
const EPMD: usize = 5;

static SHARED: OnceCell<PrivateBroker> = OnceCell::const_new();

/// A running RabbitMQ node that belongs to this process.
#[derive(Debug)]
pub struct PrivateBroker {
    name: String,
    folder: PathBuf,
    ports: [u16; PORTS.len()],
    supervisor: Arc<Mutex<Supervisor>>,
    /// Set when the accounts of the services exist.
    accounts: OnceCell<()>,
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
        Self::start_as("rabbit", None).await
    }

    /// Starts a cluster of so many nodes that nobody shares. They are members of each other when this returns.
    ///
    /// # Errors
    /// If RabbitMQ is not installed, or a node does not become ready.
    pub async fn cluster(size: usize) -> anyhow::Result<Vec<Self>> {
        let first = Self::start_as("rabbit1", None).await?;
        let names = (2..=size).map(|number| format!("rabbit{number}"));
        let others = names.map(|name| {
            let first = &first;
            async move { Self::start_as(&name, Some(first)).await }
        });
        let others = try_join_all(others).await?;
        Ok([first].into_iter().chain(others).collect())
    }

    async fn start_as(name: &str, first: Option<&Self>) -> anyhow::Result<Self> {
        let mut failure = None;
        // A free port is found by binding and releasing it, so another process may take it in between.
        for _ in 0..3 {
            match Self::start_once(name, first).await {
                Ok(broker) => return Ok(broker),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("no attempt was made")?)
    }

    async fn start_once(name: &str, first: Option<&Self>) -> anyhow::Result<Self> {
        let mut ports = free_ports()?;
        let folder = temporary_folder()?;
        let mut options = vec!["--name".to_owned(), name.to_owned()];
        if let Some(first) = first {
            ports[EPMD] = first.ports[EPMD];
            options.extend(["--join".to_owned(), first.folder.display().to_string()]);
        }
        let place = folder.clone();
        let start = move || Supervisor::start(&place, &ports, &options);
        let supervisor = tokio::task::spawn_blocking(start).await??;
        Ok(Self {
            name: format!("{name}@localhost"),
            folder,
            ports,
            supervisor: Arc::new(Mutex::new(supervisor)),
            accounts: OnceCell::new(),
        })
    }

    /// The name by which the nodes of a cluster know this one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `amqp://guest:guest@127.0.0.1:PORT/%2f`
    #[must_use]
    pub fn amqp_url(&self) -> String {
        self.vhost_url("%2f")
    }

    /// `http://127.0.0.1:PORT`; the login is guest:guest.
    #[must_use]
    pub fn management_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[MANAGEMENT])
    }

    /// Creates a virtual host with a random name and returns its AMQP URL, which ends in that name. The URL's account guest may
    /// do everything there; [`as_account`] makes the URL of a service's account, with the permissions that it has in production.
    ///
    /// # Panics
    /// If the node does not answer, because then the test cannot run.
    pub async fn vhost(&self) -> String {
        let name = Uuid::new_v4().simple().to_string();
        // Two imports at once that create the same account would fail.
        let accounts = self.accounts.get_or_init(|| self.import(accounts()));
        accounts.await;
        self.import(permissions(&name)).await;
        self.vhost_url(&name)
    }

    async fn import(&self, definitions: Value) {
        self.management("POST", "definitions", &definitions)
            .await
            .expect("the node imports definitions");
    }

    /// The AMQP URL of a virtual host that exists, for guest.
    #[must_use]
    pub fn vhost_url(&self, name: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{name}", self.ports[AMQP])
    }

    /// Calls the management API at `path`, without its prefix `/api/`. Returns the answer's JSON, or null if it is empty.
    ///
    /// # Errors
    /// If the node does not answer, or its answer is not a success.
    pub async fn management(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
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

    /// Stops the node with SIGSTOP until [`resume`](Self::resume): it answers nothing, and its connections stay.
    ///
    /// # Errors
    /// If the supervising script has ended.
    pub async fn pause(&self) -> anyhow::Result<()> {
        self.command("pause", "paused").await
    }

    /// Lets a paused node go on.
    ///
    /// # Errors
    /// If the supervising script has ended.
    pub async fn resume(&self) -> anyhow::Result<()> {
        self.command("resume", "resumed").await
    }

    /// Runs `rabbitmqctl` with these words, separated by spaces.
    ///
    /// # Errors
    /// If it fails.
    pub async fn control(&self, words: &str) -> anyhow::Result<()> {
        self.command(&format!("control {words}"), "done").await
    }

    async fn command(&self, command: &str, answer: &'static str) -> anyhow::Result<()> {
        let supervisor = Arc::clone(&self.supervisor);
        let command = command.to_owned();
        tokio::task::spawn_blocking(move || {
            supervisor
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .command(&command, answer)
        })
        .await?
    }
}

/// The URL for this account instead of guest. Works for one URL or a list of them.
#[must_use]
pub fn as_account(url: &str, account: &str) -> String {
    url.replace("//guest:guest@", &format!("//{account}:{account}@"))
}

/// The accounts of the services. The password of each is its name.
fn accounts() -> Value {
    let mut users = definitions()["users"].take();
    for user in entries(&mut users) {
        user["password"] = user["name"].clone();
    }
    json!({"users": users})
}

/// A virtual host with the permissions of all accounts there.
fn permissions(vhost: &str) -> Value {
    let mut permissions = definitions()["permissions"].take();
    let everything = json!({"user": "guest", "configure": ".*", "write": ".*", "read": ".*"});
    entries(&mut permissions).push(everything);
    for permission in entries(&mut permissions) {
        permission["vhost"] = json!(vhost);
    }
    json!({"vhosts": [{"name": vhost}], "permissions": permissions})
}

fn definitions() -> Value {
    serde_json::from_str(DEFINITIONS).expect("the definitions are JSON")
}

fn entries(list: &mut Value) -> &mut Vec<Value> {
    list.as_array_mut().expect("the definitions have this list")
}

/// The script and its two pipes.
#[derive(Debug)]
struct Supervisor {
    script: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    fn start(
        folder: &Path,
        ports: &[u16; PORTS.len()],
        options: &[String],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(SCRIPT);
        command.arg("run").arg(folder).arg("--remove").args(options);
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
