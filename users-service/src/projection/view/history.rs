//! Events that were read from users' streams, and the update of rows with them.

use super::{Known, Standing, View, begin, commit, rows};
use crate::domain::UserId;
use crate::projection::directory::{DirectoryEvent, Verdict, judge};
use std::collections::BTreeSet;

/// Consecutive events of one user's stream.
#[derive(Debug)]
pub(in crate::projection) struct History {
    /// The user.
    pub(in crate::projection) user: UserId,
    /// How far the row was before the events were read.
    pub(in crate::projection) standing: Standing,
    /// Whether the events begin with the first one, and the row is rebuilt from them. Otherwise they begin with the row's last
    /// event.
    pub(in crate::projection) anew: bool,
    /// Whether to lift the hold.
    pub(in crate::projection) lift: bool,
    /// The events, in the stream's order.
    pub(in crate::projection) events: Vec<DirectoryEvent>,
    /// Revision and reason if the next event cannot be applied. It holds the user.
    pub(in crate::projection) refused: Option<(u64, String)>,
}

impl History {
    /// Notes that the next event cannot be read now. The row is not rebuilt without it, and a hold stays.
    pub(in crate::projection) fn wait(&mut self) {
        self.lift = false;
        if self.anew {
            self.events.clear();
        }
    }
}

/// The result of applying a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::projection) enum Progress {
    /// The row contains all of it.
    Followed,
    /// An event cannot be applied.
    Held,
    /// The row differs from the log and has to be rebuilt.
    Conflict,
    /// The row has changed since the stream was read, so it was not replaced.
    Moved,
}

impl View {
    /// Updates rows with the events of their users' streams, all in one transaction.
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
        // The log does not have the row's last event.
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

    /// Holds the user at this revision, even if a hold was to be lifted.
    fn refuse(&mut self, revision: u64, reason: &str) -> Progress {
        if self.now.is_none() {
            self.now.clone_from(&self.before);
        }
        self.lifted = true;
        self.hold = Some((revision, reason.to_owned()));
        Progress::Held
    }
}
