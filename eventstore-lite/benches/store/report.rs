//! The figures as a table.
//!
//! Invariant: a row is INVALID and has no figure if an answer was unexpected or the client was the bottleneck. Controls
//! check this in every run ([`Report::control`]).

use std::fmt;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::figures::Figures;

/// A row whose client takes a greater share of the machine's processor time is invalid.
const CLIENT_LIMIT: f64 = 0.8;

/// All rows of one run.
#[derive(Debug)]
pub(crate) struct Report {
    lines: Vec<String>,
    invalid: usize,
}

impl Report {
    pub(crate) fn new(machine: String) -> Self {
        let head = format!(
            "\n{:<32} {:>6} {:>10} {:>9} {:>9} {:>7} {:>7}",
            "measured", "at once", "per second", "p50 ms", "p99 ms", "client", "server"
        );
        Self {
            lines: vec![machine, head],
            invalid: 0,
        }
    }

    pub(crate) fn heading(&mut self, text: &str) {
        self.lines.push(format!("{text}:"));
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.lines.push(format!("  {text}"));
    }

    pub(crate) fn add(&mut self, name: &str, at_once: usize, figures: Result<Figures>) {
        let figures = figures.and_then(|figures| row(&figures));
        self.invalid += usize::from(figures.is_err());
        let figures = figures.unwrap_or_else(|error| format!("  INVALID: {error:#}"));
        let line = format!("{name:<32} {at_once:>6} {figures}");
        eprintln!("{line}");
        self.lines.push(line);
    }

    /// Adds a row that must be invalid. Fails if it is valid.
    pub(crate) fn control(&mut self, name: &str, figures: Result<Figures>) -> Result<()> {
        let before = self.invalid;
        self.add(name, 1, figures);
        ensure!(self.invalid > before, "{name} was accepted as valid");
        self.invalid = before;
        Ok(())
    }

    /// Whether all rows other than controls have figures.
    pub(crate) fn is_valid(&self) -> bool {
        self.invalid == 0
    }
}

fn row(figures: &Figures) -> Result<String> {
    let share = figures.client * 100.0;
    ensure!(
        figures.client < CLIENT_LIMIT,
        "the client took {share:.0} % of the machine, so it was the bottleneck"
    );
    Ok(format!(
        "{:>10.0} {} {} {} {}",
        figures.rate,
        milliseconds(&figures.latency, 0.5),
        milliseconds(&figures.latency, 0.99),
        percent(figures.client),
        percent(figures.server)
    ))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.lines.join("\n"))?;
        writeln!(
            f,
            "\nEach caller makes its next call when the previous one is answered."
        )?;
        write!(
            f,
            "client, server: the share of the machine's processor time that each takes."
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
