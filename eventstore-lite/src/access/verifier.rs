//! Checks whether a name and a password belong together.
//!
//! A correct password is hashed once. After that, its digest under a key of this process is remembered and compared
//! in constant time. A wrong password is always hashed, also for unknown users. So an answer does not tell which part
//! was wrong, and guessing is slow.
//!
//! Invariant: however many callers guess, hashing takes at most a part of one core, and a bounded number of callers
//! wait.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use ring::hmac;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use uuid::Uuid;

use crate::users::{Role, Secret, User, Users};

/// How many passwords are hashed at once. Each takes 19 MiB, and a core for a while.
const HASHING: usize = 1;
/// How many further passwords may wait.
const WAITING: usize = 256;
/// The pause in hashing after a wrong password.
const PAUSE: Duration = Duration::from_millis(100);
/// The salt for a wrong password, if no user has a hash.
const SALT: &[u8] = b"the salt of nobody";

pub(super) struct Verifier {
    key: hmac::Key,
    users: HashMap<String, KnownUser>,
    /// The digest with which an unknown user's password is compared.
    nobody: hmac::Tag,
    decoy: Option<PasswordHash>,
    hashing: Arc<Semaphore>,
    waiting: Semaphore,
}

struct KnownUser {
    role: Role,
    hash: Option<PasswordHash>,
    /// The digest of the right password, once it is known.
    digest: OnceLock<hmac::Tag>,
}

/// Why a caller has no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unverified {
    /// The name or the password is wrong.
    Wrong,
    /// Too many passwords wait to be hashed.
    Busy,
}

impl Verifier {
    pub(super) fn new(users: Users) -> Self {
        let random = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random);
        let users: HashMap<_, _> = users
            .into_iter()
            .map(|(name, user)| (name, KnownUser::new(user, &key)))
            .collect();
        Self {
            nobody: hmac::sign(&key, Uuid::new_v4().as_bytes()),
            decoy: users.values().find_map(|user| user.hash.clone()),
            hashing: Arc::new(Semaphore::new(HASHING)),
            waiting: Semaphore::new(WAITING),
            key,
            users,
        }
    }

    /// The role of the user, if the password is theirs.
    pub(super) async fn role(&self, name: &str, password: &str) -> Result<Role, Unverified> {
        let user = self.users.get(name);
        if let Some(role) = self.remembered(user, password) {
            return Ok(role);
        }
        let waiting = self.waiting.try_acquire().map_err(|_| Unverified::Busy)?;
        let hashing = Arc::clone(&self.hashing).acquire_owned().await;
        let hashing = hashing.map_err(|_| Unverified::Busy)?;
        drop(waiting);
        // If many callers use the same password at once, only the first has it hashed.
        if let Some(role) = self.remembered(user, password) {
            return Ok(role);
        }
        let own = user.and_then(|user| user.hash.as_ref());
        let is_right = hashes_to(own.or(self.decoy.as_ref()), password, hashing).await;
        let user = user.filter(|_| is_right && own.is_some());
        let user = user.ok_or(Unverified::Wrong)?;
        let digest = hmac::sign(&self.key, password.as_bytes());
        user.digest.get_or_init(|| digest);
        Ok(user.role)
    }

    /// The role, if the password is already known to be right.
    fn remembered(&self, user: Option<&KnownUser>, password: &str) -> Option<Role> {
        let digest = user.and_then(|user| user.digest.get());
        let expected = digest.unwrap_or(&self.nobody);
        let is_right = hmac::verify(&self.key, password.as_bytes(), expected.as_ref()).is_ok();
        user.filter(|_| is_right).map(|user| user.role)
    }
}

/// Hashes the password. After a wrong one, the next caller waits for [`PAUSE`], even if this caller has gone.
async fn hashes_to(
    hash: Option<&PasswordHash>,
    password: &str,
    hashing: OwnedSemaphorePermit,
) -> bool {
    let (hash, password) = (hash.cloned(), password.to_owned());
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        let verified = tokio::task::spawn_blocking(move || is_right(hash.as_ref(), &password));
        let is_right = verified.await.unwrap_or(false);
        // A caller that has gone does not need the answer.
        answer.send(is_right).unwrap_or_default();
        if !is_right {
            tokio::time::sleep(PAUSE).await;
        }
        drop(hashing);
    });
    answered.await.unwrap_or(false)
}

/// Verifies a password. Without a hash it takes as long, and the result is `false`.
fn is_right(hash: Option<&PasswordHash>, password: &str) -> bool {
    let argon2 = Argon2::default();
    let Some(hash) = hash else {
        let mut hashed = [0; 32];
        let done = argon2.hash_password_into(password.as_bytes(), SALT, &mut hashed);
        black_box((done.is_ok(), hashed));
        return false;
    };
    argon2.verify_password(password.as_bytes(), hash).is_ok()
}

impl KnownUser {
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

    use super::*;
    use crate::users::hash_password;

    fn verifier() -> Verifier {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let hash = hash_password("of ada").unwrap();
        writeln!(file, "ada:user:{hash}").unwrap();
        let mut users = Users::read(file.path()).unwrap();
        users.add("admin", Role::Admin, "of admin").unwrap();
        Verifier::new(users)
    }

    #[tokio::test]
    async fn only_the_right_password_gives_a_role_the_first_time_and_later() {
        let verifier = verifier();
        for _ in 0..2 {
            assert_eq!(verifier.role("ada", "of ada").await, Ok(Role::User));
            assert_eq!(verifier.role("admin", "of admin").await, Ok(Role::Admin));
            for (name, password) in [
                ("ada", "of admin"),
                ("admin", "of ada"),
                ("ada", ""),
                ("eve", "of ada"),
                ("", ""),
            ] {
                assert_eq!(
                    verifier.role(name, password).await,
                    Err(Unverified::Wrong),
                    "{name} {password}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_wrong_guess_is_hashed_where_all_passwords_come_from_the_environment() {
        let mut users = Users::default();
        users.add("admin", Role::Admin, "of admin").unwrap();
        let verifier = Verifier::new(users);
        for name in ["admin", "eve"] {
            let mut guess = std::pin::pin!(verifier.role(name, "wrong"));
            assert!(
                futures::poll!(&mut guess).is_pending(),
                "{name}: the guess was not hashed"
            );
        }
        let mut right = std::pin::pin!(verifier.role("admin", "of admin"));
        assert!(
            futures::poll!(&mut right).is_ready(),
            "the right password was hashed"
        );
    }

    #[tokio::test]
    async fn a_right_password_is_hashed_once() {
        let verifier = verifier();
        verifier.role("ada", "of ada").await.unwrap();
        // From here on nothing can be hashed: a call that needs a hash waits for ever.
        let _all = verifier.hashing.acquire().await.unwrap();
        assert_eq!(verifier.role("ada", "of ada").await, Ok(Role::User));
        for name in ["ada", "eve", "admin"] {
            let wrong = std::pin::pin!(verifier.role(name, "wrong"));
            assert!(futures::poll!(wrong).is_pending(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_bounded_number_of_guesses_waits_and_others_are_told_to_try_again() {
        let verifier = verifier();
        let all = verifier.hashing.acquire().await.unwrap();
        let guess = |_| Box::pin(verifier.role("eve", "wrong"));
        let mut waiting: Vec<_> = (0..WAITING).map(guess).collect();
        for guess in &mut waiting {
            assert!(futures::poll!(guess).is_pending());
        }
        assert_eq!(verifier.role("eve", "wrong").await, Err(Unverified::Busy));
        assert_eq!(verifier.role("admin", "of admin").await, Ok(Role::Admin));
        drop((waiting, all));
        assert_eq!(verifier.role("ada", "of ada").await, Ok(Role::User));
    }

    #[tokio::test(start_paused = true)]
    async fn hashing_pauses_after_a_wrong_guess_whether_its_caller_waits_or_not() {
        let verifier = verifier();
        for waits in [true, false] {
            let began = tokio::time::Instant::now();
            if waits {
                assert_eq!(verifier.role("eve", "wrong").await, Err(Unverified::Wrong));
            } else {
                let mut guess = std::pin::pin!(verifier.role("eve", "wrong"));
                assert!(futures::poll!(&mut guess).is_pending());
            }
            drop(verifier.hashing.acquire().await);
            assert_eq!(began.elapsed(), PAUSE);
        }
    }
}
