//! The query side: answers from read models.

pub mod api;
pub mod cursor;
mod parameters;
pub mod statistics_route;
mod visibility;
