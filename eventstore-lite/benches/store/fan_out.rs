//! Live events to many subscribers: deliveries per second, and the time until the last subscriber has an event.

use std::time::Instant;

use anyhow::{Result, ensure};
use eventstore::{
    AppendToStreamOptions, Client, StreamPosition, SubscribeToAllOptions, Subscription,
    SubscriptionEvent,
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::appends::event;
use crate::figures::{Figures, Watch, histogram};
use crate::report::Report;
use crate::store::{DEADLINE, Store};

/// The number of subscriptions that share a connection.
const SUBSCRIPTIONS_PER_CONNECTION: usize = 100;
/// The number of events that are appended singly, each after all subscribers have the previous one.
const SINGLE_EVENTS: usize = 100;
/// The number of deliveries of events that are appended without waiting.
const DELIVERIES: usize = 400_000;
/// The most events that are appended for these deliveries.
const MAX_EVENTS: usize = 20_000;
/// The number of events in each of these appends.
const EVENTS_PER_APPEND: usize = 100;

pub(crate) async fn measure(store: &Store, counts: &[usize], report: &mut Report) -> Result<()> {
    for count in counts {
        let measured = tokio::time::timeout(DEADLINE, fan_out(store, *count)).await;
        let (single, streamed) = measured.map_err(anyhow::Error::from).flatten().map_or_else(
            |error| (Err(anyhow::anyhow!("{error:#}")), Err(error)),
            |(single, streamed)| (Ok(single), Ok(streamed)),
        );
        report.add("fan-out: one event to all", *count, single);
        report.add("fan-out: deliveries", *count, streamed);
    }
    Ok(())
}

async fn fan_out(store: &Store, count: usize) -> Result<(Figures, Figures)> {
    let writer = store.client()?;
    let mut subscriptions = subscribe(store, count).await?;
    let (watch, mut latency) = (Watch::start(store.id()?)?, histogram()?);
    for _ in 0..SINGLE_EVENTS {
        let began = Instant::now();
        let appended = append(&writer, 1).await?;
        subscriptions = receive_all(subscriptions, &appended).await?;
        latency.record(u64::try_from(began.elapsed().as_nanos())?)?;
    }
    let single = watch.stop(u64::try_from(SINGLE_EVENTS * count)?, latency)?;

    let events = (DELIVERIES / count).clamp(EVENTS_PER_APPEND, MAX_EVENTS);
    let (watch, latency) = (Watch::start(store.id()?)?, histogram()?);
    let receiving = tokio::spawn(receive_counted(subscriptions, events));
    for _ in 0..events / EVENTS_PER_APPEND {
        append(&writer, EVENTS_PER_APPEND).await?;
    }
    receiving.await??;
    let streamed = watch.stop(u64::try_from(events * count)?, latency)?;
    Ok((single, streamed))
}

/// Subscribes to new events, and waits until the server has confirmed all subscriptions.
async fn subscribe(store: &Store, count: usize) -> Result<Vec<Subscription>> {
    let mut subscriptions = Vec::new();
    let mut client = store.client()?;
    for number in 0..count {
        if number % SUBSCRIPTIONS_PER_CONNECTION == 0 {
            client = store.client()?;
        }
        let options = SubscribeToAllOptions::default().position(StreamPosition::End);
        let mut subscription = client.subscribe_to_all(&options).await;
        let first = subscription.next_subscription_event().await?;
        ensure!(
            matches!(first, SubscriptionEvent::Confirmed(_)),
            "a subscription started with {first:?}"
        );
        subscriptions.push(subscription);
    }
    Ok(subscriptions)
}

async fn append(writer: &Client, count: usize) -> Result<Vec<Uuid>> {
    let ids: Vec<_> = (0..count).map(|_| Uuid::new_v4()).collect();
    let events: Vec<_> = ids.iter().map(|id| event().id(*id)).collect();
    let options = AppendToStreamOptions::default();
    writer.append_to_stream("fan-out", &options, events).await?;
    Ok(ids)
}

async fn receive_all(
    subscriptions: Vec<Subscription>,
    expected: &[Uuid],
) -> Result<Vec<Subscription>> {
    let mut receiving = JoinSet::new();
    for mut subscription in subscriptions {
        let expected = expected.to_vec();
        receiving.spawn(async move {
            for id in expected {
                let event = subscription.next().await?;
                let got = event.get_original_event().id;
                ensure!(got == id, "event {got} was delivered instead of {id}");
            }
            Ok(subscription)
        });
    }
    receiving.join_all().await.into_iter().collect()
}

async fn receive_counted(subscriptions: Vec<Subscription>, events: usize) -> Result<()> {
    let mut receiving = JoinSet::new();
    for mut subscription in subscriptions {
        receiving.spawn(async move {
            let mut next = None;
            for _ in 0..events {
                let event = subscription.next().await?;
                let revision = event.get_original_event().revision;
                let expected = *next.get_or_insert(revision);
                ensure!(
                    revision == expected,
                    "revision {revision} was delivered instead of {expected}"
                );
                next = Some(revision + 1);
            }
            Ok(())
        });
    }
    receiving.join_all().await.into_iter().collect()
}
