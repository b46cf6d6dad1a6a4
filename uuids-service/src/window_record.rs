//! The file in which a machine records its windows, so that it notices when the event store was restored from an older
//! backup.
//!
//! Invariant: a window is in the file, durably, before an id of it is issued. The processes of one machine may share the
//! file.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `{"until_ms":359884879999,"worker":5,"revision":7,"event":"…"}`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WindowRecord {
    /// The end of the window that reaches furthest, of all windows of this machine.
    pub(crate) until_ms: u64,
    /// The worker number of the last window.
    pub(crate) worker: u16,
    /// The revision of its event.
    pub(crate) revision: u64,
    /// The id of its event.
    pub(crate) event: Uuid,
}

/// The file `last-window.json` in the data folder.
#[derive(Debug, Clone)]
pub(crate) struct RecordFile {
    folder: PathBuf,
}

impl RecordFile {
    /// Creates the folder if it is missing.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let folder = folder.to_owned();
        Ok(Self { folder })
    }

    /// The record, or `None` on a machine that never had a window. A file that cannot be read is an error, because nobody
    /// can tell what it said.
    pub(crate) fn read(&self) -> anyhow::Result<Option<WindowRecord>> {
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let record = serde_json::from_slice(&text);
        record
            .map(Some)
            .with_context(|| format!("{} is not a record of windows", path.display()))
    }

    /// Replaces the record. The greatest `until_ms` stays.
    pub(crate) fn write(&self, record: WindowRecord) -> anyhow::Result<()> {
        let lock = File::create(self.folder.join("lock"))?;
        lock.try_lock()
            .context("another process writes the record")?;
        let furthest_ms = self.read()?.map_or(0, |record| record.until_ms);
        let record = WindowRecord {
            until_ms: record.until_ms.max(furthest_ms),
            ..record
        };
        let new = self.folder.join("last-window.json.new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        fs::rename(&new, self.path())?;
        // The new name is durable once the folder is.
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder.join("last-window.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(until_ms: u64, worker: u16) -> WindowRecord {
        WindowRecord {
            until_ms,
            worker,
            revision: 7,
            event: Uuid::new_v4(),
        }
    }

    #[test]
    fn the_last_window_and_the_furthest_end_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::open(&folder.path().join("new/folder")).unwrap();
        assert_eq!(file.read().unwrap(), None);
        let far = record(9_000, 1);
        file.write(far).unwrap();
        assert_eq!(file.read().unwrap(), Some(far));
        // The clock stepped back, so the next window ends earlier.
        let near = record(5_000, 2);
        file.write(near).unwrap();
        let until_ms = 9_000;
        assert_eq!(
            file.read().unwrap(),
            Some(WindowRecord { until_ms, ..near })
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::open(folder.path()).unwrap();
        for text in ["", "garbage", "{}", r#"{"until_ms":-1}"#] {
            fs::write(file.path(), text).unwrap();
            assert!(file.read().is_err(), "{text}");
            assert!(file.write(record(1, 1)).is_err(), "{text}");
            assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
        }
        fs::remove_file(file.path()).unwrap();
        fs::create_dir(file.path()).unwrap();
        assert!(file.read().is_err());
    }

    #[test]
    fn a_writer_does_not_wait_for_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::open(folder.path()).unwrap();
        let other = File::create(folder.path().join("lock")).unwrap();
        other.lock().unwrap();
        assert!(file.write(record(1, 1)).is_err());
        other.unlock().unwrap();
        file.write(record(1, 1)).unwrap();
    }
}
