//! The connections to one RabbitMQ virtual host: one that publishes and one that consumes, because a broker short of
//! memory or disk blocks connections that publish, and acknowledgements must get through all the same.

use crate::topology::{self, Topology};
use deadpool_lapin::{Config, Pool, PoolConfig, Runtime, Timeouts};
use lapin::uri::AMQPUri;
use lapin::{Channel, ConnectionProperties};
use std::fmt;
use std::time::Duration;
use thiserror::Error;
use url::{Host, Url};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// In seconds; a peer that is silent for two of them is taken for dead.
const HEARTBEAT: u16 = 10;

/// The URL is not an AMQP URL. It is not repeated here, because it can hold a password.
#[derive(Debug, Error)]
#[error("not an AMQP URL: {0}")]
pub struct InvalidUrl(String);

/// The broker cannot be reached, refused, or did not answer in time; another attempt may succeed.
#[derive(Debug, Clone, Error)]
#[error("the broker is not available: {0}")]
pub struct Unavailable(pub(crate) String);

impl From<lapin::Error> for Unavailable {
    fn from(error: lapin::Error) -> Self {
        Self(error.to_string())
    }
}

/// One RabbitMQ virtual host. Connections are made when they are first needed, and anew after each loss.
#[derive(Clone)]
pub struct Broker {
    publishing: Pool,
    consuming: Pool,
}

/// The pools would show the URL, which can hold a password.
impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    /// Prepares connections to `url`, for instance `amqp://guest:guest@127.0.0.1:5672/%2f`; the broker need not be
    /// there yet. `name` is what the management pages show.
    ///
    /// # Errors
    /// [`InvalidUrl`] when `url` is not an AMQP URL.
    pub fn connect(url: &str, name: &str) -> Result<Self, InvalidUrl> {
        let mut uri = parse(url)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.connection_timeout.get_or_insert(5_000);
        Ok(Self {
            publishing: pool(&uri, format!("{name} (publishing)"))?,
            consuming: pool(&uri, format!("{name} (consuming)"))?,
        })
    }

    /// Makes one bounded round trip to the broker, for readiness.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    pub async fn check(&self) -> Result<(), Unavailable> {
        let channel = self.publishing_channel().await?;
        within(channel.close(200, "checked".into())).await
    }

    /// Declares exchanges, queues and bindings, and returns the names of the exchanges and queues that did not exist
    /// before. (Whether a binding existed cannot be asked.)
    ///
    /// # Errors
    /// [`Unavailable`], also when something exists under one of the names with other properties.
    pub async fn declare(&self, topology: &Topology) -> Result<Vec<String>, Unavailable> {
        let mut anew = Vec::new();
        let mut channel = self.consuming_channel().await?;
        for exchange in &topology.exchanges {
            if !within(topology::exchange_exists(&channel, exchange)).await? {
                anew.push(exchange.name.clone());
                // The broker closes the channel of a failed look.
                channel = self.consuming_channel().await?;
            }
        }
        for queue in &topology.queues {
            if !within(topology::queue_exists(&channel, queue)).await? {
                anew.push(queue.name.clone());
                channel = self.consuming_channel().await?;
            }
        }
        within(topology::declare(&channel, topology)).await?;
        Ok(anew)
    }

    pub(crate) async fn publishing_channel(&self) -> Result<Channel, Unavailable> {
        channel(&self.publishing).await
    }

    pub(crate) async fn consuming_channel(&self) -> Result<Channel, Unavailable> {
        channel(&self.consuming).await
    }
}

/// The query parameters that the AMQP parser reads. It ignores all others, so that a misspelled one has no effect.
const PARAMETERS: [&str; 5] = [
    "auth_mechanism",
    "channel_max",
    "connection_timeout",
    "frame_max",
    "heartbeat",
];

/// The AMQP parser drops an IPv6 address, and would connect to localhost in its place. As text in the host's encoding the
/// address passes through it, also when the pool parses the URL again.
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

/// A pool of one: many channels share the connection, and the pool makes it, checks it and makes it anew, one attempt
/// at a time however many wait for it.
fn pool(uri: &AMQPUri, name: String) -> Result<Pool, InvalidUrl> {
    let timeouts = Timeouts {
        wait: Some(CONNECT_WITHIN),
        create: Some(CONNECT_WITHIN),
        recycle: Some(CONNECT_WITHIN),
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

/// The connection goes back to the pool at once; the channel keeps working on it.
async fn channel(pool: &Pool) -> Result<Channel, Unavailable> {
    let connection = pool
        .get()
        .await
        .map_err(|error| Unavailable(error.to_string()))?;
    within(connection.create_channel()).await
}

/// Bounds one exchange with the broker.
pub(crate) async fn within<T>(
    exchange: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Unavailable> {
    match tokio::time::timeout(ANSWER_WITHIN, exchange).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Unavailable(format!("no answer within {ANSWER_WITHIN:?}"))),
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

    /// Where the connection goes, by the parser that the pool uses.
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
    fn an_unknown_parameter_of_the_url_is_refused_and_named() {
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
