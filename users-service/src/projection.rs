//! From messages to the read model `directory`: exact, per user.
//!
//! [`directory`] decides what an event does to a user's row (pure), [`view`] keeps rows in SQLite, [`repair`] reads what
//! the queues did not bring from the log, and [`projector`] consumes the queues.
//!
//! Invariants:
//! - The last revision applied per user is kept in the same transaction as the row, so a repeated message is recognised
//!   for ever and a missing one is noticed.
//! - What cannot be applied holds its user only; later events of that user wait in the log.
//! - A deletion is applied at once, and leaves a row without personal data that makes every other event a duplicate.

pub mod directory;
mod late;
mod names;
pub mod projector;
pub mod repair;
mod troubles;
pub mod view;
