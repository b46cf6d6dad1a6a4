//! The layers below the server: flushes of the disk, and bare SQLite with the same durability.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rusqlite::Connection;

use crate::appends::EVENT_BYTES;
use crate::figures::{Figures, float, histogram};
use crate::report::Report;

const BLOCK: [u8; 4096] = [7; 4096];
/// The size of the file that is written before the measurement.
const PREALLOCATED: u64 = 64 * 1024 * 1024;

pub(crate) fn measure(folder: &Path, length: Duration, report: &mut Report) -> Result<()> {
    let mut growing = File::create(folder.join("growing"))?;
    report.add(
        "disk: append 4 KiB, flush",
        1,
        repeat(length, || append(&mut growing)),
    );
    let mut file = File::create(folder.join("preallocated"))?;
    for _ in 0..PREALLOCATED / 4096 {
        file.write_all(&BLOCK)?;
    }
    file.sync_all()?;
    let overwriting = repeat(length, || overwrite(&mut file));
    report.add("disk: overwrite 4 KiB, flush", 1, overwriting);
    for group in [1, 16, 64] {
        let connection = database(&folder.join(format!("bare-{group}.db")))?;
        let figures = repeat(length, || insert(&connection, group));
        report.add("bare SQLite: insert, in groups", group, figures);
    }
    Ok(())
}

fn append(file: &mut File) -> Result<u64> {
    file.write_all(&BLOCK)?;
    file.sync_data()?;
    Ok(1)
}

fn overwrite(file: &mut File) -> Result<u64> {
    if file.stream_position()? >= PREALLOCATED {
        file.seek(SeekFrom::Start(0))?;
    }
    append(file)
}

/// A database with a table like the server's events: an ascending key and one unique index.
fn database(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    ensure!(mode == "wal", "the journal mode is {mode}");
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE events (position INTEGER PRIMARY KEY, stream INTEGER NOT NULL, revision INTEGER NOT NULL,
             id BLOB NOT NULL, type TEXT NOT NULL, data BLOB NOT NULL) STRICT;
         CREATE UNIQUE INDEX events_by_revision ON events (stream, revision);",
    )?;
    Ok(connection)
}

fn insert(connection: &Connection, group: usize) -> Result<u64> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO events (stream, revision, id, type, data)
         VALUES (?1, (SELECT coalesce(max(revision), -1) + 1 FROM events WHERE stream = ?1), ?2, 'measured', ?3)",
    )?;
    for stream in 0..group {
        let id = uuid::Uuid::new_v4();
        statement.execute((i64::try_from(stream)?, id.as_bytes(), [7; EVENT_BYTES]))?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(u64::try_from(group)?)
}

/// Repeats the operation for this long. The operation returns its number of events.
fn repeat(length: Duration, mut operation: impl FnMut() -> Result<u64>) -> Result<Figures> {
    let (mut count, mut latency) = (0, histogram()?);
    let began = Instant::now();
    while began.elapsed() < length {
        let started = Instant::now();
        count += operation()?;
        latency.record(u64::try_from(started.elapsed().as_nanos())?)?;
    }
    Ok(Figures {
        rate: float(count) / began.elapsed().as_secs_f64(),
        latency,
        client: 0.0,
        server: 0.0,
    })
}
