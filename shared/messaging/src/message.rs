//! Messages to publish and delivered messages, without the vendor's types.

use crate::topology::{short, text};
use lapin::options::BasicAckOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, BasicProperties};
use std::borrow::Cow;

const PERSISTENT: u8 = 2;

/// A message to publish. The broker keeps it on disk.
#[derive(Clone, Debug)]
pub struct Message {
    /// The exchange to publish to. Empty for the default exchange, which routes by the name of the queue.
    pub exchange: String,
    /// The routing key, at most 255 bytes.
    pub routing_key: String,
    /// The message id, at most 255 bytes. If two messages in flight share an id, and no queue takes one of them, both count as
    /// unroutable.
    pub id: String,
    /// The media type of the body.
    pub content_type: Cow<'static, str>,
    /// The headers, whose values are text.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    pub(crate) fn properties(&self) -> lapin::Result<BasicProperties> {
        let mut headers = FieldTable::default();
        for (name, value) in &self.headers {
            headers.insert(short(name)?, text(value));
        }
        Ok(BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(short(&self.id)?)
            .with_content_type(short(&self.content_type)?)
            .with_headers(headers))
    }
}

/// A delivered message.
#[derive(Debug)]
pub struct Delivery {
    /// The body.
    pub body: Vec<u8>,
    /// Whether the message was delivered before, to any consumer, and not acknowledged.
    pub redelivered: bool,
    pub(crate) properties: BasicProperties,
    pub(crate) acker: Acker,
}

impl Delivery {
    /// The message id, if the message has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.properties
            .message_id()
            .as_ref()
            .map(ShortString::as_str)
    }

    /// The media type of the body, if the message names it.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.properties
            .content_type()
            .as_ref()
            .map(ShortString::as_str)
    }

    /// The queue for a reply, if the message names one.
    #[must_use]
    pub fn reply_to(&self) -> Option<&str> {
        self.properties.reply_to().as_ref().map(ShortString::as_str)
    }

    /// The id that the sender expects in a reply, if the message has one.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.properties
            .correlation_id()
            .as_ref()
            .map(ShortString::as_str)
    }

    /// Acknowledges this message, and no other. If this fails, the broker delivers it again.
    pub async fn ack(self) {
        if let Err(error) = self.acker.ack(BasicAckOptions::default()).await {
            tracing::debug!(%error, "an acknowledgement was lost");
        }
    }

    /// The value of the header, if the message has it and it is UTF-8 text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.properties.headers().as_ref()?.inner().get(name)?;
        std::str::from_utf8(value.as_long_string()?.as_bytes()).ok()
    }
}

impl From<lapin::message::Delivery> for Delivery {
    fn from(delivery: lapin::message::Delivery) -> Self {
        Self {
            body: delivery.data,
            redelivered: delivery.redelivered,
            properties: delivery.properties,
            acker: delivery.acker,
        }
    }
}
