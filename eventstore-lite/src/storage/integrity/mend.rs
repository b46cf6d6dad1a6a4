//! Repairs data that is derived from the events.

use rusqlite::{Connection, Result};

use super::{Findings, Scope, find_all, streams_with_wrong_limits};
use crate::storage::rows::{self, Stream};

/// Rebuilds the indexes. Findings that disappear with this were only about the indexes.
pub(super) fn indexes(connection: &Connection, found: Findings) -> Result<Findings> {
    if let Err(error) = connection.execute_batch("REINDEX") {
        tracing::debug!(%error, "the indexes cannot be rebuilt");
        return Ok(found);
    }
    let Findings { log, mut derived } = find_all(connection)?;
    let of_indexes = found
        .log
        .into_iter()
        .filter(|finding| !log.contains(finding));
    derived.extend(of_indexes);
    Ok(Findings { log, derived })
}

/// Sets the limits of streams from their metadata.
pub(super) fn limits(connection: &Connection, scope: Scope) -> Result<()> {
    for (name, metadata) in streams_with_wrong_limits(connection, &scope.tables(), usize::MAX)? {
        let mut stream = match rows::find_stream(connection, &name)? {
            Some(stream) => stream,
            None => Stream::new(next_id(connection)?),
        };
        stream.has_metadata = metadata.is_some();
        stream.metadata = metadata.unwrap_or_default();
        rows::save_stream(connection, &name, &stream)?;
    }
    Ok(())
}

fn next_id(connection: &Connection) -> Result<i64> {
    let sql = "SELECT coalesce(max(id), 0) + 1 FROM streams";
    connection.query_row(sql, [], |row| row.get(0))
}
