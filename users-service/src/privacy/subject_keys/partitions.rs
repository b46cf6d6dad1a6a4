//! The partitions of the table of keys in PostgreSQL: each has the keys whose ids begin with certain bytes.
//!
//! Invariant: every partition can be rewritten without the others, so that destroying a key costs a part of the table.

use super::KeyId;
use crate::database::Dialect;
use std::collections::BTreeSet;

/// How many partitions there are.
pub(super) const PARTITIONS: u16 = 64;

/// How many first bytes of ids belong to one partition.
pub(super) const BYTES: u16 = 256 / PARTITIONS;

/// The table that has the keys of these ids: their partition, if they share one. A statement locks all partitions of the
/// whole table, which costs more than reading a key.
pub(super) fn table_of(dialect: Dialect, ids: &[KeyId]) -> String {
    let partitions = partitions_of(ids);
    match (dialect, partitions.first()) {
        (Dialect::Postgres, Some(partition)) if partitions.len() == 1 => name(*partition),
        (Dialect::Postgres | Dialect::Sqlite, _) => "keys".to_owned(),
    }
}

/// The partitions of these ids.
pub(super) fn partitions_of(ids: &[KeyId]) -> BTreeSet<u16> {
    ids.iter()
        .map(|id| u16::from(id.first_byte()) / BYTES)
        .collect()
}

/// The name of a partition.
pub(super) fn name(partition: u16) -> String {
    format!("keys_{partition}")
}
