//! Folders in which copies of the database are written. A process that is killed leaves its folder behind. The next
//! process that makes a copy here, and a server that starts here, removes it.
//!
//! Invariant: a folder is not removed while its copy is being written.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::{Builder, NamedTempFile, TempDir};

const PREFIX: &str = ".copy-";
/// This file is locked while the copy is being written. The copy itself cannot be locked, because SQLite has locks of
/// its own on it.
const LOCK: &str = "eventstore-lite.lock";

/// A temporary folder beside the target of a copy, so that the finished copy can be renamed. Dropping it removes it.
pub(super) struct CopyFolder {
    // The fields are dropped in this order.
    folder: TempDir,
    _lock: File,
}

impl CopyFolder {
    /// Creates the folder in `parent`, and removes leftovers of other copies there.
    pub(super) fn make(parent: &Path) -> Result<Self> {
        remove_leftovers(parent);
        let made = Builder::new().prefix(PREFIX).tempdir_in(parent);
        let folder = made.with_context(|| format!("creating a file in {}", parent.display()))?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock().context("locking the folder of the copy")?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// An empty file that only its owner can read.
    pub(super) fn file(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(self.folder.path())
    }
}

/// Removes the folders in `parent` whose copies are no longer being written, as far as possible.
pub(super) fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_folder = entry.file_type().is_ok_and(|file_type| file_type.is_dir());
        if is_folder
            && name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
            && let Err(error) = remove_unless_locked(&entry.path())
            && !is_of_others(&error)
        {
            tracing::warn!(%error, "the leftovers of an interrupted copy could not be removed");
        }
    }
}

fn remove_unless_locked(folder: &Path) -> io::Result<()> {
    match File::open(folder.join(LOCK)) {
        Ok(lock) if lock.try_lock().is_ok() => fs::remove_dir_all(folder),
        Ok(_) => Ok(()),
        // A folder without a lock is empty: its process was killed before it wrote more.
        Err(_) => fs::remove_dir(folder),
    }
}

/// The folder was removed by another process, or it does not belong to a copy.
fn is_of_others(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_in_use_and_other_files_stay() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let used = CopyFolder::make(parent.path()).unwrap();
        let copy = used.file().unwrap();
        fs::create_dir_all(at(".copy-of-mine/letters")).unwrap();
        fs::write(at(".copy-file"), "mine").unwrap();
        let cut = at(".copy-cut");
        fs::create_dir(&cut).unwrap();
        fs::write(cut.join(LOCK), "").unwrap();
        fs::write(cut.join("half"), "a half").unwrap();
        fs::create_dir(at(".copy-begun")).unwrap();
        remove_leftovers(parent.path());
        assert!(copy.path().exists());
        assert!(at(".copy-of-mine/letters").exists() && at(".copy-file").exists());
        assert!(!cut.exists() && !at(".copy-begun").exists());
        let folder = used.folder.path().to_owned();
        drop((copy, used));
        assert!(!folder.exists());
    }
}
