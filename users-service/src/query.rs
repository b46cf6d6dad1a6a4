//! The read side: what is answered from read models.

pub mod api;
