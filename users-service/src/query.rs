//! The query side: answers from read models.

pub mod api;
mod visibility;
