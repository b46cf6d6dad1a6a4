//! The rows of the comparison as a table.

use crate::generator::Figures;
use crate::report::milliseconds;
use std::fmt;

/// The fate of the users of one row, including its warm-up.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) acknowledged: usize,
    pub(super) stored: usize,
    /// Acknowledged users that are not stored after all commands were handled.
    pub(super) lost: usize,
    /// The users in the list, or `None` for a system without a list.
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
            "measured",
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
            "\nacknowledged: answered with 201, including the warm-up. lost: acknowledged, and not in the store after all commands were handled."
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
