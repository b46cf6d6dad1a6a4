//! Batches over RabbitMQ, with a number of requests at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use messaging::{Broker, RpcClient};
use tokio::task::JoinSet;

use crate::{Answered, BATCH, service::Service};

const WITHIN: Duration = Duration::from_secs(5);

pub(crate) async fn run(service: &Service, at_once: usize, length: Duration) -> Result<Answered> {
    let client = RpcClient::new(Broker::connect(&service.amqp_url, "bench")?, "uuids");
    let began = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..at_once {
        loops.spawn(requests(client.clone(), began + length));
    }
    let mut ids = 0;
    while let Some(taken) = loops.join_next().await {
        ids += taken??;
    }
    let took = began.elapsed();
    Ok(Answered { ids, took })
}

async fn requests(client: RpcClient, end: Instant) -> Result<u64> {
    let request = format!(r#"{{"count":{BATCH}}}"#).into_bytes();
    let mut ids = 0;
    while Instant::now() < end {
        let reply = client.call(request.clone(), WITHIN).await?;
        let ends = reply.iter().filter(|byte| matches!(byte, b',' | b']'));
        ensure!(
            reply.starts_with(br#"{"data":[""#) && ends.count() == BATCH,
            "an answer with another number of ids"
        );
        ids += u64::try_from(BATCH)?;
    }
    Ok(ids)
}
