//! Brings users up to date with their streams.

use super::{READS, Refused, Repair, erasure_by_tombstone};
use crate::domain::UserId;
use crate::privacy::cipher::KeyId;
use crate::projection::view::{History, Progress, Standing};
use crate::read_model::ProvenEvent;
use event_streams::{RecordedEvent, Unavailable};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

/// How many events of a stream are read at once.
const PAGE: usize = 500;
/// The most users whose streams are applied in one transaction.
const SET: usize = 100;

/// The state of users after their streams were read.
#[derive(Debug, Default)]
pub(in crate::projection) struct CaughtUp {
    standings: BTreeMap<UserId, Standing>,
    /// Users whose next event has lost its key.
    pub(in crate::projection) lost: BTreeMap<UserId, KeyId>,
}

impl CaughtUp {
    pub(in crate::projection) fn standing(&self, user: UserId) -> Standing {
        self.standings.get(&user).copied().unwrap_or_default()
    }
}

/// A user whose stream has to be read.
struct Behind {
    user: UserId,
    standing: Standing,
    /// Whether to read from the first event on, because the read model cannot be trusted.
    anew: bool,
}

impl Repair {
    /// [`catch_up`](Self::catch_up) for many users. A lost key is not an error; the answer names it with its user.
    ///
    /// # Errors
    /// When the store, the key store or the database fails.
    pub(in crate::projection) async fn catch_up_all(
        &self,
        users: BTreeSet<UserId>,
        lift: bool,
    ) -> anyhow::Result<CaughtUp> {
        let mut caught = CaughtUp::default();
        if users.is_empty() {
            return Ok(caught);
        }
        let mut waiting: Vec<_> = users.iter().map(|user| (*user, lift)).collect();
        while !waiting.is_empty() {
            for set in mem::take(&mut waiting).chunks(SET) {
                let behind = self.behind(set, lift).await?;
                waiting.extend(self.follow(behind, lift, &mut caught).await?);
            }
        }
        caught.standings = self.view.standings(&users).await?;
        Ok(caught)
    }

    /// Leaves out held users, and users whose deletion the log has confirmed.
    async fn behind(&self, set: &[(UserId, bool)], lift: bool) -> anyhow::Result<Vec<Behind>> {
        let users = set.iter().map(|(user, _)| *user).collect();
        let standings = self.view.standings(&users).await?;
        let behind = set.iter().filter_map(|(user, anew)| {
            let standing = standings.get(user).copied().unwrap_or_default();
            let done = (standing.held && !lift) || (standing.is_final() && !*anew);
            (!done).then_some(Behind {
                user: *user,
                standing,
                anew: *anew,
            })
        });
        Ok(behind.collect())
    }

    /// Reads a page of each stream, many at a time, and applies all pages in one transaction. Returns the users whose streams
    /// have to be read again, and whether from the first event on.
    async fn follow(
        &self,
        behind: Vec<Behind>,
        lift: bool,
        caught: &mut CaughtUp,
    ) -> anyhow::Result<Vec<(UserId, bool)>> {
        if behind.is_empty() {
            return Ok(Vec::new());
        }
        let mut reads = Vec::with_capacity(behind.len());
        for behind in behind {
            reads.push(self.read_on(behind));
        }
        let reads = stream::iter(reads).buffer_unordered(READS);
        let pages: Vec<_> = reads.try_collect().await?;
        let recorded: Vec<_> = pages
            .iter()
            .flat_map(|(behind, page)| page.iter().flatten().map(|event| (behind.user, event)))
            .collect();
        let mut revised = self.revise(&recorded).await?.into_iter();
        let mut histories = Vec::with_capacity(pages.len());
        let mut full = Vec::with_capacity(pages.len());
        for (behind, page) in pages {
            let events = page.map(|page| revised.by_ref().take(page.len()).collect::<Vec<_>>());
            let more = events.as_ref().is_some_and(|events| events.len() == PAGE);
            full.push(more);
            // The hold protects a user that lacks its last pages: nobody else would add them if this process died.
            histories.push(history(behind, events, lift && !more, caught));
        }
        let progress = self.view.take_over(&histories).await?;
        let again = histories.iter().zip(progress).zip(full);
        let again = again.filter_map(|((history, progress), full)| match progress {
            Progress::Moved => Some((history.user, history.anew)),
            Progress::Conflict => Some((history.user, true)),
            Progress::Followed if full && !caught.lost.contains_key(&history.user) => {
                Some((history.user, false))
            }
            Progress::Followed | Progress::Held => None,
        });
        Ok(again.collect())
    }

    /// Reads from the last applied event on, to check that the log has the same one.
    async fn read_on(
        &self,
        behind: Behind,
    ) -> Result<(Behind, Option<Vec<RecordedEvent>>), Unavailable> {
        let last = behind.standing.revision().filter(|_| !behind.anew);
        let page = self.read(behind.user, last.unwrap_or(0), PAGE).await?;
        Ok((behind, page))
    }
}

/// The events up to the first one that cannot be applied.
fn history(
    Behind {
        user,
        standing,
        anew,
    }: Behind,
    events: Option<Vec<Result<ProvenEvent, Refused>>>,
    lift: bool,
    caught: &mut CaughtUp,
) -> History {
    let mut history = History {
        user,
        standing,
        anew,
        lift,
        events: Vec::new(),
        refused: None,
    };
    let Some(events) = events else {
        history.events.push(erasure_by_tombstone(user));
        return history;
    };
    for event in events {
        match event {
            Ok(event) => history.events.push(event),
            Err(Refused::KeyLost(key)) => {
                caught.lost.insert(user, key);
                history.wait();
                break;
            }
            Err(Refused::ForEver(revision, reason)) => {
                history.refused = Some((revision, reason));
                break;
            }
        }
    }
    history
}
