//! A few usernames, the users who compete for them, and what was sent about them. No other world uses these names, so the
//! history of each world is explained by itself.

use super::history::{Sent, Wish};
use super::model::{Names, Text};
use rand::RngExt;
use rand::rngs::StdRng;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use system_tests::client::Answer;
use system_tests::unique;

/// The number of names that users compete for.
const NAMES: usize = 3;
/// Commands mostly concern one of so many users that were seen last.
const RECENT: usize = 4;

/// Counts the begins and ends of requests of all worlds.
static CLOCK: AtomicU64 = AtomicU64::new(1);

pub(super) fn now() -> u64 {
    CLOCK.fetch_add(1, Ordering::SeqCst)
}

/// A user as a client knows it.
#[derive(Debug, Clone)]
pub(super) struct KnownUser {
    pub(super) id: String,
    /// The versions that answers showed, the latest last.
    pub(super) versions: Vec<Text>,
}

#[derive(Debug)]
pub(super) struct World {
    names: Vec<String>,
    wishes: AtomicU64,
    users: Mutex<Vec<KnownUser>>,
    sent: Mutex<Vec<Sent>>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            names: (0..NAMES).map(|_| unique("n")).collect(),
            wishes: AtomicU64::new(0),
            users: Mutex::default(),
            sent: Mutex::default(),
        }
    }

    /// The names that users compete for, in lower case.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of another wish.
    pub(super) fn number(&self) -> u64 {
        self.wishes.fetch_add(1, Ordering::SeqCst)
    }

    /// One of the names, in lower or upper case.
    pub(super) fn username(&self, random: &mut StdRng) -> Text {
        let name = &self.names[random.random_range(0..self.names.len())];
        if random.random_bool(0.2) {
            name.to_uppercase().into()
        } else {
            name.as_str().into()
        }
    }

    /// A new user, whose given name is new too.
    pub(super) fn new_user(&self, random: &mut StdRng) -> Names {
        Names {
            username: self.username(random),
            given: given_name(random),
            family: "Family".into(),
        }
    }

    pub(super) fn users(&self) -> MutexGuard<'_, Vec<KnownUser>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A known user, who may be deleted. `None` if there is none yet.
    pub(super) fn user(&self, random: &mut StdRng) -> Option<KnownUser> {
        let users = self.users();
        let first = if random.random_bool(0.85) {
            users.len().saturating_sub(RECENT)
        } else {
            0
        };
        let among = users.get(first..)?;
        (!among.is_empty()).then(|| among[random.random_range(0..among.len())].clone())
    }

    /// Notes what an answer says about a user.
    fn learn(&self, wish: &Wish, answer: &Answer) {
        let id = wish.action.id().map(str::to_owned);
        let (Some(id), Some(version)) = (id.or_else(|| answer.id().ok()), answer.header("etag"))
        else {
            return;
        };
        let mut users = self.users();
        match users.iter_mut().find(|user| user.id == id) {
            Some(user) => user.versions.push(version.into()),
            None => users.push(KnownUser {
                id,
                versions: vec![version.into()],
            }),
        }
    }

    /// Notes a request and its answer.
    pub(super) fn note(&self, sent: Sent) {
        if let Some(answer) = &sent.answer {
            self.learn(&sent.wish, answer);
        }
        self.history_of(|history| history.push(sent));
    }

    /// Everything that was sent.
    pub(super) fn history(&self) -> Vec<Sent> {
        self.history_of(|history| history.clone())
    }

    fn history_of<T>(&self, work: impl FnOnce(&mut Vec<Sent>) -> T) -> T {
        work(&mut self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Mostly a name that nobody else has, so that a lost update is seen, and sometimes one that changes nothing.
pub(super) fn given_name(random: &mut StdRng) -> Text {
    if random.random_bool(0.2) {
        "Same".into()
    } else {
        format!("Given {}", random.random_range(0..1_000_000)).into()
    }
}
