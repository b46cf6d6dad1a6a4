//! The windows of the statistics.

use super::Statistics;
use crate::read_model::{Generation, number, positive};

/// The length of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowSize {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day of UTC.
    Day,
}

/// Windows of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRange {
    /// Their size.
    pub size: WindowSize,
    /// The first window has this time: milliseconds since the Unix epoch.
    pub from: u64,
    /// All windows begin before this time.
    pub to: u64,
}

/// The numbers of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowCount {
    /// When the window begins, in milliseconds since the Unix epoch.
    pub start: u64,
    /// How many users were created in it.
    pub created: u64,
    /// How often users were renamed in it.
    pub renamed: u64,
    /// How many users were deleted in it.
    pub deleted: u64,
}

/// The statistics cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the statistics failed")]
pub struct StatisticsError(#[from] sqlx::Error);

const MINUTE: u64 = 60_000;

impl WindowSize {
    /// All sizes.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// The length in minutes.
    #[must_use]
    pub const fn minutes(self) -> u64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 24 * 60,
        }
    }

    /// The length in milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.minutes() * MINUTE
    }
}

impl WindowRange {
    /// The begin of the first window, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.from - self.from % self.size.millis()
    }

    /// The number of windows.
    #[must_use]
    pub fn count(&self) -> u64 {
        let length = self.to.saturating_sub(self.first());
        length.div_ceil(self.size.millis())
    }
}

impl Statistics {
    /// The windows in which something was counted, in the order of time.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn windows(
        self,
        generation: &Generation,
        window: WindowRange,
    ) -> Result<Vec<WindowCount>, StatisticsError> {
        let find = sqlx::query(
            "SELECT start, created, renamed, deleted FROM windows
             WHERE minutes = $1 AND start >= $2 AND start < $3 AND (created > 0 OR renamed > 0 OR deleted > 0)
             ORDER BY start",
        );
        let find = find
            .bind(number(window.size.minutes()))
            .bind(number(window.first() / MINUTE))
            .bind(number(window.to.div_ceil(MINUTE)));
        let rows = find.fetch_all(generation.pool()).await?;
        let counted = rows.iter().map(|row| {
            Ok(WindowCount {
                start: positive(row, "start")? * MINUTE,
                created: positive(row, "created")?,
                renamed: positive(row, "renamed")?,
                deleted: positive(row, "deleted")?,
            })
        });
        Ok(counted.collect::<Result<_, sqlx::Error>>()?)
    }
}
