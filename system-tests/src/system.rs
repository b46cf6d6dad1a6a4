//! A whole system of its own for one test: its processes, its broker, its folder.
//!
//! Invariant: every part keeps its address over restarts, so that nothing else has to be told.

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
use tempfile::TempDir;

/// The RabbitMQ node of a system.
#[derive(Debug)]
pub enum Node {
    /// One node for all tests of this process, where this system has a vhost.
    Shared(&'static PrivateBroker),
    /// A node that this system may kill.
    Own(Box<PrivateBroker>),
}

impl Deref for Node {
    type Target = PrivateBroker;

    fn deref(&self) -> &PrivateBroker {
        match self {
            Self::Shared(broker) => broker,
            Self::Own(broker) => broker,
        }
    }
}

/// Processes, their folder and their broker; all of it ends with its value.
#[derive(Debug)]
pub struct System {
    /// Where the broker is.
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

    /// Starts nothing yet: a test that cares for the order starts each part itself.
    /// `amqp_url` is what the parts are told, the broker's own or a proxy's.
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

    /// Tells every part, at its next start, that the store is at `address`: a proxy before it.
    pub fn move_store(&mut self, address: SocketAddr) {
        for process in self.processes.values_mut() {
            process.tell("EVENTSTORE_URL", store_url(address));
        }
    }

    /// Starts a part (again) and waits until it listens.
    pub async fn start_part(&mut self, part: Part) -> Result<()> {
        let process = self.processes.get_mut(&part).context("a prepared part")?;
        process.start()?;
        process.address().await?;
        Ok(())
    }

    /// `kill -9` of a part.
    pub fn kill(&mut self, part: Part) -> Result<()> {
        let process = self.processes.get_mut(&part);
        process.context("a prepared part")?.kill()
    }

    /// What a closed terminal does to a part.
    pub fn hang_up(&self, part: Part) -> Result<()> {
        let process = self.processes.get(&part);
        process.context("a prepared part")?.hang_up()
    }

    /// Waits until every part says that it is ready, with nothing missing.
    pub async fn ready(&self) -> Result<()> {
        for part in self.processes.keys() {
            wait::until(&format!("{part:?} is ready"), || async {
                let (status, body) = self.readiness(*part).await?;
                // The store has a bare 204 for this.
                let ready = status == 204 || body["status"] == "ready";
                ensure!(ready, "{status} {body}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Status and body of a part's readiness.
    pub async fn readiness(&self, part: Part) -> Result<(u16, Value)> {
        let url = format!("http://{}{}", self.addresses[&part], part.health_path());
        let answer = client::Answer::to(client::http()?.get(url)).await?;
        Ok((answer.status, answer.body))
    }

    /// A caller of the users service.
    pub fn users(&self) -> Result<Users> {
        let mut api = [Part::Serve, Part::Api].into_iter();
        let api = api.find_map(|part| self.address(part));
        Users::new(&format!("http://{}", api.context("an API")?))
    }

    /// Where a part listens, if it is one of this system's.
    #[must_use]
    pub fn address(&self, part: Part) -> Option<SocketAddr> {
        self.addresses.get(&part).copied()
    }

    /// `http://host:port` of the uuids service.
    #[must_use]
    pub fn uuids_url(&self) -> String {
        format!("http://{}", self.addresses[&Part::Uuids])
    }

    /// A look into the store, past the services.
    pub fn store(&self) -> Result<EventStreams> {
        Ok(EventStreams::connect(&store_url(
            self.addresses[&Part::Store],
        ))?)
    }

    /// Ends everything without a word, where nobody would hide the logs of a success.
    pub fn end(mut self) {
        self.went_well = true;
    }

    /// The parts that this system has.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        self.processes.keys().copied()
    }

    /// What a part has logged since the test began.
    pub fn log(&self, part: Part) -> Result<String> {
        self.processes[&part].log()
    }

    /// The folder with everything this system writes but the broker's files: logs, `store`, `users`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the broker keeps its data and its logs.
    pub async fn broker_folder(&self) -> Result<PathBuf> {
        // A young node does not know itself yet.
        let data = wait::until("the node knows its folder", || async {
            let nodes = self.broker.management("GET", "nodes", &Value::Null).await?;
            let data = nodes[0]["db_dir"].as_str().map(str::to_owned);
            data.context("a node has a db_dir")
        })
        .await?;
        let folder = Path::new(&data).ancestors().nth(2);
        Ok(folder.context("the node's folder")?.to_owned())
    }

    /// A call of the broker's management API on something of this system's vhost:
    /// `kind` is `exchanges`, `queues` or `bindings`, `rest` what follows the vhost.
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

    /// Publishes through the management API; fails unless a queue got the message.
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

    /// The messages of a queue; they stay in it.
    pub async fn messages(&self, queue: &str) -> Result<Vec<Value>> {
        let body = json!({"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"});
        let rest = format!("{queue}/get");
        let answer = self.management("POST", "queues", &rest, &body).await?;
        Ok(answer.as_array().cloned().unwrap_or_default())
    }
}

impl Drop for System {
    /// The folder goes with its value, so what a failed test would need of it is told; the test harness shows it of failed
    /// tests alone.
    fn drop(&mut self) {
        for process in self.processes.values().filter(|_| !self.went_well) {
            eprintln!("{}", process.tail());
        }
    }
}
