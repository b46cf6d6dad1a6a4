//! Whether a name and a password belong together.
//!
//! A password is hashed once: afterwards its digest under a key of this process is remembered, and compared in constant
//! time. What is wrong is always hashed, of unknown users too, so that an answer tells nobody which part was wrong, and
//! guessing is slow.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use ring::hmac;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::users::{Role, Secret, User, Users};

/// How many passwords are hashed at once: each takes 19 MiB and a core for a while.
const HASHING: usize = 1;

pub(super) struct Verifier {
    key: hmac::Key,
    users: HashMap<String, Known>,
    /// What an unknown user's password is compared with.
    nobody: hmac::Tag,
    decoy: Option<PasswordHash>,
    hashing: Arc<Semaphore>,
}

struct Known {
    role: Role,
    hash: Option<PasswordHash>,
    /// Of the right password, once it is known.
    digest: OnceLock<hmac::Tag>,
}

impl Verifier {
    pub(super) fn new(users: Users) -> Self {
        let random = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random);
        let users: HashMap<_, _> = users
            .into_iter()
            .map(|(name, user)| (name, Known::new(user, &key)))
            .collect();
        Self {
            nobody: hmac::sign(&key, Uuid::new_v4().as_bytes()),
            decoy: users.values().find_map(|known| known.hash.clone()),
            hashing: Arc::new(Semaphore::new(HASHING)),
            key,
            users,
        }
    }

    /// The role of the user, if the password is theirs.
    pub(super) async fn role(&self, name: &str, password: &str) -> Option<Role> {
        let known = self.users.get(name);
        let digest = known.and_then(|known| known.digest.get());
        let expected = digest.unwrap_or(&self.nobody);
        if hmac::verify(&self.key, password.as_bytes(), expected.as_ref()).is_ok() {
            return known.map(|known| known.role);
        }
        let hash = known.and_then(|known| known.hash.as_ref());
        let is_right = self.hashes_to(hash.or(self.decoy.as_ref()), password).await;
        let known = known.filter(|known| is_right && known.hash.is_some())?;
        let digest = hmac::sign(&self.key, password.as_bytes());
        known.digest.get_or_init(|| digest);
        Some(known.role)
    }

    async fn hashes_to(&self, hash: Option<&PasswordHash>, password: &str) -> bool {
        let (Some(hash), Ok(permit)) = (
            hash.cloned(),
            Arc::clone(&self.hashing).acquire_owned().await,
        ) else {
            return false;
        };
        let password = password.to_owned();
        let verified = tokio::task::spawn_blocking(move || {
            // Of the work and not of its caller, who may be gone while it goes on.
            let _permit = permit;
            Argon2::default().verify_password(password.as_bytes(), &hash)
        });
        matches!(verified.await, Ok(Ok(())))
    }
}

impl Known {
    fn new(user: User, key: &hmac::Key) -> Self {
        let (hash, digest) = match user.secret {
            Secret::Password(password) => (None, Some(hmac::sign(key, password.as_bytes()))),
            Secret::Hash(hash) => (Some(*hash), None),
        };
        Self {
            role: user.role,
            hash,
            digest: digest.map_or_else(OnceLock::new, OnceLock::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::users::hash_password;
    use super::*;

    fn verifier() -> Verifier {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let hash = hash_password("of ada").unwrap();
        writeln!(file, "ada:user:{hash}").unwrap();
        let mut users = Users::read(file.path()).unwrap();
        users.add("admin", Role::Admin, "of admin").unwrap();
        Verifier::new(users)
    }

    #[tokio::test]
    async fn only_the_right_password_has_a_role_the_first_time_and_later() {
        let verifier = verifier();
        for _ in 0..2 {
            assert_eq!(verifier.role("ada", "of ada").await, Some(Role::User));
            assert_eq!(verifier.role("admin", "of admin").await, Some(Role::Admin));
            for (name, password) in [
                ("ada", "of admin"),
                ("admin", "of ada"),
                ("ada", ""),
                ("eve", "of ada"),
                ("", ""),
            ] {
                assert_eq!(
                    verifier.role(name, password).await,
                    None,
                    "{name} {password}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_right_password_is_hashed_once() {
        let verifier = verifier();
        verifier.role("ada", "of ada").await;
        // From here on nothing can be hashed: who needs it waits for ever.
        let _all = verifier.hashing.acquire().await.unwrap();
        assert_eq!(verifier.role("ada", "of ada").await, Some(Role::User));
        for name in ["ada", "eve", "admin"] {
            let wrong = std::pin::pin!(verifier.role(name, "wrong"));
            assert!(futures::poll!(wrong).is_pending(), "{name}");
        }
    }
}
