//! Why a database cannot be used: its layout is unknown or old, or its file is damaged.

use std::fmt;

/// Why this program does not use a database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(
        "the database has layout version {found}, and this program knows versions up to {known}: a newer \
         eventstore-lite has written it. Nothing was changed. Start that version or a newer one, or use \
         another folder"
    )]
    Newer { found: usize, known: usize },
    #[error(
        "the database has layout version {found}, and this program works with version {known}. Start the \
         server once: it brings the database up to date"
    )]
    Older { found: usize, known: usize },
    #[error(
        "the file is an SQLite database of another program (application_id {application_id}, user_version \
         {user_version}). Nothing was changed. Use another folder"
    )]
    Foreign {
        application_id: i32,
        user_version: i32,
    },
    #[error(
        "a restore into this folder is running, or was interrupted. If none is running, run it again or start the \
         server: both finish the restore"
    )]
    Restoring,
    #[error(transparent)]
    Damaged(Damage),
    #[error(transparent)]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) {
            Self::Damaged(Damage(vec![error.to_string()]))
        } else {
            Self::Sqlite(error)
        }
    }
}

/// The findings, one sentence each.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Damage(pub(crate) Vec<String>);

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the database is damaged: {}. `eventstore-lite verify` looks for all damage, `eventstore-lite \
             restore` goes back to a backup",
            self.0.join("; ")
        )
    }
}

/// Whether SQLite reports that the file is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseCorrupt | NotADatabase)
    )
}
