//! The generated client of one server, and the read that runs on it.

use eventstore_protocol::streams::read_resp::Content;
use eventstore_protocol::streams::streams_client::StreamsClient;
use eventstore_protocol::streams::{ReadReq, ReadResp};
use tonic::IntoRequest;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::event::RecordedEvent;
use crate::failure::Failure;
use crate::headers::Headers;
use crate::node::Node;
use crate::settings::Settings;
use crate::transport;

/// A client of one server.
pub(crate) type Client = StreamsClient<InterceptedService<Channel, Headers>>;

/// The largest message that a server sends: an event of 16 MiB with its framing.
const LARGEST_MESSAGE: usize = 17 * 1024 * 1024;

pub(crate) async fn connect(node: &Node, settings: &Settings) -> Result<Client, Failure> {
    let channel = transport::connect(node, settings).await?;
    let client = StreamsClient::with_interceptor(channel, settings.headers.clone());
    Ok(client.max_decoding_message_size(LARGEST_MESSAGE))
}

/// Reads all events of the answer.
pub(crate) async fn read(
    mut client: Client,
    request: impl IntoRequest<ReadReq>,
) -> Result<Vec<RecordedEvent>, Failure> {
    let mut answer = client.read(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(ReadResp { content }) = answer.message().await? {
        if let Some(Content::Event(event)) = content {
            events.push(RecordedEvent::from_answer(event)?);
        }
    }
    Ok(events)
}
