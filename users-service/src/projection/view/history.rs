//! Events that were read from users' streams, and the update of a read model with them.

use super::{Known, Standing, View, entries, forgetting};
use crate::domain::UserId;
use crate::projection::ledger::{Verdict, judge};
use crate::read_model::ProvenEvent;
use std::collections::BTreeSet;

/// Consecutive events of one user's stream.
#[derive(Debug)]
pub(in crate::projection) struct History {
    /// The user.
    pub(in crate::projection) user: UserId,
    /// How far the read model was before the events were read.
    pub(in crate::projection) standing: Standing,
    /// Whether the events begin with the first one, and replace what is kept of the user. Otherwise they begin with the last
    /// applied event.
    pub(in crate::projection) anew: bool,
    /// Whether to lift the hold.
    pub(in crate::projection) lift: bool,
    /// The events, in the stream's order.
    pub(in crate::projection) events: Vec<ProvenEvent>,
    /// Revision and reason if the next event cannot be applied. It holds the user.
    pub(in crate::projection) refused: Option<(u64, String)>,
}

impl History {
    /// Notes that the next event cannot be read now. Nothing is replaced without it, and a hold stays.
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
    /// All of it is applied.
    Followed,
    /// An event cannot be applied.
    Held,
    /// The log does not have the last applied event, so everything has to be read again.
    Conflict,
    /// An event was applied since the stream was read, so nothing was replaced.
    Moved,
}

impl View {
    /// Updates users with the events of their streams, all in one transaction.
    ///
    /// # Errors
    /// As [`View::apply`].
    pub(in crate::projection) async fn take_over(
        &self,
        histories: &[History],
    ) -> Result<Vec<Progress>, sqlx::Error> {
        let users: BTreeSet<UserId> = histories.iter().map(|history| history.user).collect();
        let mut transaction = self.target.begin().await?;
        let mut known = entries::load(self.target.dialect(), &mut transaction, &users).await?;
        let mut progress = Vec::with_capacity(histories.len());
        for history in histories {
            let known = known.entry(history.user).or_default();
            progress.push(known.follow(history));
        }
        let erased = known.values().any(Known::is_erased);
        self.target.commit(transaction, known).await?;
        if erased {
            forgetting::at_once(&self.target).await?;
        }
        Ok(progress)
    }
}

impl<'a> Known<'a> {
    fn follow(&mut self, history: &'a History) -> Progress {
        let standing = self.standing();
        if history.anew && standing.entry != history.standing.entry {
            return Progress::Moved;
        }
        // The log does not have the last applied event.
        if !history.anew && history.events.is_empty() && standing.entry.is_some() {
            return self.end(history, Progress::Conflict);
        }
        let nothing_replaces_it =
            history.events.is_empty() && (!history.lift || standing.is_final());
        if history.anew && !nothing_replaces_it {
            self.begin_anew();
        }
        for event in &history.events {
            match judge(self.now.as_ref(), event) {
                Verdict::Duplicate => {}
                Verdict::Apply(entry) => self.apply(entry, event),
                Verdict::Gap => {
                    let reason = "it does not follow the event before";
                    return self.refuse(event.revision, reason);
                }
                Verdict::Conflict => {
                    self.undo();
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
            self.undo();
        }
        self.lifted = true;
        self.hold = Some((revision, reason.to_owned()));
        Progress::Held
    }
}
