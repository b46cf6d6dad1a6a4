//! The delay until the list shows an acknowledged user.

use crate::generator::histogram;
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use reqwest::Method;
use serde_json::Value;
use std::time::{Duration, Instant};
use system_tests::{Answer, Users, unique, wait};

/// Measures the time from the 201 to the first list with the user, in nanoseconds, for `count` users one after the
/// other. The list is polled without a pause, so the time includes up to one such request.
pub(crate) async fn measure(users: &Users, count: usize) -> Result<Histogram<u64>> {
    let mut delay = histogram()?;
    for _ in 0..count {
        delay.record(measure_one(users).await?)?;
    }
    Ok(delay)
}

/// The same for so many users as fit into this time.
pub(crate) async fn during(users: &Users, length: Duration) -> Result<Histogram<u64>> {
    let mut delay = histogram()?;
    let end = Instant::now() + length;
    while Instant::now() < end {
        delay.record(measure_one(users).await?)?;
    }
    Ok(delay)
}

async fn measure_one(users: &Users) -> Result<u64> {
    let user = users.created(&unique("visible")).await?;
    let acknowledged = Instant::now();
    await_in_list(users, &user).await?;
    Ok(u64::try_from(acknowledged.elapsed().as_nanos())?)
}

async fn await_in_list(users: &Users, user: &Value) -> Result<()> {
    let username = user["username"].as_str().context("a user has a name")?;
    let path = format!("/?username={username}");
    let began = Instant::now();
    loop {
        let page = Answer::to(users.request(Method::GET, &path)).await?;
        let page = page.expect(200)?.body;
        if page["data"][0] == *user {
            return Ok(());
        }
        ensure!(
            began.elapsed() < wait::DEADLINE,
            "the list never showed {user}"
        );
    }
}
