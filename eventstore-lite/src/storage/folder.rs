//! The folder of a database. It is created durably, and one process at a time uses it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A folder that no other process can take until `lock` is dropped or this process ends.
pub(super) struct Folder {
    pub(super) lock: File,
    /// The folder and those of its parents whose entries have changed.
    changed: Vec<PathBuf>,
}

impl Folder {
    /// Creates the folder if it is missing. Fails if another process, or another server in this process, uses it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let changed = with_changed_parents(folder)
            .with_context(|| format!("finding the folder {}", folder.display()))?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating the folder {}", folder.display()))?;
        let lock = File::create(folder.join("lock")).context("creating the lock file")?;
        lock.try_lock()
            .with_context(|| format!("{} is in use by another server", folder.display()))?;
        Ok(Self { lock, changed })
    }

    /// Flushes the entries that were created or renamed in the folder, and the entry of the folder itself.
    pub(super) fn flush_entries(&self) -> Result<()> {
        flush_entries(&self.changed)
    }
}

/// The absolute path of the folder, and its parents whose entries change when it is created. The entry of the folder
/// itself is always flushed, because the process that created it may have ended before it flushed the entry.
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

/// Flushes the entries of folders. After a power cut, a file can be found only if the entries of all folders on its
/// path are on disk.
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
            "a folder that was created before its entry was flushed"
        );
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            with_changed_parents(Path::new("not-there")).unwrap(),
            [here.join("not-there"), here],
            "a relative folder"
        );
    }
}
