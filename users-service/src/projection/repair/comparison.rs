//! Compares the view with the log, page by page. Each page is applied in one transaction, unless that may have killed a process.

use super::{Refused, Repair, erasure};
use crate::domain::UserId;
use crate::integration::mapping::{STREAM_DELETED, Unmappable};
use crate::privacy::cipher::KeyId;
use crate::projection::view::Outcome;
use crate::read_model::ProvenEvent;
use crate::stored_event::{
    TOMBSTONES, USER_DELETED, USER_STREAM_PREFIX, UserCount, user_of_stream,
};
use event_streams::{Position, RecordedEvent};
use std::collections::BTreeSet;

/// How many events of the log are read at once.
const PAGE: usize = 1_000;

impl Repair {
    /// Compares the view with the log, from the position of completeness up to `published`, and applies missing events.
    /// `published` must be a position of the log.
    ///
    /// # Errors
    /// When the store, the key store or the database fails. The progress until then is kept. Also when a key is lost, after all
    /// other users were compared; the position of completeness then stays before that event.
    pub async fn complete(&self, published: Position) -> anyhow::Result<()> {
        let mut after = self.view.complete_up_to().await?;
        let mut lost = None;
        while after < Some(published) {
            // The stream of tombstones has a name with which the names of users' streams begin.
            let counts = self.view.projection().reads_counts();
            let prefixes = [if counts {
                TOMBSTONES
            } else {
                USER_STREAM_PREFIX
            }];
            let page = self.store.read_all(&prefixes, after, PAGE).await?;
            let behind = |event: &RecordedEvent| event.position <= published;
            let count = page.events.partition_point(behind);
            lost = lost.or(self.bring(&page.events[..count]).await?);
            let looked_at = page.position.filter(|_| !page.end).unwrap_or(published);
            let looked_at = looked_at.min(published);
            if lost.is_none() {
                self.view.advance(looked_at, count as u64).await?;
            }
            after = Some(looked_at);
        }
        lost.map_or(Ok(()), |key| Err(Unmappable::KeyLost(key).into()))
    }

    /// Forgets a position of completeness that lies beyond the end of the log, so that everything is compared again.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::projection) async fn disbelieve_beyond(
        &self,
        end: Option<Position>,
    ) -> Result<(), sqlx::Error> {
        let complete = self.view.complete_up_to().await?;
        if complete > end {
            let text = "the view's position lies beyond the end of the log; all is compared again";
            tracing::warn!(?complete, ?end, "{text}");
            self.view.compare_again().await?;
        }
        Ok(())
    }

    /// Applies the missing events among these: together, unless that may have killed a process before. Returns a lost key, if
    /// there is one.
    async fn bring(&self, events: &[RecordedEvent]) -> anyhow::Result<Option<KeyId>> {
        let missing = self.missing(events).await?;
        if missing.is_empty() {
            return Ok(None);
        }
        let brought = if self.view.begin_together().await? {
            self.bring_together(&missing).await
        } else {
            self.bring_one_by_one(missing).await
        };
        let finished = self.view.finish_together().await;
        let lost = brought?;
        finished?;
        Ok(lost)
    }

    /// Counts an attempt before it is made, as for a redelivered message. Erasures come first, and are always tried.
    async fn bring_one_by_one(
        &self,
        mut missing: Vec<(UserId, &RecordedEvent)>,
    ) -> anyhow::Result<Option<KeyId>> {
        let text =
            "a process has ended while it applied events of the log; they are applied one by one";
        tracing::warn!(events = missing.len(), text);
        missing.sort_by_key(|(_, event)| !is_erasure(event));
        let mut counted = self.counted.lock().await;
        let mut lost = None;
        for one in missing {
            let event = (one.0, one.1.revision);
            if is_erasure(one.1) {
                lost = lost.or(self.bring_together(&[one]).await?);
            } else if self.view.begin_attempt(event, &mut counted).await? {
                let brought = self.bring_together(&[one]).await;
                // Its message may have killed processes too, so it is not forgotten.
                self.view.discount_attempt(event).await?;
                counted.remove(&event);
                lost = lost.or(brought?);
            } else {
                self.view.give_up(event).await?;
            }
        }
        Ok(lost)
    }

    /// Applies missing events in one transaction. Reads a user's stream only if the events do not follow the user's row. An
    /// erasure ignores holds, and is applied even if it was applied before, because the process may have ended before the
    /// view's write-ahead log was emptied.
    async fn bring_together(
        &self,
        missing: &[(UserId, &RecordedEvent)],
    ) -> anyhow::Result<Option<KeyId>> {
        let (events, mut behind) = self.readable(missing).await?;
        let mut applied = 0;
        let users: Vec<UserId> = events.iter().map(|event| event.user).collect();
        for (user, outcome) in users.into_iter().zip(self.view.apply(events).await?) {
            match outcome {
                Outcome::Applied => applied += 1,
                Outcome::Gap | Outcome::Conflict => {
                    behind.insert(user);
                }
                Outcome::Duplicate | Outcome::Held => {}
            }
        }
        let streams = behind.len();
        if applied + streams > 0 {
            let text = "applied events of the log that the queues have not delivered";
            tracing::warn!(applied, streams, "{text}");
        }
        let caught = self.catch_up_all(behind, false).await?;
        Ok(caught.lost.into_values().next())
    }

    /// The events that are not in the rows of their users. Those of held users wait, except for erasures.
    async fn missing<'a>(
        &self,
        events: &'a [RecordedEvent],
    ) -> Result<Vec<(UserId, &'a RecordedEvent)>, sqlx::Error> {
        let owned = events.iter();
        let mut owned: Vec<_> = owned
            .filter_map(|event| Some((owner(event)?, event)))
            .collect();
        let users = owned.iter().map(|(user, _)| *user).collect();
        let standings = self.view.standings(&users).await?;
        owned.retain(|(user, event)| {
            let standing = standings.get(user).copied().unwrap_or_default();
            is_erasure(event) || !(standing.held || standing.has(event.revision, event.id))
        });
        Ok(owned)
    }

    /// The erasures, then all other events in the log's order. The set holds the users of unreadable events, whose streams
    /// have to be read.
    async fn readable(
        &self,
        missing: &[(UserId, &RecordedEvent)],
    ) -> anyhow::Result<(Vec<ProvenEvent>, BTreeSet<UserId>)> {
        let (erasures, others): (Vec<_>, Vec<_>) =
            missing.iter().partition(|(_, event)| is_erasure(event));
        let erasures = erasures.iter();
        let mut events: Vec<_> = erasures
            .map(|(user, event)| erasure(*user, event))
            .collect();
        let mut unreadable = BTreeSet::new();
        for ((user, _), revised) in others.iter().zip(self.revise(&others).await?) {
            match revised {
                Ok(event) => events.push(event),
                Err(Refused::KeyLost(_) | Refused::ForEver(..)) => {
                    unreadable.insert(*user);
                }
            }
        }
        Ok((events, unreadable))
    }
}

fn is_erasure(event: &RecordedEvent) -> bool {
    event.stream == TOMBSTONES
        || [STREAM_DELETED, USER_DELETED].contains(&event.event_type.as_str())
}

/// The user that the event belongs to. `None` for a stream whose name only begins like a user's; anybody can write to one.
/// Of the stream of tombstones only the counts matter: the user's own stream has the deletion.
fn owner(event: &RecordedEvent) -> Option<UserId> {
    let counted = UserCount::decode(event).map(|(user, _)| user);
    let user = counted.or_else(|| user_of_stream(&event.stream));
    user.filter(|user| i64::try_from(user.number()).is_ok())
}
