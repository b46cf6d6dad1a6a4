//! Folders in which copies of the database are made. A process that is killed leaves its folder behind; the next that
//! makes a copy at this place, and a server that starts here, removes it.
//!
//! Invariant: a folder whose copy is still being made is not removed.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::{Builder, NamedTempFile, TempDir};

const PREFIX: &str = ".copy-";
/// Locked while the copy is being made. The copy itself cannot be: SQLite has locks of its own there.
const LOCK: &str = "eventstore-lite.lock";

/// A place for a copy beside what it is to become, so that it can be renamed. It goes when this is dropped.
pub(super) struct CopyFolder {
    // Dropped in this order.
    folder: TempDir,
    _lock: File,
}

impl CopyFolder {
    /// Makes it in `parent`, after removing what is left of others there.
    pub(super) fn make(parent: &Path) -> Result<Self> {
        remove_leftovers(parent);
        let made = Builder::new().prefix(PREFIX).tempdir_in(parent);
        let folder = made.with_context(|| format!("making a file in {}", parent.display()))?;
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

/// Removes the folders of copies in `parent` that nobody makes any more, as far as that is possible.
pub(super) fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_folder = entry.file_type().is_ok_and(|file_type| file_type.is_dir());
        if is_folder
            && name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
            && let Err(error) = remove_unless_locked(&entry.path())
            && !is_of_others(&error)
        {
            tracing::warn!(%error, "what is left of a copy that was cut could not be removed");
        }
    }
}

fn remove_unless_locked(folder: &Path) -> io::Result<()> {
    match File::open(folder.join(LOCK)) {
        Ok(lock) if lock.try_lock().is_ok() => fs::remove_dir_all(folder),
        Ok(_) => Ok(()),
        // Without a lock it is empty: nobody has had the time to make more.
        Err(_) => fs::remove_dir(folder),
    }
}

/// Somebody else has removed it, or it is no folder of a copy.
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
    fn what_others_make_and_what_is_no_copy_stays() {
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
