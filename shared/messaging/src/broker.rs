//! The connections to one RabbitMQ virtual host: one for publishing and one for consuming. A broker that is short of
//! memory or disk blocks publishing connections, and acknowledgements must still reach it.

use crate::topology::{self, Topology};
use deadpool_lapin::{Config, Pool, PoolConfig, Runtime, Timeouts};
use lapin::uri::AMQPUri;
use lapin::{Channel, ConnectionProperties};
use std::fmt;
use std::time::Duration;
use thiserror::Error;
use url::{Host, Url};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The heartbeat interval in seconds. A peer that is silent for two intervals counts as dead.
const HEARTBEAT: u16 = 10;

/// The URL is not a usable AMQP URL. The error does not repeat the URL, because it may contain a password.
#[derive(Debug, Error)]
#[error("invalid AMQP URL: {0}")]
pub struct InvalidUrl(String);

/// The broker is unreachable, refused the operation, or did not answer in time. Another attempt may succeed.
#[derive(Debug, Clone, Error)]
#[error("the broker is unavailable: {0}")]
pub struct Unavailable(pub(crate) String);

impl From<lapin::Error> for Unavailable {
    fn from(error: lapin::Error) -> Self {
        Self(error.to_string())
    }
}

/// One RabbitMQ virtual host. Each connection is made when it is first needed, and again after it was lost.
#[derive(Clone)]
pub struct Broker {
    publishing: Pool,
    consuming: Pool,
}

/// Omits the pools, because they would show the URL, which may contain a password.
impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    /// Prepares connections to `url`, for example `amqp://guest:guest@127.0.0.1:5672/%2f`. The broker need not be
    /// running yet. The management UI shows the connections under `name`.
    ///
    /// # Errors
    /// [`InvalidUrl`] if `url` is not a usable AMQP URL.
    pub fn connect(url: &str, name: &str) -> Result<Self, InvalidUrl> {
        let mut uri = parse(url)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.connection_timeout.get_or_insert(5_000);
        Ok(Self {
            publishing: pool(&uri, format!("{name} (publishing)"))?,
            consuming: pool(&uri, format!("{name} (consuming)"))?,
        })
    }

    /// Makes one round trip to the broker, with a time limit, for readiness checks.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    pub async fn check(&self) -> Result<(), Unavailable> {
        let channel = self.publishing_channel().await?;
        within(channel.close(200, "checked".into())).await
    }

    /// Declares the exchanges, queues and bindings. Returns the names of the exchanges and queues that were missing.
    /// AMQP cannot report whether a binding was missing.
    ///
    /// # Errors
    /// [`Unavailable`], also if an exchange or queue exists with different properties.
    pub async fn declare(&self, topology: &Topology) -> Result<Vec<String>, Unavailable> {
        let mut missing = Vec::new();
        let mut channel = self.consuming_channel().await?;
        for exchange in &topology.exchanges {
            if !within(topology::exchange_exists(&channel, exchange)).await? {
                missing.push(exchange.name.clone());
                // The broker closes the channel when the exchange or queue does not exist.
                channel = self.consuming_channel().await?;
            }
        }
        for queue in &topology.queues {
            if !within(topology::queue_exists(&channel, queue)).await? {
                missing.push(queue.name.clone());
                channel = self.consuming_channel().await?;
            }
        }
        within(topology::declare(&channel, topology)).await?;
        Ok(missing)
    }

    pub(crate) async fn publishing_channel(&self) -> Result<Channel, Unavailable> {
        channel(&self.publishing).await
    }

    pub(crate) async fn consuming_channel(&self) -> Result<Channel, Unavailable> {
        channel(&self.consuming).await
    }
}

/// The query parameters that the AMQP parser knows. It ignores all others, so a misspelled parameter would have no
/// effect.
const PARAMETERS: [&str; 5] = [
    "auth_mechanism",
    "channel_max",
    "connection_timeout",
    "frame_max",
    "heartbeat",
];

/// Parses the URL and refuses unknown parameters. The AMQP parser drops an IPv6 address and would connect to localhost,
/// so the address is percent-encoded as a host name, which also survives when the pool parses the URL again.
fn parse(url: &str) -> Result<AMQPUri, InvalidUrl> {
    let parsed = Url::parse(url).map_err(|error| InvalidUrl(error.to_string()))?;
    if parsed.cannot_be_a_base() {
        return Err(InvalidUrl("it has no host".to_owned()));
    }
    if let Some((name, _)) = parsed
        .query_pairs()
        .find(|(name, _)| !PARAMETERS.contains(&&**name))
    {
        return Err(InvalidUrl(format!("its parameter {name:?} is unknown")));
    }
    let mut uri: AMQPUri = url.parse().map_err(InvalidUrl)?;
    if let Some(Host::Ipv6(address)) = parsed.host() {
        uri.authority.host = address.to_string().replace(':', "%3A");
    }
    Ok(uri)
}

/// A pool of one connection, which many channels share. The pool makes the connection, checks it and replaces it, with
/// one attempt at a time however many callers wait for it.
fn pool(uri: &AMQPUri, name: String) -> Result<Pool, InvalidUrl> {
    let timeouts = Timeouts {
        wait: Some(CONNECT_TIMEOUT),
        create: Some(CONNECT_TIMEOUT),
        recycle: Some(CONNECT_TIMEOUT),
    };
    let config = Config {
        url: Some(uri.to_string()),
        pool: Some(PoolConfig {
            timeouts,
            ..PoolConfig::new(1)
        }),
    };
    let properties =
        move || ConnectionProperties::default().with_connection_name(name.clone().into());
    config
        .create_pool(properties, Runtime::Tokio1)
        .map_err(|error| InvalidUrl(error.to_string()))
}

/// Opens a channel. The connection returns to the pool at once, and the channel keeps using it.
async fn channel(pool: &Pool) -> Result<Channel, Unavailable> {
    let connection = pool
        .get()
        .await
        .map_err(|error| Unavailable(error.to_string()))?;
    within(connection.create_channel()).await
}

/// Fails the operation if the broker does not answer in time.
pub(crate) async fn within<T>(
    operation: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Unavailable> {
    match tokio::time::timeout(ANSWER_TIMEOUT, operation).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Unavailable(format!("no answer within {ANSWER_TIMEOUT:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{AMQPUri, Broker, parse};
    use std::net::ToSocketAddrs;

    #[tokio::test]
    async fn an_invalid_url_is_refused_without_repeating_its_password() {
        for url in [
            "http://me:secret@localhost",
            "amqp:me:secret@localhost",
            "amqp://me:secret@[2001:db8::1%25eth0]:5672",
            "amqp://me:secret@2001:db8::1:5672",
            "amqp://me:secret@:5672",
        ] {
            let refusal = Broker::connect(url, "test").unwrap_err();
            assert!(
                !format!("{refusal} {refusal:?}").contains("secret"),
                "{refusal}"
            );
        }
    }

    /// The address to which the pool connects for this URL.
    fn target(url: &str) -> String {
        let uri: AMQPUri = parse(url).unwrap().to_string().parse().unwrap();
        let target = (uri.authority.host.as_str(), uri.authority.port);
        target
            .to_socket_addrs()
            .unwrap()
            .next()
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_connection_goes_to_the_address_of_the_url() {
        for (url, address) in [
            (
                "amqp://me:secret@[2001:db8::1]:5672/%2f",
                "[2001:db8::1]:5672",
            ),
            ("amqps://me:secret@[2001:db8::1]", "[2001:db8::1]:5671"),
            ("amqp://[::ffff:192.0.2.7]:1", "[::ffff:192.0.2.7]:1"),
            ("amqp://me:secret@192.0.2.7:5672/%2f", "192.0.2.7:5672"),
        ] {
            assert_eq!(target(url), address, "{url}");
        }
    }

    #[test]
    fn an_unknown_parameter_in_the_url_is_refused_and_named() {
        let known = "amqp://localhost?heartbeat=5&frame_max=8192&channel_max=9&connection_timeout=1000&auth_mechanism=plain";
        assert!(parse(known).is_ok());
        let refused = parse("amqp://localhost?heartbeat=5&heartbeats=6").unwrap_err();
        assert!(refused.to_string().contains("\"heartbeats\""), "{refused}");
    }

    #[tokio::test]
    async fn debug_shows_no_password() {
        let broker = Broker::connect("amqp://me:secret@localhost", "test").unwrap();
        assert!(!format!("{broker:?}").contains("secret"));
    }
}
