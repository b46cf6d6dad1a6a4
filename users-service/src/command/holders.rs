//! The holder of a name, as its reservation and the stream of the holder say.

use super::error::CommandError;
use super::reservation::{Holder, UserStatus};
use super::stores::Stores;
use crate::domain::{ReservationName, UserId};
use crate::stored_event::ReservationEvent;

/// The holder that the reservation's last event names.
pub(super) async fn holder(
    stores: &Stores,
    name: &ReservationName,
) -> Result<Holder, CommandError> {
    let Some(last) = stores.events.read_last(name.as_str()).await? else {
        return Ok(Holder::Nobody(None));
    };
    Ok(match ReservationEvent::decode(&last)? {
        ReservationEvent::Claimed { user, .. } => Holder::Claimed(user, last.revision),
        ReservationEvent::Released => Holder::Nobody(Some(last.revision)),
    })
}

/// Whether another user holds one of the former reservations of a name. A name may have such reservations because a later
/// version of Unicode folds more letters. They are never claimed again, so a user who does not hold one now never will.
pub(super) async fn is_held_by_another(
    stores: &Stores,
    me: UserId,
    former: &[ReservationName],
) -> Result<bool, CommandError> {
    for name in former {
        let Holder::Claimed(user, _) = holder(stores, name).await? else {
            continue;
        };
        let status = stores.histories.read(user).await?.status();
        let holds_it =
            matches!(status, UserStatus::Active { claim, .. } if claim.reservation == *name);
        if user != me && holds_it {
            return Ok(true);
        }
    }
    Ok(false)
}
