//! The layout of the database: its version, and the steps from every earlier version to this one.
//!
//! Invariants: A released step is never edited; a new step is added at the end. All missing steps run in one
//! transaction, so a database has its old version or the newest. A database that is newer than this program, or
//! belongs to another program, is not changed.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::unusable::Unusable;

/// `PRAGMA application_id`: "ESLT". It tells `file(1)` and SQLite tools which program owns the database.
const APPLICATION_ID: i32 = 0x4553_4C54;

/// The step at index *n* leads from version *n* to version *n* + 1. `PRAGMA user_version` holds the version. Version
/// 0 is an empty file, or a database from before versions were stored; such a database has the tables of version 1.
pub(super) const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5];

const VERSION_1: &str = "
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    head INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO log (id, head) VALUES (1, 0);
CREATE TABLE IF NOT EXISTS streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last INTEGER,
    tombstoned INTEGER NOT NULL,
    has_metadata INTEGER NOT NULL,
    max_count INTEGER,
    max_age INTEGER,
    truncate_before INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    id BLOB NOT NULL,
    created INTEGER NOT NULL,
    is_json INTEGER NOT NULL,
    type TEXT NOT NULL,
    data BLOB NOT NULL,
    metadata BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS events_by_revision ON events (stream, revision);
CREATE INDEX IF NOT EXISTS events_by_id ON events (stream, id);
";

/// `erasing`: bytes of removed events may still be in the files.
const VERSION_2: &str = "ALTER TABLE log ADD COLUMN erasing INTEGER NOT NULL DEFAULT 0";

/// The links of system streams. Each is a record of `stream` and points to the event with `target_revision` in
/// `target`. The event at `position` created it. All events up to `linked` have their links.
const VERSION_3: &str = "
ALTER TABLE log ADD COLUMN linked INTEGER NOT NULL DEFAULT 0;
CREATE TABLE links (
    stream INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    position INTEGER NOT NULL,
    target INTEGER NOT NULL,
    target_revision INTEGER NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (stream, revision)
) STRICT, WITHOUT ROWID;
";

/// `latest`: the latest `created` of all events. `disordered`: some record of the stream has an earlier `created`
/// than the record before it. In older versions no record had.
const VERSION_4: &str = "
ALTER TABLE log ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE streams ADD COLUMN disordered INTEGER NOT NULL DEFAULT 0;
";

/// The writer keeps the ids of recent events in memory instead.
const VERSION_5: &str = "DROP INDEX IF EXISTS events_by_id";

/// The version of the database, if this program can use it. Changes nothing.
pub(super) fn version(connection: &Connection, known: usize) -> Result<usize, Unusable> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application_id, user_version) = (pragma("application_id")?, pragma("user_version")?);
    match (application_id, usize::try_from(user_version)) {
        (0, Ok(0)) => Ok(0),
        (APPLICATION_ID, Ok(found)) if found <= known => Ok(found),
        (APPLICATION_ID, Ok(found)) => Err(Unusable::Newer { found, known }),
        _ => Err(Unusable::Foreign {
            application_id,
            user_version,
        }),
    }
}

/// Brings the database to the newest version durably, or leaves it unchanged.
pub(super) fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), Unusable> {
    let found = version(connection, steps.len())?;
    if found == steps.len() {
        return Ok(());
    }
    if found > 0 {
        tracing::info!(from = found, to = steps.len(), "migrating the database");
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    apply(&transaction, found, steps)?;
    Ok(transaction.commit()?)
}

fn apply(transaction: &Transaction<'_>, from: usize, steps: &[&str]) -> rusqlite::Result<()> {
    for step in &steps[from..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", steps.len().cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[&str] = &[
        "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1), (2)",
        "CREATE TABLE b (x INTEGER); INSERT INTO b SELECT x * 10 FROM a",
        "ALTER TABLE b ADD COLUMN y INTEGER NOT NULL DEFAULT 7",
    ];

    fn database(steps: &[&str]) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, steps).unwrap();
        connection
    }

    fn sum(connection: &Connection) -> i64 {
        let sum = connection.query_row("SELECT sum(x + y) FROM b", [], |row| row.get(0));
        sum.unwrap()
    }

    #[test]
    fn every_version_becomes_the_newest_and_keeps_its_data() {
        for version in 0..=STEPS.len() {
            let mut connection = database(&STEPS[..version]);
            migrate(&mut connection, STEPS).unwrap();
            assert_eq!(super::version(&connection, STEPS.len()).unwrap(), 3);
            assert_eq!(sum(&connection), 44, "from version {version}");
        }
    }

    #[test]
    fn a_failed_migration_leaves_the_old_version() {
        let mut connection = database(&STEPS[..1]);
        let broken = [STEPS[0], STEPS[1], "INSERT INTO missing VALUES (1)"];
        migrate(&mut connection, &broken).unwrap_err();
        assert_eq!(version(&connection, 3).unwrap(), 1);
        assert!(!connection.table_exists(None, "b").unwrap());
        migrate(&mut connection, STEPS).unwrap();
        assert_eq!(sum(&connection), 44);
    }

    #[test]
    fn a_migration_cut_by_a_power_failure_leaves_the_old_version() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut connection = Connection::open(at("a")).unwrap();
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .unwrap();
        migrate(&mut connection, &STEPS[..1]).unwrap();
        let copy_to = |name: &str| {
            std::fs::copy(at("a"), at(name)).unwrap();
            std::fs::copy(at("a-wal"), at(&format!("{name}-wal"))).unwrap();
            Connection::open(at(name)).unwrap()
        };
        let transaction = connection.transaction().unwrap();
        apply(&transaction, 1, STEPS).unwrap();
        let mut cut = copy_to("cut");
        transaction.commit().unwrap();
        let whole = copy_to("whole");
        assert_eq!(version(&cut, 3).unwrap(), 1);
        assert_eq!(version(&whole, 3).unwrap(), 3, "the control");
        migrate(&mut cut, STEPS).unwrap();
        assert_eq!(sum(&cut), sum(&whole));
    }

    #[test]
    fn a_newer_database_is_refused_with_both_versions() {
        let mut connection = database(STEPS);
        let refused = migrate(&mut connection, &STEPS[..2])
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("version 3") && refused.contains("up to 2"),
            "{refused}"
        );
        assert_eq!(sum(&connection), 44);
    }

    #[test]
    fn the_database_of_another_program_is_refused() {
        for (application_id, user_version) in [(5, 0), (5, 1), (0, 1), (APPLICATION_ID, -1)] {
            let mut connection = Connection::open_in_memory().unwrap();
            connection
                .pragma_update(None, "application_id", application_id)
                .unwrap();
            connection
                .pragma_update(None, "user_version", user_version)
                .unwrap();
            let refused = migrate(&mut connection, STEPS).unwrap_err();
            assert!(matches!(refused, Unusable::Foreign { .. }), "{refused}");
            assert!(!connection.table_exists(None, "a").unwrap());
        }
    }
}
