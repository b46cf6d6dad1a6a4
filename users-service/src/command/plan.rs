//! The effect of a command on the username, and the reservations that it concerns.

use super::envelope::Command;
use super::reservation::Goal;
use crate::domain::ReservationName;
use crate::privacy::pseudonym::UsernameSecret;

/// What the reservation protocol must do for a command.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) goal: Goal,
    /// The reservations that the new name had before Unicode folded more letters.
    pub(super) former: Vec<ReservationName>,
}

impl Plan {
    pub(super) fn of(command: &Command, secret: &UsernameSecret) -> Self {
        match command {
            Command::Create(profile) => {
                let name = secret.reservation(&profile.username);
                let former = secret.former_reservations(&profile.username);
                let read_first = !former.is_empty();
                let goal = Goal::Create { name, read_first };
                Self { goal, former }
            }
            Command::Patch(_, changes) => match &changes.username {
                Some(username) => {
                    let name = secret.reservation(username);
                    let former_name = secret.former_reservation(username);
                    let former = secret.former_reservations(username);
                    let goal = Goal::Hold { name, former_name };
                    Self { goal, former }
                }
                None => Self::without_name(Goal::Keep),
            },
            Command::Delete(_) => Self::without_name(Goal::Delete),
        }
    }

    fn without_name(goal: Goal) -> Self {
        let former = Vec::new();
        Self { goal, former }
    }
}
