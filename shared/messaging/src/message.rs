//! What is sent and what arrives, without the vendor's types.

use crate::topology::{short, text};
use lapin::{Acker, BasicProperties};

use lapin::types::{FieldTable, ShortString};

const PERSISTENT: u8 = 2;

/// A message to publish; it is kept by the broker on disk.
#[derive(Clone, Debug)]
pub struct Message {
    /// The exchange it is given to; empty for the default exchange, which routes by queue name.
    pub exchange: String,
    /// At most 255 bytes.
    pub routing_key: String,
    /// Identifies the message among all that are published at the same time; at most 255 bytes.
    pub id: String,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Headers, all of them text.
    pub headers: Vec<(String, String)>,
    /// The content.
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
            .with_content_type(self.content_type.into())
            .with_headers(headers))
    }
}

/// A message that arrived.
#[derive(Debug)]
pub struct Delivery {
    /// The content.
    pub body: Vec<u8>,
    /// Whether it was delivered before, to whomever, and not acknowledged.
    pub redelivered: bool,
    pub(crate) properties: BasicProperties,
    pub(crate) acker: Acker,
}

impl Delivery {
    /// The message's id, if it has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.properties
            .message_id()
            .as_ref()
            .map(ShortString::as_str)
    }

    /// The header's value, if there is such a header and it is UTF-8 text.
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
