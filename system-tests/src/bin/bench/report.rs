//! The figures as a table. It refuses rows in which the generator was the bottleneck.

use crate::generator::Figures;
use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::fmt;

/// A row is refused if the generator takes a greater share of the machine's processor time.
const GENERATOR_LIMIT: f64 = 0.8;

/// A row with at least this share of the empty handler's rate is limited by HTTP and the generator, not by the service.
const HTTP_BOUND: f64 = 0.8;

/// All rows of one run.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<(String, usize, Figures)>,
    /// The empty handler's rate by number of connections.
    empty: BTreeMap<usize, f64>,
    visible: Histogram<u64>,
}

impl Report {
    pub(crate) fn new(visible: Histogram<u64>) -> Self {
        Self {
            rows: Vec::new(),
            empty: BTreeMap::new(),
            visible,
        }
    }

    /// Adds a row. The first row of each number of connections must be the empty handler.
    pub(crate) fn add(&mut self, name: &str, connections: usize, figures: Figures) -> Result<()> {
        check_generator(name, connections, &figures)?;
        self.empty.entry(connections).or_insert(figures.rate);
        self.rows.push((name.to_owned(), connections, figures));
        Ok(())
    }
}

/// Fails if the generator took so much processor time that it measured itself.
pub(crate) fn check_generator(name: &str, connections: usize, figures: &Figures) -> Result<()> {
    ensure!(
        figures.generator < GENERATOR_LIMIT,
        "{name}, {connections} connections: the generator took {:.0} % of the machine, so it was the bottleneck",
        figures.generator * 100.0
    );
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<44} {:>11} {:>10} {:>9} {:>8} {:>8} {:>9}",
            "measured", "connections", "answers/s", "of empty", "p50 ms", "p99 ms", "generator"
        )?;
        for (name, connections, figures) in &self.rows {
            let share = figures.rate / self.empty[connections];
            let mark = if share >= HTTP_BOUND && !name.starts_with("empty") {
                "*"
            } else {
                " "
            };
            writeln!(
                f,
                "{name:<44} {connections:>11} {:>10.0} {:>7.0} %{mark} {:>7.3} {:>8.3} {:>7.0} %",
                figures.rate,
                share * 100.0,
                milliseconds(&figures.latency, 0.5),
                milliseconds(&figures.latency, 0.99),
                figures.generator * 100.0
            )?;
        }
        writeln!(
            f,
            "\nEach connection sends its next request when the previous one is answered.\nlate store: a proxy delays TCP acknowledgements as long as Linux allows, as a real server's kernel does.\n* limited by HTTP and the generator: the service itself is faster."
        )?;
        writeln!(
            f,
            "generator: the generator's share of the machine's processor time, which the service did not have."
        )?;
        write!(
            f,
            "\ntime from the 201 until the list shows the user, {} users one after the other: p50 {:.3} ms, p99 {:.3} ms",
            self.visible.len(),
            milliseconds(&self.visible, 0.5),
            milliseconds(&self.visible, 0.99)
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 nanoseconds")]
pub(crate) fn milliseconds(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e6
}
