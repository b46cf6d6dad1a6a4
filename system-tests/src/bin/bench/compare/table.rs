//! The rows of the comparison as a table.

use crate::generator::Figures;
use crate::report::milliseconds;
use std::fmt;

/// What became of the users of one row, its warm-up included.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) acknowledged: usize,
    pub(super) stored: usize,
    /// Acknowledged, and not stored after everything was handled.
    pub(super) lost: usize,
    /// In the list; none for a system without a list.
    pub(super) listed: Option<usize>,
}

/// All rows of one run.
#[derive(Debug, Default)]
pub(super) struct Table {
    baseline: String,
    rows: Vec<(String, usize, Figures, Option<Fate>)>,
}

impl Table {
    pub(super) fn baseline(&mut self, versions: String) {
        self.baseline = versions;
    }

    pub(super) fn add(
        &mut self,
        name: &str,
        connections: usize,
        figures: Figures,
        fate: Option<Fate>,
    ) {
        self.rows
            .push((name.to_owned(), connections, figures, fate));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "baseline: {}\n", self.baseline)?;
        writeln!(
            f,
            "{:<26} {:>11} {:>10} {:>8} {:>8} {:>9} {:>13} {:>9} {:>9} {:>9}",
            "what",
            "connections",
            "answers/s",
            "p50 ms",
            "p99 ms",
            "generator",
            "acknowledged",
            "stored",
            "lost",
            "in list"
        )?;
        for (name, connections, figures, fate) in &self.rows {
            write!(
                f,
                "{name:<26} {connections:>11} {:>10.0} {:>8.3} {:>8.3} {:>7.0} %",
                figures.rate,
                milliseconds(&figures.latency, 0.5),
                milliseconds(&figures.latency, 0.99),
                figures.generator * 100.0
            )?;
            match fate {
                Some(fate) => writeln!(f, " {fate}")?,
                None => writeln!(f)?,
            }
        }
        write!(
            f,
            "\nacknowledged: answered 201, warm-up included. lost: acknowledged, and not in the store after everything was handled."
        )
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = self
            .listed
            .map_or("-".to_owned(), |count| count.to_string());
        write!(
            f,
            "{:>13} {:>9} {:>9} {listed:>9}",
            self.acknowledged, self.stored, self.lost
        )
    }
}
