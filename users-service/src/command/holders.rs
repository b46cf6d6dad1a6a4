//! Who holds a name: what reservations say, and whether a living user's stream says so too.

use super::error::CommandError;
use super::reservation::{Holder, UserStatus};
use super::user_history::UserHistory;
use crate::domain::{ReservationName, UserId};
use crate::stored_event::ReservationEvent;
use event_streams::EventStreams;

/// What the reservation's last event says.
pub(super) async fn holder(
    store: &EventStreams,
    name: &ReservationName,
) -> Result<Holder, CommandError> {
    let Some(last) = store.read_last(name.as_str()).await? else {
        return Ok(Holder::Nobody(None));
    };
    Ok(match ReservationEvent::decode(&last)? {
        ReservationEvent::Claimed(user) => Holder::Claimed(user, last.revision),
        ReservationEvent::Released => Holder::Nobody(Some(last.revision)),
    })
}

/// Whether anybody but this user lives under one of the reservations that a name had before more letters were folded.
/// No new claim is ever made to these, so whoever does not hold one now never will.
pub(super) async fn is_held_by_another(
    store: &EventStreams,
    me: UserId,
    former: &[ReservationName],
) -> Result<bool, CommandError> {
    for name in former {
        let Holder::Claimed(user, _) = holder(store, name).await? else {
            continue;
        };
        let status = UserHistory::read(store, user).await?.status();
        let lives_here =
            matches!(status, UserStatus::Alive { claim, .. } if claim.reservation == *name);
        if user != me && lives_here {
            return Ok(true);
        }
    }
    Ok(false)
}
