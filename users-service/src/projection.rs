//! From messages to read models: exact, per user. What a read model keeps is not decided here, but by its
//! [`Projection`](crate::read_model::Projection).
//!
//! [`ledger`] decides whether an event is the next one of its user (pure). [`view`] writes the database. [`repair`] reads from
//! the log what the queues have not delivered. [`projector`] consumes the queues. [`holds`] is for operators.
//!
//! Invariants:
//! - The last applied revision of each user is stored in the same transaction as what the projection keeps, so a repeated message is always
//!   recognised and a missing one is noticed.
//! - An event that cannot be applied holds its user only. The user's later events wait in the log.
//! - A deletion is applied at once. It leaves an entry without personal data, and every later event counts as a duplicate.

pub mod current_repair;
mod health;
pub mod holds;
pub mod host;
mod late;
pub mod ledger;
mod names;
pub mod projector;
pub mod repair;
pub mod view;
