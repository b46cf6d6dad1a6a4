//! Checks whether the database is what this program writes.
//!
//! The same checks run on the end of the log or on the whole log. The end is checked whenever a server starts, at a
//! cost that does not depend on the size of the store. Damage by a crash is most likely at the end, because
//! everything else was on disk before.
//!
//! Scavenges and retention remove the oldest events of a stream. So a gap between two events is damage, unless the
//! stream has a `$maxAge` and its events were not created in order. A missing beginning is damage, unless metadata or
//! a tombstone explains it.
//!
//! Data that is derived from the events (limits, links, indexes) may disagree with them. Such findings are reported
//! and repaired as far as possible. They do not prevent the use of the database.

mod mend;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::Connection;

use super::unusable::{Damage, Unusable, is_damage};
use super::{rows, schema};
use crate::event::{Position, TOMBSTONE_REVISION};
use crate::retention::Retention;
use crate::stream_name::StreamName;

/// The number of events at the end of the log that a start checks.
const END: usize = 256;
/// The maximum number of findings of one check.
const MOST_FINDINGS: usize = 20;

/// Which rows are `some_events`, `some_streams` and `some_links` in [`CHECKS`]. Links are checked all or not at all,
/// because no index finds those of the last events. A stream is `gone` if it, or the stream whose metadata it holds,
/// has a tombstone: a scavenge leaves only the tombstone.
#[derive(Clone, Copy, Debug)]
enum Scope {
    End,
    Everything,
}

/// The name of the stream whose metadata `s` holds. The casts are needed because most SQLite functions end a text at
/// its first NUL.
const ORIGINAL: &str = "CAST(substr(CAST(s.name AS BLOB), 3) AS TEXT)";

impl Scope {
    fn tables(self) -> String {
        let (events, streams, links) = match self {
            Self::End => (
                format!("ORDER BY position DESC LIMIT {END}"),
                "WHERE id IN (SELECT stream FROM some_events)",
                "WHERE false",
            ),
            Self::Everything => (String::new(), "", ""),
        };
        format!(
            "WITH some_events AS (SELECT position, stream, revision, id FROM events {events}),
             some_streams AS (SELECT *, tombstoned OR EXISTS (SELECT 1 FROM streams o
                     WHERE s.name GLOB '$$*' AND o.name = {ORIGINAL} AND o.tombstoned) AS gone
                 FROM streams s {streams}),
             some_links AS (SELECT * FROM links {links}) "
        )
    }
}

/// Findings, one sentence each.
#[derive(Debug, Default)]
struct Findings {
    /// Damaged events.
    log: Vec<String>,
    /// Derived data that disagrees with the events.
    derived: Vec<String>,
}

/// Queries on events. Each row is a finding.
const CHECKS: &[&str] = &[
    "SELECT 'the log has ' || count(*) || ' heads, not one' FROM log HAVING count(*) <> 1",
    "SELECT 'the last event is at ' || max(position) || ', beyond the head at ' || head
     FROM log, (SELECT position FROM events ORDER BY position DESC LIMIT 1)
     HAVING max(position) > head",
    "SELECT 'the event at ' || position || ' is not at a boundary' FROM some_events
     WHERE position <= 0 OR position % {stride} <> 0",
    "SELECT 'the event at ' || position || ' has an id of ' || length(id) || ' bytes' FROM some_events
     WHERE length(id) <> 16",
    "SELECT 'the event at ' || position || ' belongs to no stream' FROM some_events e
     WHERE NOT EXISTS (SELECT 1 FROM streams s WHERE s.id = e.stream)",
    "SELECT 'the event at ' || position || ' is missing from an index' FROM some_events e
     WHERE NOT EXISTS (SELECT 1 FROM events i INDEXED BY events_by_revision
         WHERE i.stream = e.stream AND i.revision = e.revision AND i.position = e.position)",
    "SELECT 'revision ' || revision || ' of stream ' || name || ' is present, but the revision before it is missing'
     FROM some_events e JOIN streams s ON s.id = e.stream
     WHERE revision BETWEEN 1 AND {tombstone} - 1 AND NOT (disordered AND has_metadata)
     AND NOT EXISTS (SELECT 1 FROM events p WHERE p.stream = e.stream AND p.revision = e.revision - 1)
     AND NOT EXISTS (SELECT 1 FROM links p WHERE p.stream = e.stream AND p.revision = e.revision - 1)
     AND EXISTS (SELECT 1 FROM events p WHERE p.stream = e.stream AND p.revision < e.revision)",
    "SELECT 'revision ' || revision || ' of stream ' || name || ' is not after its predecessor in the log'
     FROM some_events e JOIN streams s ON s.id = e.stream
     WHERE revision > 0 AND position <
         (SELECT p.position FROM events p WHERE p.stream = e.stream AND p.revision = e.revision - 1)",
    "SELECT 'stream ' || name || ' has no beginning, and nothing explains that' FROM some_streams s
     WHERE NOT tombstoned AND NOT has_metadata AND name NOT GLOB '$$*' AND last IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM events e WHERE e.stream = s.id AND e.revision = 0)
     AND NOT EXISTS (SELECT 1 FROM links l WHERE l.stream = s.id AND l.revision = 0)",
    "SELECT 'stream ' || name || ' ends with revision ' || coalesce(max(e.revision), 'none') ||
         ', but its row says ' || coalesce(last, 'none')
     FROM some_streams s LEFT JOIN events e ON e.position =
         (SELECT l.position FROM events l WHERE l.stream = s.id AND l.revision < {tombstone}
          ORDER BY l.revision DESC LIMIT 1)
     WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.stream = s.id)
     GROUP BY s.id HAVING max(e.revision) IS NOT last AND (max(e.revision) IS NOT NULL OR NOT gone)",
    "SELECT 'stream ' || name || ' and its row disagree about a tombstone' FROM some_streams s
     WHERE tombstoned <> EXISTS (SELECT 1 FROM events e WHERE e.stream = s.id AND e.revision = {tombstone})",
];

/// Like [`CHECKS`], for data that is derived from the events.
const DERIVED: &[&str] = &[
    "SELECT 'stream ' || name || ' ends with a link or revision ' || found || ', but its row says ' ||
         coalesce(last, 'none')
     FROM (SELECT name, last, max(
             (SELECT l.revision FROM links l WHERE l.stream = s.id ORDER BY l.revision DESC LIMIT 1),
             coalesce((SELECT e.revision FROM events e WHERE e.stream = s.id AND e.revision < {tombstone}
                 ORDER BY e.revision DESC LIMIT 1), 0)) AS found FROM some_streams s)
     WHERE found IS NOT NULL AND found IS NOT last",
    "SELECT 'link ' || revision || ' of stream ' || stream || ' is beyond the head, or one of its streams does not exist'
     FROM some_links l WHERE position > (SELECT max(linked) FROM log)
     OR NOT EXISTS (SELECT 1 FROM streams s WHERE s.id = l.stream)
     OR NOT EXISTS (SELECT 1 FROM streams s WHERE s.id = l.target)",
    "SELECT 'link ' || revision || ' of stream ' || name || ' is present, but the revision before it is missing'
     FROM some_links l JOIN streams s ON s.id = l.stream
     WHERE revision > 0 AND NOT has_metadata
     AND NOT EXISTS (SELECT 1 FROM links p WHERE p.stream = l.stream AND p.revision = l.revision - 1)
     AND NOT EXISTS (SELECT 1 FROM events p WHERE p.stream = l.stream AND p.revision = l.revision - 1)",
];

/// Checks the end of the log before a server uses it, and repairs derived data.
pub(super) fn check_end(connection: &Connection) -> Result<(), Unusable> {
    let Findings { log, derived } = check(connection, Scope::End)?;
    ensure_sound(log)?;
    for finding in &derived {
        tracing::error!(finding, "derived data disagrees with the log");
    }
    if !derived.is_empty() {
        mend::limits(connection, Scope::End)?;
    }
    Ok(())
}

/// Checks the whole database and repairs derived data as far as possible. Returns the findings in derived data.
pub(super) fn check_and_mend(connection: &Connection) -> Result<Vec<String>, Unusable> {
    let mut findings = find_all(connection)?;
    if !findings.log.is_empty() {
        findings = mend::indexes(connection, findings)?;
    }
    ensure_sound(findings.log)?;
    mend::limits(connection, Scope::Everything)?;
    Ok(findings.derived)
}

/// All findings in the database of `folder`. A server may be using it.
pub(crate) fn verify(folder: &Path) -> Result<Vec<String>> {
    let file = schema::file(folder);
    let checked = match schema::inspect_newest(folder) {
        Err(Unusable::Damaged(damage)) => return Ok(damage.0),
        inspected => inspected.and_then(|connection| {
            let one_state = connection.unchecked_transaction()?;
            let Findings { log, derived } = find_all(&one_state)?;
            Ok([log, derived].concat())
        }),
    };
    checked.with_context(|| format!("checking the database {}", file.display()))
}

fn ensure_sound(findings: Vec<String>) -> Result<(), Unusable> {
    if findings.is_empty() {
        return Ok(());
    }
    Err(Unusable::Damaged(Damage(findings)))
}

/// Runs SQLite's own integrity check, and then the checks of the content.
fn find_all(connection: &Connection) -> rusqlite::Result<Findings> {
    let pragma = format!("PRAGMA integrity_check({MOST_FINDINGS})");
    let mut log = or_finding(texts(connection, &pragma))?;
    log.retain(|finding| finding != "ok");
    let found = check(connection, Scope::Everything)?;
    log.extend(found.log);
    Ok(Findings { log, ..found })
}

fn check(connection: &Connection, scope: Scope) -> rusqlite::Result<Findings> {
    let tables = scope.tables();
    let log = run_checks(connection, &tables, CHECKS)?;
    let mut derived = run_checks(connection, &tables, DERIVED)?;
    derived.extend(or_finding(wrong_metadata(connection, &tables))?);
    Ok(Findings { log, derived })
}

fn run_checks(
    connection: &Connection,
    tables: &str,
    checks: &[&str],
) -> rusqlite::Result<Vec<String>> {
    let mut findings = Vec::new();
    let tombstone = TOMBSTONE_REVISION.to_string();
    let stride = Position::START.next().to_sql().to_string();
    for check in checks {
        let check = check
            .replace("{tombstone}", &tombstone)
            .replace("{stride}", &stride);
        let query = format!("{tables} {check} LIMIT {MOST_FINDINGS}");
        findings.extend(or_finding(texts(connection, &query))?);
    }
    Ok(findings)
}

/// Turns an error about a damaged file into a finding. Other errors mean that the check failed.
fn or_finding(found: rusqlite::Result<Vec<String>>) -> rusqlite::Result<Vec<String>> {
    match found {
        Err(error) if is_damage(&error) => Ok(vec![error.to_string()]),
        found => found,
    }
}

fn texts(connection: &Connection, query: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(query)?;
    let texts = statement.query_map([], |row| row.get(0))?;
    texts.collect()
}

fn wrong_metadata(connection: &Connection, tables: &str) -> rusqlite::Result<Vec<String>> {
    let wrong = streams_with_wrong_limits(connection, tables, MOST_FINDINGS)?.into_iter();
    let finding = |(name, _): (StreamName, _)| {
        let name = name.as_str();
        format!("the limits of stream {name} differ from its metadata")
    };
    Ok(wrong.map(finding).collect())
}

/// Finds streams whose limits differ from the last event of their metastream, each with the limits of that event.
fn streams_with_wrong_limits(
    connection: &Connection,
    tables: &str,
    most: usize,
) -> rusqlite::Result<Vec<(StreamName, Option<Retention>)>> {
    let mut statement = connection.prepare(&format!(
        "{tables} SELECT name FROM some_streams WHERE has_metadata AND NOT gone
         UNION SELECT {ORIGINAL} FROM some_streams s
         WHERE name GLOB '$$*' AND (last IS NOT NULL OR tombstoned)
         AND NOT EXISTS (SELECT 1 FROM streams o WHERE o.name = {ORIGINAL} AND o.tombstoned)"
    ))?;
    let mut rows = statement.query([])?;
    let mut wrong = Vec::new();
    while wrong.len() < most
        && let Some(row) = rows.next()?
    {
        let name = StreamName::stored(row.get_ref(0)?.as_str()?);
        let kept = rows::find_stream(connection, &name)?.filter(|stream| stream.has_metadata);
        let metadata = metadata_of(connection, &name)?;
        if kept.map(|stream| stream.metadata) != metadata {
            wrong.push((name, metadata));
        }
    }
    Ok(wrong)
}

fn metadata_of(connection: &Connection, name: &StreamName) -> rusqlite::Result<Option<Retention>> {
    let Some(metastream) = rows::find_stream(connection, &name.metastream())? else {
        return Ok(None);
    };
    if metastream.tombstoned {
        return Ok(Some(Retention::default()));
    }
    let event = metastream
        .last
        .map(|last| rows::event_at_revision(connection, metastream.id, last))
        .transpose()?
        .flatten();
    Ok(event.map(|event| Retention::of(event.is_json, &event.data)))
}
