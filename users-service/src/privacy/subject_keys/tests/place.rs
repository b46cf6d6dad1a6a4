//! Places for stores under test, and the search through their files.

use super::super::{Databases, MasterKey, SubjectKeys};
use private_postgres::PrivatePostgres;
use sqlx::AnyPool;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A place for a store, with all files that the database has.
pub(super) struct Place {
    pub(super) databases: Databases,
    files: PathBuf,
    /// The part of the URL that names the database.
    database: String,
    _folder: Option<TempDir>,
}

impl Place {
    /// A folder for SQLite files.
    pub(super) fn folder() -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            databases: Databases::Folder(folder.path().to_owned()),
            files: folder.path().to_owned(),
            database: String::new(),
            _folder: Some(folder),
        }
    }

    /// A new database of the server that the tests share.
    pub(super) async fn database() -> Self {
        Self::of(PrivatePostgres::shared().await).await
    }

    /// A new database of this server.
    pub(super) async fn of(server: &PrivatePostgres) -> Self {
        let url = server.database().await;
        Self {
            database: url.rsplit('/').next().unwrap().to_owned(),
            databases: Databases::Postgres(url),
            files: server.folder().to_owned(),
            _folder: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.database
    }

    /// Makes the database write what it may copy of its rows: pages, their images in the log, and statistics.
    pub(super) async fn make_copies(&self, keys: &SubjectKeys) {
        if let Databases::Postgres(_) = self.databases {
            for statement in ["CHECKPOINT", "VACUUM FREEZE ANALYZE keys", "CHECKPOINT"] {
                let executed = sqlx::raw_sql(statement).execute(pool(keys).await);
                executed.await.unwrap();
            }
        }
    }
}

pub(super) fn master(byte: &str) -> MasterKey {
    byte.repeat(32).parse().unwrap()
}

pub(super) async fn open(place: &Place) -> SubjectKeys {
    let opened = SubjectKeys::open(&place.databases, master("0a")).await;
    opened.unwrap()
}

pub(super) async fn pool(keys: &SubjectKeys) -> &AnyPool {
    keys.0.database.get().await.unwrap().pool()
}

/// Whether any file has the bytes, or their hexadecimal digits. The server deletes files meanwhile.
pub(super) fn is_in_a_file(place: &Place, needle: &[u8]) -> bool {
    let digits = hex::encode(needle).into_bytes();
    files(&place.files).iter().any(|file| {
        let bytes = std::fs::read(file).unwrap_or_default();
        contains(&bytes, needle) || contains(&bytes, &digits)
    })
}

fn contains(mut bytes: &[u8], needle: &[u8]) -> bool {
    while let Some(first) = bytes.iter().position(|byte| *byte == needle[0]) {
        bytes = &bytes[first..];
        if bytes.starts_with(needle) {
            return true;
        }
        bytes = &bytes[1..];
    }
    false
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let all = paths.flat_map(|path| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    });
    all.collect()
}
