//! The time from an acknowledged creation until the list has the user, while users are created at a certain rate.

use crate::generator;
use crate::report::{check_generator, milliseconds};
use crate::visible;
use crate::work::Work;
use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use system_tests::Users;

const CONNECTIONS: usize = 64;
/// A smaller share of the wanted rate is not that rate.
const REACHED: f64 = 0.9;

/// The lag at one rate.
pub(super) struct Lag {
    samples: Histogram<u64>,
    rate: f64,
    wanted: u32,
}

impl Lag {
    /// In milliseconds.
    pub(super) fn p99(&self) -> f64 {
        milliseconds(&self.samples, 0.99)
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.1} ms, p99 {:.1} ms ({} samples",
            milliseconds(&self.samples, 0.5),
            self.p99(),
            self.samples.len()
        )?;
        if self.rate < f64::from(self.wanted) * REACHED {
            write!(f, "; only {:.0}/s were reached", self.rate)?;
        }
        write!(f, ")")
    }
}

/// Creates users at this rate for so long, and meanwhile others, whose way into the list is followed one after the other.
pub(super) async fn measure(
    users: &Users,
    api: SocketAddr,
    rate: u32,
    length: Duration,
) -> Result<Lag> {
    let work = Work::post(api);
    let load = generator::run_at(&work, CONNECTIONS, length, Some(rate));
    let (load, samples) = tokio::try_join!(load, visible::during(users, length))?;
    check_generator(work.name(), CONNECTIONS, &load)?;
    ensure!(!samples.is_empty(), "no sample");
    Ok(Lag {
        samples,
        rate: load.rate,
        wanted: rate,
    })
}
