//! Starts private RabbitMQ nodes for tests, through `scripts/rabbitmq-node`.
//!
//! Invariants: each node has its own temporary folder and its own free loopback ports. The node ends and its folder is
//! deleted when its [`PrivateBroker`] is dropped, or when the process that started it ends, also by `kill -9`. (The
//! script reads a pipe whose other end only this process holds.)

use anyhow::bail;
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use supervised_script::{SupervisedScript, attempts, free_ports, temporary_folder};
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
    script: SupervisedScript,
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
        attempts(async || Self::start_once(name, first).await).await
    }

    async fn start_once(name: &str, first: Option<&Self>) -> anyhow::Result<Self> {
        let mut ports = free_ports::<{ PORTS.len() }>()?;
        let folder = temporary_folder("rabbitmq-")?;
        let mut options = vec!["--name".to_owned(), name.to_owned()];
        if let Some(first) = first {
            ports[EPMD] = first.ports[EPMD];
            options.extend(["--join".to_owned(), first.folder.display().to_string()]);
        }
        let mut script = Command::new(SCRIPT);
        script.arg("run").arg(&folder).arg("--remove").args(options);
        for (name, port) in PORTS.iter().zip(ports) {
            script.arg(format!("--{name}-port")).arg(port.to_string());
        }
        let script = SupervisedScript::start(script).await?;
        Ok(Self {
            name: format!("{name}@localhost"),
            folder,
            ports,
            script,
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
        self.script.command("kill", "killed").await
    }

    /// Starts a killed node again with the same ports and data, and returns when it is ready.
    ///
    /// # Errors
    /// If the node does not become ready.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.script.command("start", "ready").await
    }

    /// Stops the node with SIGSTOP until [`resume`](Self::resume): it answers nothing, and its connections stay.
    ///
    /// # Errors
    /// If the supervising script has ended.
    pub async fn pause(&self) -> anyhow::Result<()> {
        self.script.command("pause", "paused").await
    }

    /// Lets a paused node go on.
    ///
    /// # Errors
    /// If the supervising script has ended.
    pub async fn resume(&self) -> anyhow::Result<()> {
        self.script.command("resume", "resumed").await
    }

    /// Runs `rabbitmqctl` with these words, separated by spaces.
    ///
    /// # Errors
    /// If it fails.
    pub async fn control(&self, words: &str) -> anyhow::Result<()> {
        self.script
            .command(&format!("control {words}"), "done")
            .await
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

#[cfg(test)]
mod tests {
    use super::PrivateBroker;
    use serde_json::Value;
    use std::process::Command;

    /// As when a terminal ends a run of `timeout`, which passes the signal on.
    #[tokio::test]
    async fn a_node_ends_however_many_signals_its_script_gets() {
        let broker = PrivateBroker::start().await.unwrap();
        let script = broker.script.id();
        let runs =
            || std::fs::read(format!("/proc/{script}/cmdline")).is_ok_and(|line| !line.is_empty());
        while runs() {
            let mut kill = Command::new("kill");
            kill.args(["-TERM", &script.to_string()]).status().unwrap();
        }
        assert!(!broker.folder.exists());
        let answer = broker.management("GET", "overview", &Value::Null).await;
        assert!(answer.is_err(), "{answer:?}");
    }

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
