//! User accounts: event-sourced commands, read models, real erasure.
