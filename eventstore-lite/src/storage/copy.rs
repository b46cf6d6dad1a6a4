//! Backups: writes the database to one file beside a running server, and restores it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use tempfile::NamedTempFile;

use super::copy_folder::CopyFolder;
use super::folder::{Folder, flush_entries};
use super::migrations::MIGRATIONS;
use super::unusable::Unusable;
use super::{integrity, migrations, schema};

/// Writes a snapshot of the database in `folder` to `file` and flushes it to disk.
///
/// # Errors
/// If `file` exists and `replace` is false. After any error `file` is unchanged.
pub(crate) fn backup(folder: &Path, file: &Path, replace: bool) -> Result<()> {
    let source = schema::inspect_folder(folder)
        .with_context(|| format!("opening the database in {}", folder.display()))?;
    let target = std::path::absolute(file)?;
    let parent = target.parent().context("the backup must be a file")?;
    let place = CopyFolder::make(parent)?;
    let copy = copy_into(&source, &place)?;
    if replace {
        copy.persist(&target)?;
    } else {
        let kept = copy.persist_noclobber(&target);
        kept.with_context(|| format!("{} was not written", file.display()))?;
    }
    flush_entries(&[parent.to_owned()])
}

/// Replaces the database in `folder` with a backup of this layout or an older one. Returns the findings in derived
/// data of the backup.
///
/// # Errors
/// If the backup is damaged, if a server uses the folder, or if the folder has a database and `replace` is false.
/// After each of these errors the folder is unchanged.
pub(crate) fn restore(file: &Path, folder: &Path, replace: bool) -> Result<Vec<String>> {
    let source = schema::inspect(file);
    let source = source.with_context(|| format!("opening the backup {}", file.display()))?;
    let taken = Folder::take(folder)?;
    let (database, restored) = (schema::file(folder), schema::restored_file(folder));
    if database.exists() && !restored.exists() && !replace {
        bail!(
            "{} exists: use another folder, or delete it with `--replace`",
            database.display()
        );
    }
    let place = CopyFolder::make(folder)?;
    let copy = copy_into(&source, &place)?;
    let findings = bring_up_to_date(copy.path())
        .with_context(|| format!("checking the backup {}", file.display()))?;
    copy.as_file().sync_all().context("flushing the copy")?;
    // From here on the restored database is the valid one. If this process is interrupted, the next restore or start
    // finishes the work.
    copy.persist(&restored)?;
    taken.flush_entries()?;
    finish_restore(&taken, folder)?;
    Ok(findings)
}

/// Renames the database that a restore has put into `folder`, if that is still to be done.
pub(super) fn finish_restore(taken: &Folder, folder: &Path) -> Result<()> {
    let (database, restored) = (schema::file(folder), schema::restored_file(folder));
    if !restored.exists() {
        return Ok(());
    }
    // The write-ahead log of the old database must never be applied to the restored one.
    for beside in ["-wal", "-shm"] {
        let mut name = database.clone().into_os_string();
        name.push(beside);
        remove(Path::new(&name))?;
    }
    taken.flush_entries()?;
    std::fs::rename(&restored, &database).context("naming the restored database")?;
    taken.flush_entries()
}

fn bring_up_to_date(copy: &Path) -> Result<Vec<String>, Unusable> {
    let mut connection = Connection::open(copy)?;
    migrations::migrate(&mut connection, MIGRATIONS)?;
    integrity::check_and_mend(&connection)
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", file.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Copies the database into one file that is on disk and is complete without other files.
fn copy_into(source: &Connection, place: &CopyFolder) -> Result<NamedTempFile> {
    let file = place.file().context("creating a file for the copy")?;
    let mut copy = Connection::open(file.path())?;
    // The whole file is flushed below.
    copy.pragma_update(None, "synchronous", "OFF")?;
    // A single step sees one state of the database, and concurrent writes do not make it start again.
    let step = Backup::new(source, &mut copy)?.step(-1)?;
    if step != StepResult::Done {
        bail!("the database is busy: {step:?}");
    }
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    copy.close().map_err(|(_, error)| error)?;
    file.as_file().sync_all().context("flushing the copy")?;
    Ok(file)
}
