//! The folder of a database: made durably, and used by one process at a time.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A folder that nobody else can take until `lock` is dropped, or this process ends.
pub(super) struct Folder {
    pub(super) lock: File,
    /// Itself and the folders above it, as far as their entries have changed.
    changed: Vec<PathBuf>,
}

impl Folder {
    /// Makes the folder if it is missing; fails if another process, or another server in this one, uses it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let changed = with_changed_parents(folder)
            .with_context(|| format!("finding the folder {}", folder.display()))?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("making the folder {}", folder.display()))?;
        let lock = File::create(folder.join("lock")).context("creating the lock file")?;
        lock.try_lock()
            .with_context(|| format!("{} is in use by another server", folder.display()))?;
        Ok(Self { lock, changed })
    }

    /// Flushes what was made or renamed in the folder, and the folder itself.
    pub(super) fn flush_entries(&self) -> Result<()> {
        flush_entries(&self.changed)
    }
}

/// The folder, absolute, and those above it whose entries change when it is made. Its own entry is flushed in
/// any case: the process that made it may have ended before that.
fn with_changed_parents(folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = std::path::absolute(folder)?;
    let missing = folder.ancestors().take_while(|folder| !folder.is_dir());
    let changed = 1 + missing.count().max(1);
    Ok(folder
        .ancestors()
        .take(changed)
        .map(Path::to_owned)
        .collect())
}

/// A file that is on disk can be found after a power cut only if the entries of all folders on the way are too.
pub(super) fn flush_entries(folders: &[PathBuf]) -> Result<()> {
    for folder in folders {
        let flushed = File::open(folder).and_then(|folder| folder.sync_all());
        flushed.with_context(|| format!("flushing the folder {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_whose_entries_change_is_flushed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let root = folder.path().to_owned();
        assert_eq!(
            with_changed_parents(&at("a/b/c")).unwrap(),
            [at("a/b/c"), at("a/b"), at("a"), root.clone()]
        );
        std::fs::create_dir(at("a")).unwrap();
        assert_eq!(
            with_changed_parents(&at("a")).unwrap(),
            [at("a"), root],
            "a folder that was made before its entry was flushed"
        );
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            with_changed_parents(Path::new("not-there")).unwrap(),
            [here.join("not-there"), here],
            "a relative folder"
        );
    }
}
