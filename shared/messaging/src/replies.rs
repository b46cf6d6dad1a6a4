//! Replies to the queue that a message names.
//!
//! Replies have a channel of their own. A sender can name any queue, and the broker may answer a strange name by closing the
//! channel.

use crate::broker::{Broker, within};
use crate::error::Unavailable;
use crate::message::Delivery;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel};
use tokio::sync::Mutex;

/// Sends replies. A reply is sent once and not confirmed: if its queue is gone, or the broker is, it is lost.
#[derive(Debug)]
pub struct Replies {
    broker: Broker,
    channel: Mutex<Option<Channel>>,
}

impl Replies {
    /// Sends over this broker. The channel is opened for the first reply, and again after it was lost.
    #[must_use]
    pub fn new(broker: Broker) -> Self {
        let channel = Mutex::default();
        Self { broker, channel }
    }

    /// Replies to the message, under its correlation id. Does nothing if the message asks for no reply.
    ///
    /// # Errors
    /// [`Unavailable`] if the reply was not sent.
    pub async fn send(
        &self,
        to: &Delivery,
        content_type: &'static str,
        body: &[u8],
    ) -> Result<(), Unavailable> {
        if to.reply_to().is_none() {
            return Ok(());
        }
        let channel = self.channel().await?;
        let properties = BasicProperties::default().with_content_type(content_type.into());
        within(reply(&channel, &to.properties, properties, body)).await
    }

    async fn channel(&self) -> Result<Channel, Unavailable> {
        let mut channel = self.channel.lock().await;
        match channel.as_ref() {
            Some(open) if open.status().connected() => Ok(open.clone()),
            Some(_) | None => {
                let new = self.broker.publishing_channel().await?;
                Ok(channel.insert(new).clone())
            }
        }
    }
}

/// Sends a reply to the queue that the request names, if it names one.
pub(crate) async fn reply(
    channel: &Channel,
    request: &BasicProperties,
    mut properties: BasicProperties,
    body: &[u8],
) -> lapin::Result<()> {
    let Some(queue) = request.reply_to() else {
        return Ok(());
    };
    if let Some(id) = request.correlation_id() {
        properties = properties.with_correlation_id(id.clone());
    }
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), queue.clone(), options, body, properties)
        .await?;
    Ok(())
}
