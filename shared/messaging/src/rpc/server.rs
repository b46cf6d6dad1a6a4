//! The server side of RPC.

use crate::broker::Broker;
use crate::consumer::{Consumer, Incoming};
use crate::message::Delivery;
use crate::replies::reply;
use crate::topology::{Queue, QueueKind, Topology};
use futures::stream::{FuturesUnordered, StreamExt};
use lapin::options::BasicAckOptions;
use lapin::{BasicProperties, Channel};
use tokio_util::sync::CancellationToken;

/// The most requests that one server handles at once.
const MAX_CONCURRENT: u16 = 64;

/// Answers the requests on `queue` until `shutdown`, up to 64 at a time. Reconnects after a loss of the broker. The
/// queue exists while at least one process serves it.
pub async fn serve_rpc<H, F>(
    broker: Broker,
    queue: impl Into<String>,
    handler: H,
    shutdown: CancellationToken,
) where
    H: Fn(Vec<u8>) -> F,
    F: Future<Output = Vec<u8>>,
{
    let name = queue.into();
    let requests = Queue {
        name: name.clone(),
        kind: QueueKind::Requests,
    };
    let topology = Topology {
        queues: vec![requests],
        ..Topology::default()
    };
    let mut consumer = Consumer::new(broker, topology, name, MAX_CONCURRENT);
    let mut served = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(()) = served.next() => {}
            incoming = consumer.next(MAX_CONCURRENT.into()) => {
                let (Incoming::Batch(batch), Some(channel)) = (incoming, consumer.channel()) else {
                    continue;
                };
                for request in batch.deliveries {
                    served.push(serve(channel.clone(), request, &handler));
                }
            }
        }
    }
    while served.next().await.is_some() {}
    consumer.close().await;
}

async fn serve<H, F>(channel: Channel, request: Delivery, handler: &H)
where
    H: Fn(Vec<u8>) -> F,
    F: Future<Output = Vec<u8>>,
{
    let Delivery {
        body,
        properties,
        acker,
        ..
    } = request;
    let answer = handler(body).await;
    let answered = async {
        reply(&channel, &properties, BasicProperties::default(), &answer).await?;
        acker.ack(BasicAckOptions::default()).await
    };
    if let Err(error) = answered.await {
        // The caller has stopped waiting or will send the request again.
        tracing::debug!(%error, "a reply was lost");
    }
}
