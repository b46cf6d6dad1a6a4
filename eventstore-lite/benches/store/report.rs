//! The figures as a table; it refuses those that say more of the client than of the server.

use std::fmt;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::figures::Figures;

/// Above this share of the machine's processor time the client measures itself.
const CLIENT_LIMIT: f64 = 0.8;

/// All rows of one run.
#[derive(Debug)]
pub(crate) struct Report(Vec<String>);

impl Report {
    pub(crate) fn new(machine: String) -> Self {
        let head = format!(
            "\n{:<32} {:>6} {:>9} {:>9} {:>9} {:>7} {:>7}",
            "what", "at once", "a second", "p50 ms", "p99 ms", "client", "server"
        );
        Self(vec![machine, head])
    }

    pub(crate) fn heading(&mut self, text: &str) {
        self.0.push(format!("{text}:"));
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.0.push(format!("  {text}"));
    }

    pub(crate) fn add(&mut self, name: &str, at_once: usize, figures: Figures) -> Result<()> {
        let share = figures.client * 100.0;
        ensure!(
            figures.client < CLIENT_LIMIT,
            "{name}, {at_once} at once: the client took {share:.0} % of the machine, so it measures itself"
        );
        let row = format!(
            "{name:<32} {at_once:>6} {:>9.0} {} {} {} {}",
            figures.rate,
            milliseconds(&figures.latency, 0.5),
            milliseconds(&figures.latency, 0.99),
            percent(figures.client),
            percent(figures.server)
        );
        eprintln!("{row}");
        self.0.push(row);
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.join("\n"))?;
        writeln!(
            f,
            "\nEach caller makes its next call when the last one is answered."
        )?;
        write!(
            f,
            "client, server: their shares of the machine's processor time."
        )
    }
}

fn percent(share: f64) -> String {
    if share == 0.0 {
        return format!("{:>7}", "");
    }
    format!("{:>5.0} %", share * 100.0)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 nanoseconds")]
fn milliseconds(latency: &Histogram<u64>, quantile: f64) -> String {
    if latency.is_empty() {
        return format!("{:>9}", "");
    }
    format!("{:>9.3}", latency.value_at_quantile(quantile) as f64 / 1e6)
}
