//! The clock: ticks of 100 ns since the Unix epoch, the unit of `created`.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Ticks per second.
pub(crate) const TICKS_PER_SECOND: i64 = 10_000_000;

/// If an event was created later than this far ahead of the present, the clock was wrong then or is wrong now.
const FAR_AHEAD: i64 = 60 * TICKS_PER_SECOND;

/// Logs a warning if the last event was created far ahead of the present.
pub(crate) fn warn_if_ahead(last: i64, now: i64) {
    let ahead = last.saturating_sub(now);
    if ahead > FAR_AHEAD {
        let seconds = ahead / TICKS_PER_SECOND;
        tracing::warn!(
            seconds,
            "the last event was created ahead of the clock: the clock was wrong then or is wrong now"
        );
    }
}

/// The source of the writer's time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    System,
    /// A stopped clock.
    #[cfg(test)]
    At(i64),
}

impl Clock {
    /// The present time, in ticks.
    pub(crate) fn now(self) -> i64 {
        match self {
            Self::System => now(),
            #[cfg(test)]
            Self::At(ticks) => ticks,
        }
    }
}

/// The present time in ticks; 0 before 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.map_or(0, |time| {
        i64::try_from(time.as_nanos() / 100).unwrap_or(i64::MAX)
    })
}

/// The time as text in UTC; `None` for years that do not have four digits.
pub(crate) fn rfc3339(ticks: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ticks) * 100);
    time.ok()?.format(&Rfc3339).ok()
}
