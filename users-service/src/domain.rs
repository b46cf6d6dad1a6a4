//! What a user is, what may happen to one, and who decides it.
//!
//! Pure and synchronous: knows nothing of storage, transport, serialization, clocks, or where ids come from.
//! What a decision must know of the world travels in its command. Personal values are [`Personal`](crate::privacy::Personal).

mod command;
mod error;
mod event;
mod name;
mod reservation;
#[cfg(test)]
mod tests;
mod unicode;
mod user;
mod user_id;
mod username;

pub use command::UserCommand;
pub use error::UserError;
pub use event::UserEvent;
pub use name::{FamilyName, GivenName, InvalidName, MAX_NAME_CHARS, NameField, NameProblem};
pub use reservation::{Claim, ReservationName};
pub use user::{ActiveUser, Changes, Profile, User, UserState};
pub use user_id::{NotAUserId, UserId};
pub use username::Username;
