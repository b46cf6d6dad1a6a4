use super::*;
use crate::database::Databases;
use crate::privacy::search_secret::SearchSecret;

mod postgres;
mod sqlite;

const MANY: i64 = 1_000_000;
const LIMIT: i64 = 101;

/// An empty directory.
async fn directory(databases: &Databases) -> Generation {
    let secret = SearchSecret::of(&"0a".repeat(32).parse().unwrap());
    let generation = Generation::open(databases, &Directory::new(secret), (1, 4)).await;
    generation.unwrap()
}
