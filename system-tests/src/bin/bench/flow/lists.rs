//! The latency of pages of small and large lists.

use super::appended::append;
use super::path::{PATIENCE, rate, until};
use super::setup::{Prepared, Setup};
use crate::aim::Aim;
use crate::brokers::Brokers;
use crate::generator::{self, Figures};
use crate::report::{check_generator, milliseconds};
use crate::work::Work;
use anyhow::{Context as _, Result, ensure};
use std::fmt;
use std::time::{Duration, Instant};
use system_tests::system::Node;
use system_tests::{Part, wait};

/// A page, and the users that a name and the beginning of a name find.
const PAGES: [&str; 3] = ["/?limit=100", "/?username=user5", "/?prefix=user&limit=100"];
/// A larger list may take so much longer and still count as flat.
const FLAT: f64 = 1.5;

/// The figures of all sizes.
pub(super) struct Lists(Vec<(usize, f64, Vec<Figures>)>);

pub(super) async fn measure(brokers: Brokers, sizes: &[usize], length: Duration) -> Result<Lists> {
    let mut lists = Vec::new();
    for users in sizes {
        lists.push(measure_one(brokers.next().await?, *users, length).await?);
    }
    Ok(Lists(lists))
}

async fn measure_one(
    broker: Node,
    users: usize,
    length: Duration,
) -> Result<(usize, f64, Vec<Figures>)> {
    let mut prepared = Prepared::without_projector(broker, Setup::REAL, &[Part::Api]).await?;
    append(&prepared, users).await?;
    eprintln!("building the first list, of {users} users");
    let began = Instant::now();
    prepared.system.start_part(Part::Projector).await?;
    wait::until_within(PATIENCE, "the list is built", || async {
        let (status, body) = prepared.system.readiness(Part::Projector).await?;
        ensure!(status == 200, "{status} {body}");
        Ok(())
    })
    .await?;
    let built = rate(users, began.elapsed());
    let [list, _] = Setup::REAL.read_models();
    let tables = prepared.tables(list).await?;
    until(&tables, "SELECT count(*) FROM users", users).await?;
    prepared.system.start_part(Part::Api).await?;
    let api = prepared.system.address(Part::Api).context("an API")?;
    let mut figures = Vec::new();
    for page in PAGES {
        let work = Work::page(api, page);
        generator::run(&work, 1, length / 5).await?;
        let measured = generator::run(&work, 1, length).await?;
        check_generator(work.name(), 1, &measured)?;
        figures.push(measured);
    }
    prepared.system.end();
    Ok((users, built, figures))
}

impl Lists {
    /// That the median is flat from the smallest to the largest list.
    pub(super) fn aims(&self) -> Vec<Aim> {
        let [(.., small), .., (.., large)] = self.0.as_slice() else {
            return Vec::new();
        };
        let median = |figures: &Figures| milliseconds(&figures.latency, 0.5);
        let pages = PAGES.iter().zip(small.iter().zip(large));
        pages
            .map(|(page, (small, large))| {
                let name = format!("GET {page}: p50 of the largest list / smallest");
                Aim::below(name, median(large) / median(small), FLAT)
            })
            .collect()
    }
}

impl fmt::Display for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (users, built, figures) in &self.0 {
            write!(f, "\n{users} users, built at {built:.0}/s:")?;
            for (page, figures) in PAGES.iter().zip(figures) {
                let ms = |quantile| milliseconds(&figures.latency, quantile);
                write!(
                    f,
                    "\n  GET {page:<25} p50 {:.2} ms, p99 {:.2} ms",
                    ms(0.5),
                    ms(0.99)
                )?;
            }
        }
        Ok(())
    }
}
