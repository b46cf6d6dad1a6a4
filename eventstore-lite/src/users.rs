//! The users of a server, with their roles and the hashes of their passwords.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;

use crate::private_file;

/// What a user may do. Each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read, write and delete streams whose names do not begin with `$`, and consume persistent subscriptions.
    User,
    /// Scavenge, stop the server, and manage persistent subscriptions.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "user" => Some(Self::User),
            "ops" => Some(Self::Operator),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }
}

/// Users by name.
#[derive(Clone, Default)]
pub struct Users(BTreeMap<String, User>);

#[derive(Clone)]
pub(crate) struct User {
    pub(crate) role: Role,
    pub(crate) secret: Secret,
}

#[derive(Clone)]
pub(crate) enum Secret {
    Password(String),
    Hash(Box<PasswordHash>),
}

impl Users {
    /// Reads a file with a user per line, `name:role:hash`. The role is `admin`, `ops` or `user`. The hash is an
    /// Argon2 hash in PHC form, as [`hash_password`] makes it. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// If the file cannot be read, if others than its owner and group may read it, or if a line is invalid. The error
    /// names the line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = private_file::read(path)?;
        let mut users = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                users
                    .read_line(line)
                    .with_context(|| format!("{}, line {}", path.display(), number + 1))?;
            }
        }
        Ok(users)
    }

    fn read_line(&mut self, line: &str) -> Result<()> {
        let mut fields = line.splitn(3, ':');
        let (Some(name), Some(role), Some(hash)) = (fields.next(), fields.next(), fields.next())
        else {
            bail!("the line is not name:role:hash");
        };
        let role = Role::parse(role).context("the role is not admin, ops or user")?;
        let hash = PasswordHash::new(hash).map_err(|_| {
            anyhow!("the hash is not one that `eventstore-lite hash-password` prints")
        })?;
        ensure!(
            hash.algorithm.as_str().starts_with("argon2"),
            "the hash was not made by Argon2"
        );
        self.insert(name, role, Secret::Hash(Box::new(hash)))
    }

    /// Adds a user with a password.
    ///
    /// # Errors
    /// If the user already exists, or the name is empty or contains a colon.
    pub fn add(&mut self, name: &str, role: Role, password: &str) -> Result<()> {
        self.insert(name, role, Secret::Password(password.to_owned()))
    }

    fn insert(&mut self, name: &str, role: Role, secret: Secret) -> Result<()> {
        ensure!(
            !name.is_empty() && !name.contains(':'),
            "the name of a user must not be empty or contain a colon"
        );
        let replaced = self.0.insert(name.to_owned(), User { role, secret });
        ensure!(replaced.is_none(), "the user `{name}` exists twice");
        Ok(())
    }

    /// Whether there are no users.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = (String, User)> {
        self.0.into_iter()
    }
}

/// Omits names and secrets.
impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Users({})", self.0.len())
    }
}

/// Hashes a password for a file of users: Argon2id with a random salt, in PHC form.
///
/// # Errors
/// If the password is empty, or the system has no random numbers.
pub fn hash_password(password: &str) -> Result<String> {
    ensure!(!password.is_empty(), "the password is empty");
    let hash: PasswordHash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|error| anyhow!("hashing the password: {error}"))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Reads a file that only its owner may read, as `tempfile` creates it.
    fn read(text: &str) -> Result<Users> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Users::read(file.path())
    }

    #[test]
    fn a_file_has_one_user_per_line() {
        let hash = hash_password("secret").unwrap();
        let users = read(&format!("# people\n\nada:admin:{hash}\nbob:user:{hash}\n")).unwrap();
        let roles: Vec<_> = users
            .into_iter()
            .map(|(name, user)| (name, user.role))
            .collect();
        assert_eq!(
            roles,
            [
                ("ada".to_owned(), Role::Admin),
                ("bob".to_owned(), Role::User)
            ]
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        let hash = hash_password("secret").unwrap();
        for bad in [
            "ada".to_owned(),
            format!("ada:king:{hash}"),
            "ada:admin:secret".to_owned(),
            format!(":admin:{hash}"),
            format!("bob:user:{hash}"),
        ] {
            let error = read(&format!("bob:user:{hash}\n{bad}\n")).err().unwrap();
            assert!(format!("{error:#}").contains("line 2"), "{error:#}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut users = Users::default();
        users.add("ada", Role::User, "secret").unwrap();
        assert_eq!(format!("{users:?}"), "Users(1)");
    }
}
