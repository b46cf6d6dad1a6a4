//! The line between one role and the broker breaks in the middle of a message, stalls, and crawls.

use super::{in_long_form, last};
use anyhow::{Context as _, Result, ensure};
use private_broker::{PrivateBroker, as_account};
use std::net::SocketAddr;
use std::time::Duration;
use system_tests::flow::Flow;
use system_tests::proxy::{Line, Proxy};
use system_tests::system::{Node, System};
use system_tests::traffic::Traffic;
use system_tests::{Part, wait};

/// The parts that use the broker.
const PARTS: [Part; 4] = [Part::Publisher, Part::Projector, Part::Api, Part::Uuids];
/// About ten messages a second.
const SLOW: Line = Line::Slow(10_000);
/// How often connections break in each direction.
const CUTS: usize = 3;

fn stall() -> Duration {
    Duration::from_secs(in_long_form(4, 30))
}

fn crawl() -> Duration {
    Duration::from_secs(in_long_form(4, 60))
}

/// A system in which each part that uses the broker has a proxy of its own before it.
async fn behind_proxies() -> Result<(Flow, Vec<(Part, Proxy)>)> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let target: SocketAddr = url
        .rsplit('@')
        .next()
        .and_then(|rest| rest.split('/').next())
        .context("an address")?
        .parse()?;
    let mut system = System::prepare(&Part::ROLES, broker, &url, "info")?;
    let mut proxies = Vec::new();
    for part in PARTS {
        let proxy = Proxy::closed(target).await?;
        proxy.open();
        let url = url.replace(&target.to_string(), &proxy.address().to_string());
        let url = as_account(&url, part.account().context("an account")?);
        system.set(part, "AMQP_URL", &url)?;
        proxies.push((part, proxy));
    }
    for part in Part::ROLES {
        system.start_part(part).await?;
    }
    system.ready().await?;
    Ok((Flow::on(system).await?, proxies))
}

/// Breaks every connection that sends something, until the part has connected anew several times.
async fn cut(proxy: &Proxy, traffic: &Traffic) -> Result<()> {
    for line in [Line::CutRequests, Line::CutAnswers].repeat(CUTS) {
        let before = proxy.connections();
        proxy.set_line(line);
        wait::until("a broken connection is made anew", || async {
            let connections = proxy.connections();
            ensure!(connections > before, "{connections} connections");
            Ok(())
        })
        .await?;
        proxy.set_line(Line::Free);
        traffic.more(20).await?;
    }
    Ok(())
}

async fn survives(fault: &str, on: Option<Line>, time: Duration) -> Result<()> {
    let (mut flow, proxies) = behind_proxies().await?;
    for (part, proxy) in &proxies {
        eprintln!("{fault}: {part:?}");
        flow.under_traffic(async |_, traffic| match on {
            None => cut(proxy, traffic).await,
            Some(line) => {
                proxy.set_line(line);
                last(traffic, time).await?;
                proxy.set_line(Line::Free);
                Ok(())
            }
        })
        .await
        .with_context(|| format!("{part:?}"))?;
    }
    flow.verdict(&format!("{fault} of each of {PARTS:?}")).await
}

#[tokio::test]
async fn connections_that_break_in_the_middle_of_a_message_lose_nothing() -> Result<()> {
    survives("cut connections", None, Duration::ZERO).await
}

#[tokio::test]
async fn connections_that_stall_lose_nothing() -> Result<()> {
    let fault = format!("connections stalled for {:?}", stall());
    survives(&fault, Some(Line::Stalled), stall()).await
}

#[tokio::test]
async fn connections_that_crawl_lose_nothing() -> Result<()> {
    let fault = format!("connections with 10 kB/s for {:?}", crawl());
    survives(&fault, Some(SLOW), crawl()).await
}
