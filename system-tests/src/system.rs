//! A whole system for one test, with its own processes, broker and folder.
//!
//! Invariant: every part keeps its address over restarts, so the other parts need no new settings.

use crate::client::{self, Users};
use crate::part::{Part, free_address, process, settings, store_url};
use crate::process::Process;
use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use event_streams::EventStreams;
use private_broker::PrivateBroker;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The RabbitMQ node of a system.
#[derive(Debug)]
pub enum Node {
    /// A node that all tests of this process share; this system has a vhost on it.
    Shared(&'static PrivateBroker),
    /// A node that this system may kill.
    Own(Box<PrivateBroker>),
    /// The nodes of a cluster, which this system may kill.
    Cluster(Vec<PrivateBroker>),
}

impl Node {
    /// Starts a node for one system.
    pub async fn own() -> Result<Self> {
        Ok(Self::Own(Box::new(PrivateBroker::start().await?)))
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[PrivateBroker] {
        match self {
            Self::Shared(broker) => std::slice::from_ref(*broker),
            Self::Own(broker) => std::slice::from_ref(broker),
            Self::Cluster(nodes) => nodes,
        }
    }
}

impl Deref for Node {
    type Target = PrivateBroker;

    fn deref(&self) -> &PrivateBroker {
        match self {
            Self::Shared(broker) => broker,
            Self::Own(broker) => broker,
            Self::Cluster(nodes) => &nodes[0],
        }
    }
}

/// Processes with their folder and their broker; dropping the system ends and deletes all of them.
#[derive(Debug)]
pub struct System {
    /// The RabbitMQ node.
    pub broker: Node,
    vhost: String,
    processes: BTreeMap<Part, Process>,
    addresses: BTreeMap<Part, SocketAddr>,
    folder: TempDir,
    went_well: bool,
}

impl System {
    /// Starts every role as a process of its own and waits until all are ready.
    pub async fn start() -> Result<Self> {
        let broker = Node::Shared(PrivateBroker::shared().await);
        Self::of(&Part::ROLES, broker, "info").await
    }

    /// Starts these parts, logging at `level`, and waits until all are ready.
    pub async fn of(parts: &[Part], broker: Node, level: &str) -> Result<Self> {
        let amqp_url = broker.vhost().await;
        let mut system = Self::prepare(parts, broker, &amqp_url, level)?;
        for part in parts {
            system.start_part(*part).await?;
        }
        system.ready().await?;
        Ok(system)
    }

    /// Prepares the parts without starting them, for a test that starts them in a certain order.
    /// The parts connect to `amqp_url`, which is the broker's own URL or that of a proxy.
    pub fn prepare(parts: &[Part], broker: Node, amqp_url: &str, level: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("system-").tempdir()?;
        let vhost = amqp_url.rsplit('/').next().unwrap_or_default().to_owned();
        let addresses = [Part::Store, Part::Uuids]
            .iter()
            .chain(parts)
            .map(|part| Ok((*part, free_address()?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let settings = settings(folder.path(), &addresses, amqp_url, level)?;
        let processes = parts
            .iter()
            .map(|part| Ok((*part, process(*part, &addresses, &settings, folder.path())?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            broker,
            vhost,
            processes,
            addresses,
            folder,
            went_well: false,
        })
    }

    /// Makes every part use a store at `address`, such as a proxy, from its next start on.
    pub fn move_store(&mut self, address: SocketAddr) {
        for process in self.processes.values_mut() {
            process.set_variable("EVENTSTORE_URL", store_url(address));
        }
    }

    /// Sets an environment variable of a part from its next start on.
    pub fn set(&mut self, part: Part, name: &str, value: &str) -> Result<()> {
        let process = self.process(part)?;
        process.set_variable(name, value);
        Ok(())
    }

    /// A command of the same program as a part, with these arguments instead, in the environment of the part.
    pub fn command(&self, part: Part, arguments: &[&str]) -> Result<Command> {
        let process = self.processes.get(&part).context("a prepared part")?;
        Ok(process.other(arguments))
    }

    /// Makes all parts of users-service keep keys and read models in this PostgreSQL database, from their next start on.
    pub fn use_database(&mut self, url: &str) {
        for (part, process) in &mut self.processes {
            if !matches!(part, Part::Store | Part::Uuids) {
                process.set_variable("DATABASE_URL", url);
            }
        }
    }

    /// Gives a part of users-service a disk of its own for its data folder, from its next start on.
    pub fn set_small_disk(&mut self, part: Part, kibibytes: u32) -> Result<()> {
        let folder = self.folder.path().join("users");
        std::fs::create_dir_all(&folder)?;
        let process = self.process(part)?;
        process.set_small_disk(&folder, kibibytes);
        Ok(())
    }

    /// The data folder of a part of users-service, as its process sees it.
    pub fn data_folder(&self, part: Part) -> Result<PathBuf> {
        let process = self.processes.get(&part).context("a prepared part")?;
        process.inside(&self.folder.path().join("users"))
    }

    /// The process of a part.
    pub fn process(&mut self, part: Part) -> Result<&mut Process> {
        self.processes.get_mut(&part).context("a prepared part")
    }

    /// The processes of all parts.
    pub fn processes(&mut self) -> impl Iterator<Item = (Part, &mut Process)> {
        let processes = self.processes.iter_mut();
        processes.map(|(part, process)| (*part, process))
    }

    /// The URL at which a test reaches the broker, with an account that may do everything.
    #[must_use]
    pub fn amqp_url(&self) -> String {
        self.broker.vhost_url(&self.vhost)
    }

    /// The id of the process of a part, while it runs.
    #[must_use]
    pub fn process_id(&self, part: Part) -> Option<u32> {
        self.processes.get(&part)?.id()
    }

    /// Starts or restarts a part and waits until it listens.
    pub async fn start_part(&mut self, part: Part) -> Result<()> {
        let process = self.process(part)?;
        process.start()?;
        process.address().await?;
        Ok(())
    }

    /// Kills a part with `kill -9`.
    pub fn kill(&mut self, part: Part) -> Result<()> {
        self.process(part)?.kill()
    }

    /// Sends a signal to a part: `HUP`, as a closed terminal does, or `STOP` and `CONT`.
    pub fn signal(&self, part: Part, signal: &str) -> Result<()> {
        let process = self.processes.get(&part);
        process.context("a prepared part")?.signal(signal)
    }

    /// Waits until every part is `ready`, with no missing dependency.
    pub async fn ready(&self) -> Result<()> {
        for part in self.processes.keys() {
            self.part_ready(*part).await?;
        }
        Ok(())
    }

    /// The same for one part.
    pub async fn part_ready(&self, part: Part) -> Result<()> {
        wait::until(&format!("{part:?} is ready"), || async {
            let (status, body) = self.readiness(part).await?;
            // The store answers 204 without a body.
            let ready = status == 204 || body["status"] == "ready";
            ensure!(ready, "{status} {body}");
            Ok(())
        })
        .await
    }

    /// Waits until a part can do its work, although a dependency may be missing.
    pub async fn serves(&self, part: Part) -> Result<()> {
        wait::until(&format!("{part:?} can do its work"), || async {
            let (status, body) = self.readiness(part).await?;
            ensure!((200..300).contains(&status), "{status} {body}");
            Ok(())
        })
        .await
    }

    /// Status and body of the readiness answer of a part.
    pub async fn readiness(&self, part: Part) -> Result<(u16, Value)> {
        let url = format!("http://{}{}", self.addresses[&part], part.health_path());
        let answer = client::Answer::to(client::http()?.get(url)).await?;
        Ok((answer.status, answer.body))
    }

    /// A client of the users service.
    pub fn users(&self) -> Result<Users> {
        let mut api = [Part::Serve, Part::Api].into_iter();
        let api = api.find_map(|part| self.address(part));
        Users::new(&format!("http://{}", api.context("an API")?))
    }

    /// The address of a part, if this system has it.
    #[must_use]
    pub fn address(&self, part: Part) -> Option<SocketAddr> {
        self.addresses.get(&part).copied()
    }

    /// `http://host:port` of the uuids service.
    #[must_use]
    pub fn uuids_url(&self) -> String {
        format!("http://{}", self.addresses[&Part::Uuids])
    }

    /// A client of the store that bypasses the services.
    pub fn store(&self) -> Result<EventStreams> {
        Ok(EventStreams::connect(&store_url(
            self.addresses[&Part::Store],
        ))?)
    }

    /// Ends everything without printing logs. The bench uses this; the test harness hides the output of passed tests itself.
    pub fn end(mut self) {
        self.went_well = true;
    }

    /// The parts that this system has.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        self.processes.keys().copied()
    }

    /// The log of a part since the test began.
    pub fn log(&self, part: Part) -> Result<String> {
        self.processes[&part].log()
    }

    /// The folder with all files of this system (logs, `store`, `users`), except those of the broker.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder with the broker's data and logs.
    pub async fn broker_folder(&self) -> Result<PathBuf> {
        // A node that has just started does not report its folder yet.
        let data = wait::until("the node reports its folder", || async {
            let nodes = self.broker.management("GET", "nodes", &Value::Null).await?;
            let data = nodes[0]["db_dir"].as_str().map(str::to_owned);
            data.context("a node has a db_dir")
        })
        .await?;
        let folder = Path::new(&data).ancestors().nth(2);
        Ok(folder.context("the node's folder")?.to_owned())
    }

    /// Calls the broker's management API for an object of this system's vhost. `kind` is `exchanges`, `queues` or
    /// `bindings`; `rest` is the part of the path after the vhost.
    pub async fn management(
        &self,
        method: &str,
        kind: &str,
        rest: &str,
        body: &Value,
    ) -> Result<Value> {
        let path = format!("{kind}/{}/{rest}", self.vhost);
        self.broker.management(method, &path, body).await
    }

    /// Publishes through the management API; fails if no queue got the message.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        message: (Value, &str),
    ) -> Result<()> {
        let (properties, payload) = message;
        let body = json!({"properties": properties, "routing_key": routing_key, "payload": payload, "payload_encoding": "string"});
        let rest = format!("{exchange}/publish");
        let answer = self.management("POST", "exchanges", &rest, &body).await?;
        if answer["routed"] != json!(true) {
            bail!("not routed: {answer}");
        }
        Ok(())
    }

    /// Reads the messages of a queue without removing them.
    pub async fn messages(&self, queue: &str) -> Result<Vec<Value>> {
        let body = json!({"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"});
        let rest = format!("{queue}/get");
        let answer = self.management("POST", "queues", &rest, &body).await?;
        Ok(answer.as_array().cloned().unwrap_or_default())
    }
}

impl Drop for System {
    /// Prints the end of each log before the folder is deleted. The test harness shows this output for failed tests only.
    fn drop(&mut self) {
        for process in self.processes.values().filter(|_| !self.went_well) {
            eprintln!("{}", process.tail());
        }
    }
}
