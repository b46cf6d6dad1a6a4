//! What is judged of a row of the comparison. Pure.

use crate::generator::Figures;
use crate::report::milliseconds;
use anyhow::{Result, ensure};

/// The figures of one row that the aims use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// Answers per second.
    pub(super) rate: f64,
    /// The 99th percentile of the latency, in milliseconds.
    pub(super) p99: f64,
}

impl Measured {
    pub(super) fn of(figures: &Figures) -> Self {
        Self {
            rate: figures.rate,
            p99: milliseconds(&figures.latency, 0.99),
        }
    }
}

/// Fails if the baseline's rate is less than `floor` times that of its framework's bare route, which points to a fault
/// of the baseline.
pub(super) fn check_baseline(baseline: f64, bare: f64, floor: f64) -> Result<()> {
    let share = baseline / bare;
    ensure!(
        share >= floor,
        "the baseline is at fault: POST has {share:.2} of the bare route's rate, less than {floor}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_below_a_quarter_of_the_bare_route_is_at_fault() {
        assert!(check_baseline(250.0, 1_000.0, 0.25).is_ok());
        let fault = check_baseline(249.0, 1_000.0, 0.25).unwrap_err();
        assert!(fault.to_string().contains("at fault"), "{fault}");
    }
}
