//! The operator's commands for held users. Stream `operations` records every decision to drop an event.
//!
//! A dropped event is skipped in this read model, as if it changed nothing, also whenever the row is rebuilt. The log and
//! other read models keep it. An erasure cannot be dropped, because no hold stops it.

use super::repair::Repair;
use super::view::{HeldUser, HeldUserList, View, held_users};
use crate::domain::UserId;
use crate::operations::{self, Decision, OPERATIONS, OperationError, OperatorName, Reason};
use crate::read_model::Generation;
use anyhow::Context as _;
use event_streams::{Direction, EventStreams};
use serde::{Deserialize, Serialize};

/// Stored name of the decision to drop an event from the read model.
pub const HELD_EVENT_DROPPED: &str = "HeldEventDropped.v1";
/// The most held users that are shown.
const SHOWN: u32 = 1_000;
/// How many of them readiness names.
const NAMED: u32 = 3;
/// How many decisions are read at once.
const PAGE: usize = 500;

/// An event that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedEvent {
    /// Its type. `None` if it no longer exists.
    pub event_type: Option<String>,
    /// The user, if a later event cannot be applied either.
    pub still_held: Option<HeldUser>,
}

/// A decision that is read again.
#[derive(Deserialize)]
struct StoredDrop {
    read_model: String,
    user: String,
    revision: u64,
}

#[derive(Serialize)]
struct Dropped<'a> {
    by: &'a OperatorName,
    read_model: &'a str,
    user: String,
    revision: u64,
    #[serde(rename = "type")]
    event_type: Option<&'a str>,
    reason: &'a Reason,
}

/// The held users.
///
/// # Errors
/// When the database fails.
pub async fn list(generation: &Generation) -> Result<HeldUserList, sqlx::Error> {
    held_users(generation, SHOWN).await
}

/// Fails with the first held users, if there are any.
///
/// # Errors
/// The text for readiness, also when the database fails.
pub async fn check(generation: &Generation) -> Result<(), String> {
    let held = held_users(generation, NAMED).await;
    let held = held.map_err(|error| error.to_string())?;
    let named = held.users.iter();
    let named =
        named.map(|one| format!("{} at revision {}: {}", one.user, one.revision, one.reason));
    let named = named.collect::<Vec<_>>().join("; ");
    match held.total.saturating_sub(NAMED.into()) {
        0 if named.is_empty() => Ok(()),
        0 => Err(format!("held: {named}")),
        more => Err(format!("held: {named}; and {more} more")),
    }
}

/// Lifts the hold and rebuilds the user's row from the log. Returns the user if an event still cannot be applied.
///
/// # Errors
/// When the user is not held, a key is lost, or the store or the database fails. The user is then held as before.
pub async fn replay(repair: &Repair, user: UserId) -> Result<Option<HeldUser>, OperationError> {
    find(repair.view(), user).await?;
    rebuild(repair, user).await
}

/// Records the decision, drops the event at which the user is held, and rebuilds the user's row without it. With a revision,
/// only the event of this revision is dropped, so a repeated request drops no other one.
///
/// # Errors
/// As [`replay`], and when the user is not held at this revision.
pub async fn drop_event(
    repair: &Repair,
    user: UserId,
    revision: Option<u64>,
    decision: &Decision,
) -> Result<DroppedEvent, OperationError> {
    let held = find(repair.view(), user).await?;
    if revision.is_some_and(|revision| revision != held.revision) {
        return Err(OperationError::MovedOn);
    }
    let event_type = repair.event_type(user, held.revision).await;
    let event_type = event_type.map_err(anyhow::Error::from)?;
    let record = Dropped {
        by: &decision.by,
        read_model: repair.view().generation().read_model(),
        user: user.to_string(),
        revision: held.revision,
        event_type: event_type.as_deref(),
        reason: &decision.reason,
    };
    operations::record(repair.store(), HELD_EVENT_DROPPED, &record).await?;
    let dropped = repair.view().drop_event(user, held.revision).await;
    if !dropped.map_err(anyhow::Error::from)? {
        return Err(OperationError::MovedOn);
    }
    Ok(DroppedEvent {
        event_type,
        still_held: rebuild(repair, user).await?,
    })
}

/// Drops again what operators have dropped from this read model, in a generation that is built from the log.
///
/// # Errors
/// When the store or the database fails.
pub(super) async fn restore_dropped(store: &EventStreams, view: &View) -> anyhow::Result<()> {
    let mut from = 0;
    loop {
        let page = store
            .read(OPERATIONS, Direction::ForwardFrom(from), PAGE)
            .await?;
        for event in page
            .iter()
            .filter(|event| event.event_type == HELD_EVENT_DROPPED)
        {
            let dropped: StoredDrop = serde_json::from_slice(&event.data)
                .with_context(|| format!("malformed {HELD_EVENT_DROPPED}"))?;
            if dropped.read_model == view.generation().read_model() {
                let user: UserId = dropped.user.parse()?;
                view.drop_again(user, dropped.revision).await?;
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => from = last.revision + 1,
            Some(_) | None => return Ok(()),
        }
    }
}

async fn rebuild(repair: &Repair, user: UserId) -> Result<Option<HeldUser>, OperationError> {
    repair.catch_up(user, true).await?;
    let held = repair.view().held_user(user).await;
    Ok(held.map_err(anyhow::Error::from)?)
}

async fn find(view: &View, user: UserId) -> Result<HeldUser, OperationError> {
    let held = view.held_user(user).await.map_err(anyhow::Error::from)?;
    held.ok_or(OperationError::NotHeld(user))
}

#[cfg(test)]
mod tests {
    use super::Dropped;
    use serde_json::Value;

    #[test]
    fn the_decision_to_drop_an_event_is_written_as_in_its_frozen_example() {
        let example = include_str!("../../tests/fixtures/events/HeldEventDropped.v1.json");
        let example: Value = serde_json::from_str(example).unwrap();
        let dropped = Dropped {
            by: &"grace".parse().unwrap(),
            read_model: "directory",
            user: "77".to_owned(),
            revision: 3,
            event_type: Some("UserPatched.v1"),
            reason: &"a test damaged it".parse().unwrap(),
        };
        assert_eq!(serde_json::to_value(dropped).unwrap(), example["data"]);
    }
}
