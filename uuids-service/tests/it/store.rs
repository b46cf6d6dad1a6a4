//! A private event store, and backups of it.

use std::{fs, path::Path};

use eventstore_lite::Server;
use tempfile::TempDir;

use crate::support::until;

/// A private event store of one test; its data survives a stop.
pub(crate) struct Store {
    folder: TempDir,
    server: Option<Server>,
    config: eventstore_lite::Config,
}

impl Store {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = eventstore_lite::Config::new(folder.path());
        let server = Server::start(config.clone()).await.unwrap();
        config.address = server.address();
        Self {
            folder,
            server: Some(server),
            config,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("esdb://{}?tls=false", self.config.address)
    }

    pub(crate) async fn stop(&mut self) {
        self.server.take().unwrap().shutdown().await;
    }

    /// Copies the data. The store is away for that long.
    pub(crate) async fn back_up(&mut self) -> Backup {
        self.stop().await;
        let backup = tempfile::tempdir().unwrap();
        copy_files(self.folder.path(), backup.path());
        self.start_again().await;
        Backup(backup)
    }

    /// Replaces the data by that of the backup. The store is away for that long.
    pub(crate) async fn restore(&mut self, Backup(backup): &Backup) {
        self.stop().await;
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        copy_files(backup.path(), self.folder.path());
        self.start_again().await;
    }

    pub(crate) async fn start_again(&mut self) {
        let server = until("the address of the store is free again", || async {
            Server::start(self.config.clone()).await.ok()
        });
        self.server = Some(server.await);
    }
}

/// A copy of the data of a store at one moment.
pub(crate) struct Backup(TempDir);

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&copy).unwrap();
            copy_files(&path, &copy);
        } else {
            fs::copy(path, copy).unwrap();
        }
    }
}
