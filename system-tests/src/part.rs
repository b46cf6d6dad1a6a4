//! The parts of a system: their programs, their addresses, their settings.

use crate::process::Process;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// A process of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// eventstore-lite
    Store,
    /// uuids-service
    Uuids,
    /// Command and query routes of users-service.
    Api,
    /// Applies messages of the broker to the read model.
    Projector,
    /// Publishes events of the store to the broker.
    Publisher,
    /// Finishes interrupted DELETEs.
    Eraser,
    /// All roles of users-service in one process, instead of the four above.
    Serve,
}

impl Part {
    /// The whole system with each role of users-service in its own process.
    pub const ROLES: [Self; 6] = [
        Self::Api,
        Self::Projector,
        Self::Publisher,
        Self::Eraser,
        Self::Uuids,
        Self::Store,
    ];

    /// The whole system with as few processes as possible.
    pub const WHOLE: [Self; 3] = [Self::Serve, Self::Uuids, Self::Store];

    /// The executable, and its subcommand if it has any.
    fn program(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Store => ("eventstore-lite", None),
            Self::Uuids => ("uuids-service", Some("serve")),
            Self::Api => ("users-service", Some("api")),
            Self::Projector => ("users-service", Some("projector")),
            Self::Publisher => ("users-service", Some("publisher")),
            Self::Eraser => ("users-service", Some("eraser")),
            Self::Serve => ("users-service", Some("serve")),
        }
    }

    /// The account of the broker with which the part connects.
    #[must_use]
    pub fn account(self) -> Option<&'static str> {
        match self {
            Self::Store | Self::Eraser => None,
            Self::Uuids => Some("uuids-service"),
            Self::Api => Some("users-command-api"),
            Self::Projector => Some("users-projector"),
            Self::Publisher => Some("users-publisher"),
            Self::Serve => Some("users-service"),
        }
    }

    /// The part's setting `AMQP_URL`: these addresses with the part's account. A part without an account has a login that the
    /// broker refuses.
    fn amqp_url(self, urls: &str) -> String {
        private_broker::as_account(urls, self.account().unwrap_or("nobody"))
    }

    pub(crate) fn health_path(self) -> &'static str {
        if self == Self::Store {
            "/health/live"
        } else {
            "/_readyz"
        }
    }
}

pub(crate) type Settings = Vec<(&'static str, String)>;

pub(crate) fn store_url(address: SocketAddr) -> String {
    format!("esdb://{address}?tls=false")
}

/// The environment variables of all processes; each process reads those that it knows.
pub(crate) fn settings(
    folder: &Path,
    addresses: &BTreeMap<Part, SocketAddr>,
    amqp_url: &str,
    level: &str,
) -> Result<Settings> {
    let secret = |name: &str| -> Result<String> {
        let path = folder.join(name);
        // Two random UUIDs are the 64 hex digits of a key.
        let half = || uuid::Uuid::new_v4().simple();
        fs::write(&path, format!("{}{}", half(), half()))?;
        Ok(path.display().to_string())
    };
    let store = addresses[&Part::Store];
    Ok(vec![
        ("RUST_LOG", level.to_owned()),
        ("EVENTSTORE_INSECURE", "true".to_owned()),
        ("EVENTSTORE_DB", folder.join("store").display().to_string()),
        ("EVENTSTORE_NODE_IP", store.ip().to_string()),
        ("EVENTSTORE_NODE_PORT", store.port().to_string()),
        ("EVENTSTORE_URL", store_url(store)),
        ("AMQP_URL", amqp_url.to_owned()),
        ("UUIDS_URL", format!("http://{}", addresses[&Part::Uuids])),
        ("USERS_DATA", folder.join("users").display().to_string()),
        ("UUIDS_DATA", folder.join("uuids").display().to_string()),
        ("MASTER_KEY_FILE", secret("master.key")?),
        ("USERNAME_SECRET_FILE", secret("username.secret")?),
    ])
}

pub(crate) fn process(
    part: Part,
    addresses: &BTreeMap<Part, SocketAddr>,
    settings: &Settings,
    folder: &Path,
) -> Result<Process> {
    let (program, role) = part.program();
    let name = format!("{part:?}").to_lowercase();
    let mut process = Process::new(&name, program, folder)?;
    if let Some(role) = role {
        process = process.argument(role);
    }
    for (variable, value) in settings {
        process = match *variable {
            "AMQP_URL" => process.variable(variable, part.amqp_url(value)),
            _ => process.variable(variable, value),
        };
    }
    let bind = match part {
        Part::Store => return Ok(process),
        Part::Uuids => "UUIDS_BIND",
        Part::Api | Part::Serve => "USERS_BIND",
        Part::Projector | Part::Publisher | Part::Eraser => "HEALTH_BIND",
    };
    Ok(process.variable(bind, addresses[&part].to_string()))
}

/// A free port below the range that the kernel gives to outgoing connections, so that a killed part finds its port free
/// when it restarts.
pub(crate) fn free_address() -> Result<SocketAddr> {
    for _ in 0..100 {
        let port = rand::random_range(10_000..32_000);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port found")
}
