//! The rules of a user: its state, its commands and its events.
//!
//! Pure and synchronous: this module knows nothing of storage, transport, serialization, clocks, or the source of ids.
//! A command carries everything that its decision needs to know. Every personal value is a [`Personal`].

mod claim;
mod direction;
mod name;
mod personal;
mod profile;
#[cfg(test)]
mod tests;
mod unicode;
mod user;
mod user_command;
mod user_error;
mod user_event;
mod user_id;
mod username;

pub use claim::{Claim, ReservationName};
pub use name::{FamilyName, GivenName, NameField, NameProblem};
pub use personal::Personal;
pub use profile::{Changes, Profile};
pub use user::{ActiveUser, User, UserState};
pub use user_command::UserCommand;
pub use user_error::UserError;
pub use user_event::UserEvent;
pub use user_id::{NotAUserId, UserId};
pub use username::Username;
