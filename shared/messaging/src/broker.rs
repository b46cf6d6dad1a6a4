//! The connections to one RabbitMQ virtual host: one for publishing and one for consuming. A broker that is short of
//! memory or disk blocks publishing connections, and acknowledgements must still reach it.

use crate::addresses;
use crate::connector::{Connector, Pool};
use crate::error::{InvalidUrl, Unavailable};
use crate::topology::{self, Topology};
use lapin::Channel;
use std::fmt;
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
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
    /// Prepares connections to `urls`, for example `amqp://guest:guest@127.0.0.1:5672/%2f`, or several of a cluster, separated
    /// by commas. Each new connection goes to the next address of the list. No broker need be running yet. The management UI
    /// shows the connections under `name`.
    ///
    /// # Errors
    /// [`InvalidUrl`] if `urls` is not a usable AMQP URL, or a list of them.
    pub fn connect(urls: &str, name: &str) -> Result<Self, InvalidUrl> {
        let addresses = addresses::parse(urls)?;
        let pool = |purpose| Connector::pool(&addresses, &format!("{name} ({purpose})"));
        Ok(Self {
            publishing: pool("publishing")?,
            consuming: pool("consuming")?,
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

    /// Deletes the messages that wait in these queues. Missing queues are passed over.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    pub async fn purge(&self, queues: &[String]) -> Result<(), Unavailable> {
        for queue in queues {
            let channel = self.consuming_channel().await?;
            within(topology::purge(&channel, queue)).await?;
        }
        Ok(())
    }

    /// Deletes an exchange with its bindings, and queues with their messages. What is missing is passed over.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    pub async fn delete(&self, exchange: &str, queues: &[String]) -> Result<(), Unavailable> {
        let channel = self.consuming_channel().await?;
        within(topology::delete_exchange(&channel, exchange)).await?;
        for queue in queues {
            within(topology::delete_queue(&channel, queue)).await?;
        }
        Ok(())
    }

    /// The number of messages that wait in a queue. `None` if it is missing.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    pub async fn waiting(&self, queue: &str) -> Result<Option<u32>, Unavailable> {
        let channel = self.consuming_channel().await?;
        within(topology::waiting(&channel, queue)).await
    }

    pub(crate) async fn publishing_channel(&self) -> Result<Channel, Unavailable> {
        channel(&self.publishing).await
    }

    pub(crate) async fn consuming_channel(&self) -> Result<Channel, Unavailable> {
        channel(&self.consuming).await
    }
}

/// Opens a channel. The connection returns to the pool at once, and the channel keeps using it.
async fn channel(pool: &Pool) -> Result<Channel, Unavailable> {
    let connection = pool.get().await.map_err(Unavailable::from)?;
    within(connection.create_channel()).await
}

/// Fails the operation if the broker does not answer in time.
pub(crate) async fn within<T, E>(
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, Unavailable>
where
    Unavailable: From<E>,
{
    match tokio::time::timeout(ANSWER_TIMEOUT, operation).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Unavailable(format!("no answer within {ANSWER_TIMEOUT:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::Broker;

    #[tokio::test]
    async fn debug_shows_no_password() {
        let broker = Broker::connect("amqp://me:secret@localhost", "test").unwrap();
        assert!(!format!("{broker:?}").contains("secret"));
    }
}
