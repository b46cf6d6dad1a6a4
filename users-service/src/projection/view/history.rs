//! What was read of users' streams, and rows that follow it.

use super::{Known, Standing, View, begin, commit, rows};
use crate::domain::UserId;
use crate::projection::directory::{DirectoryEvent, Verdict, judge};
use std::collections::BTreeSet;

/// Consecutive events of one user's stream.
#[derive(Debug)]
pub(in crate::projection) struct History {
    /// Whose they are.
    pub(in crate::projection) user: UserId,
    /// How far the row was before they were read.
    pub(in crate::projection) standing: Standing,
    /// Whether they begin with the first, and a row made of them takes the place of the one that is there. Otherwise they
    /// begin with the row's last event.
    pub(in crate::projection) anew: bool,
    /// Whether the user is held no longer.
    pub(in crate::projection) lift: bool,
    /// In the stream's order.
    pub(in crate::projection) events: Vec<DirectoryEvent>,
    /// The event after these if it cannot be applied, and why; it holds the user.
    pub(in crate::projection) refused: Option<(u64, String)>,
}

impl History {
    /// The event after these cannot be read now: nothing is made anew without it, and a hold stays.
    pub(in crate::projection) fn wait(&mut self) {
        self.lift = false;
        if self.anew {
            self.events.clear();
        }
    }
}

/// What became of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::projection) enum Progress {
    /// The row has all of it.
    Followed,
    /// An event cannot be applied.
    Held,
    /// The row is not what the log has: it has to be made anew.
    Conflict,
    /// The row has moved since the stream was read, so it was not replaced.
    Moved,
}

impl View {
    /// Makes rows follow their users' streams, all of them in one transaction.
    ///
    /// # Errors
    /// As [`View::apply`].
    pub(in crate::projection) async fn take_over(
        &self,
        histories: &[History],
    ) -> Result<Vec<Progress>, sqlx::Error> {
        let users: BTreeSet<UserId> = histories.iter().map(|history| history.user).collect();
        let mut transaction = begin(&self.read_model).await?;
        let mut known = rows::load(&mut transaction, &users).await?;
        let followed = histories.iter().map(|history| {
            let known = known.entry(history.user).or_default();
            known.follow(history)
        });
        let progress = followed.collect();
        commit(transaction, &known).await?;
        if known.values().any(Known::is_erased) {
            self.forget().await?;
        }
        Ok(progress)
    }
}

impl Known {
    fn follow(&mut self, history: &History) -> Progress {
        let standing = self.standing();
        if history.anew && standing.place() != history.standing.place() {
            return Progress::Moved;
        }
        // The log has lost the event that the row ends with.
        if !history.anew && history.events.is_empty() && standing.revision.is_some() {
            return self.end(history, Progress::Conflict);
        }
        let nothing_replaces_it =
            history.events.is_empty() && (!history.lift || standing.is_final());
        if history.anew && !nothing_replaces_it {
            self.now = None;
        }
        for event in &history.events {
            match judge(self.now.as_ref(), event) {
                Verdict::Duplicate => {}
                Verdict::Apply(row) => self.now = Some(row),
                Verdict::Gap => {
                    let reason = "it does not follow the event before";
                    return self.refuse(event.revision, reason);
                }
                Verdict::Conflict => {
                    self.now.clone_from(&self.before);
                    return Progress::Conflict;
                }
            }
        }
        self.end(history, Progress::Followed)
    }

    fn end(&mut self, history: &History, progress: Progress) -> Progress {
        if let Some((revision, reason)) = &history.refused {
            return self.refuse(*revision, reason);
        }
        self.lifted = history.lift;
        progress
    }

    /// The user is held from here on, also if a hold was to be lifted.
    fn refuse(&mut self, revision: u64, reason: &str) -> Progress {
        if self.now.is_none() {
            self.now.clone_from(&self.before);
        }
        self.lifted = true;
        self.hold = Some((revision, reason.to_owned()));
        Progress::Held
    }
}
