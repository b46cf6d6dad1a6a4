//! Whether the database is what this program writes.
//!
//! The same checks look at the end of the log, whenever a server starts and at a cost that does not depend on
//! how much is stored, or at all of it. After a crash damage is to be expected at the end, if anywhere: all
//! else was on disk before.
//!
//! Scavenges and retention remove the oldest events of a stream. So a gap between two events is damage, unless the
//! stream has a `$maxAge` and events that were not created in their order; and a missing beginning is unless the
//! stream has, or had, metadata or a tombstone to explain it.
//!
//! What is derived from the events (limits, links, indexes) may disagree with them. That is told and, as far as
//! possible, put right; it is no reason to keep a database from being used.

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

/// How many events the end of the log has.
const END: usize = 256;
/// The most findings of one check.
const MOST_FINDINGS: usize = 20;

/// What is checked: which rows are `some_events`, `some_streams` and `some_links` in [`CHECKS`]. All links are
/// looked at, or none: those of the end have no index. A stream is `gone` when it,
/// or the stream that it is the metadata of, has a tombstone: a scavenge leaves nothing else of it.
#[derive(Clone, Copy, Debug)]
enum Scope {
    End,
    Everything,
}

/// The name of the stream that `s` is the metadata of. For most functions of SQLite a text ends with its first NUL.
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

/// What is wrong, each in a sentence.
#[derive(Debug, Default)]
struct Findings {
    /// Of the events.
    log: Vec<String>,
    /// Of what is derived from them.
    derived: Vec<String>,
}

/// Each yields one text a finding, of the events.
const CHECKS: &[&str] = &[
    "SELECT 'the log has ' || count(*) || ' heads, not one' FROM log HAVING count(*) <> 1",
    "SELECT 'the last event is at ' || max(position) || ', beyond the head at ' || head
     FROM log, (SELECT position FROM events ORDER BY position DESC LIMIT 1)
     HAVING max(position) > head",
    "SELECT 'the event at ' || position || ' is at no boundary' FROM some_events
     WHERE position <= 0 OR position % {stride} <> 0",
    "SELECT 'the event at ' || position || ' has an id of ' || length(id) || ' bytes' FROM some_events
     WHERE length(id) <> 16",
    "SELECT 'the event at ' || position || ' is of no stream' FROM some_events e
     WHERE NOT EXISTS (SELECT 1 FROM streams s WHERE s.id = e.stream)",
    "SELECT 'the event at ' || position || ' is missing in an index' FROM some_events e
     WHERE NOT EXISTS (SELECT 1 FROM events i INDEXED BY events_by_revision
         WHERE i.stream = e.stream AND i.revision = e.revision AND i.position = e.position)",
    "SELECT 'revision ' || revision || ' of stream ' || name || ' is not preceded by its neighbour'
     FROM some_events e JOIN streams s ON s.id = e.stream
     WHERE revision BETWEEN 1 AND {tombstone} - 1 AND NOT (disordered AND has_metadata)
     AND NOT EXISTS (SELECT 1 FROM events p WHERE p.stream = e.stream AND p.revision = e.revision - 1)
     AND NOT EXISTS (SELECT 1 FROM links p WHERE p.stream = e.stream AND p.revision = e.revision - 1)
     AND EXISTS (SELECT 1 FROM events p WHERE p.stream = e.stream AND p.revision < e.revision)",
    "SELECT 'revision ' || revision || ' of stream ' || name || ' is not after its predecessor in the log'
     FROM some_events e JOIN streams s ON s.id = e.stream
     WHERE revision > 0 AND position <
         (SELECT p.position FROM events p WHERE p.stream = e.stream AND p.revision = e.revision - 1)",
    "SELECT 'stream ' || name || ' has no beginning, and nothing that explains it' FROM some_streams s
     WHERE NOT tombstoned AND NOT has_metadata AND name NOT GLOB '$$*' AND last IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM events e WHERE e.stream = s.id AND e.revision = 0)
     AND NOT EXISTS (SELECT 1 FROM links l WHERE l.stream = s.id AND l.revision = 0)",
    "SELECT 'stream ' || name || ' ends with revision ' || coalesce(max(e.revision), 'none') ||
         ', and is said to end with ' || coalesce(last, 'none')
     FROM some_streams s LEFT JOIN events e ON e.position =
         (SELECT l.position FROM events l WHERE l.stream = s.id AND l.revision < {tombstone}
          ORDER BY l.revision DESC LIMIT 1)
     WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.stream = s.id)
     GROUP BY s.id HAVING max(e.revision) IS NOT last AND (max(e.revision) IS NOT NULL OR NOT gone)",
    "SELECT 'the tombstone of stream ' || name || ' and its mark do not agree' FROM some_streams s
     WHERE tombstoned <> EXISTS (SELECT 1 FROM events e WHERE e.stream = s.id AND e.revision = {tombstone})",
];

/// As [`CHECKS`], of what is derived from the events.
const DERIVED: &[&str] = &[
    "SELECT 'stream ' || name || ' ends with a link or revision ' || found || ', and is said to end with ' ||
         coalesce(last, 'none')
     FROM (SELECT name, last, max(
             (SELECT l.revision FROM links l WHERE l.stream = s.id ORDER BY l.revision DESC LIMIT 1),
             coalesce((SELECT e.revision FROM events e WHERE e.stream = s.id AND e.revision < {tombstone}
                 ORDER BY e.revision DESC LIMIT 1), 0)) AS found FROM some_streams s)
     WHERE found IS NOT NULL AND found IS NOT last",
    "SELECT 'link ' || revision || ' of stream ' || stream || ' is beyond the head, or of or to no stream'
     FROM some_links l WHERE position > (SELECT max(linked) FROM log)
     OR NOT EXISTS (SELECT 1 FROM streams s WHERE s.id = l.stream)
     OR NOT EXISTS (SELECT 1 FROM streams s WHERE s.id = l.target)",
    "SELECT 'link ' || revision || ' of stream ' || name || ' is not preceded by its neighbour'
     FROM some_links l JOIN streams s ON s.id = l.stream
     WHERE revision > 0 AND NOT has_metadata
     AND NOT EXISTS (SELECT 1 FROM links p WHERE p.stream = l.stream AND p.revision = l.revision - 1)
     AND NOT EXISTS (SELECT 1 FROM events p WHERE p.stream = l.stream AND p.revision = l.revision - 1)",
];

/// Looks at the end of the log before a server uses it, and puts right what is derived from it.
pub(super) fn check_end(connection: &Connection) -> Result<(), Unusable> {
    let Findings { log, derived } = check(connection, Scope::End)?;
    ensure_sound(log)?;
    for finding in &derived {
        tracing::error!(
            finding,
            "what is derived from the log does not agree with it"
        );
    }
    if !derived.is_empty() {
        mend::limits(connection, Scope::End)?;
    }
    Ok(())
}

/// Looks at everything, puts right what is derived from the events, as far as possible, and returns what was wrong
/// with that.
pub(super) fn check_and_mend(connection: &Connection) -> Result<Vec<String>, Unusable> {
    let mut findings = find_all(connection)?;
    if !findings.log.is_empty() {
        findings = mend::indexes(connection, findings)?;
    }
    ensure_sound(findings.log)?;
    mend::limits(connection, Scope::Everything)?;
    Ok(findings.derived)
}

/// All that is wrong with the database in `folder`; a server may run beside it.
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

/// What SQLite can say of its file, and whether the content makes sense.
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

/// That SQLite finds its file damaged while it looks is a finding; another error is a failure to look.
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
        format!("stream {name} is not limited as its metadata says")
    };
    Ok(wrong.map(finding).collect())
}

/// The limits in a stream's row are those of its metastream's last event: streams of which that is not true, and what
/// their metadata says.
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
