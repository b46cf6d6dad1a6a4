//! From messages to the read model `directory`: exact, per user.
//!
//! [`directory`] decides what an event does to a user's row (pure). [`view`] keeps the rows in SQLite. [`repair`] reads from
//! the log what the queues have not delivered. [`projector`] consumes the queues. [`holds`] is for operators.
//!
//! Invariants:
//! - The last applied revision of each user is stored in the same transaction as the row, so a repeated message is always
//!   recognised and a missing one is noticed.
//! - An event that cannot be applied holds its user only. The user's later events wait in the log.
//! - A deletion is applied at once. It leaves a row without personal data, and every later event counts as a duplicate.

pub mod directory;
mod health;
pub mod holds;
mod late;
mod names;
pub mod projector;
pub mod repair;
pub mod view;
