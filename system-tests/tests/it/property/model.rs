//! What the service is to do: users with names and versions, one living user for each username.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) type Text = Arc<str>;

/// The names of a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Names {
    pub(super) username: Text,
    pub(super) given: Text,
    pub(super) family: Text,
}

/// The new values of some names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NewNames {
    pub(super) username: Option<Text>,
    pub(super) given: Option<Text>,
    pub(super) family: Option<Text>,
}

/// One command or read, with its answer and its place in time. It takes effect at one moment of that time.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) call: Call,
    /// `None` if there is no answer that says what happened.
    pub(super) outcome: Option<Outcome>,
    pub(super) began: u64,
    /// `None` if it is not known until when the operation may take effect. Then it may also never take effect.
    pub(super) ended: Option<u64>,
    /// The operation that this one repeats, and that happened before.
    pub(super) after: Option<usize>,
}

/// A user is named by the number of the operation that created it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Create(Names),
    Patch {
        user: usize,
        new: NewNames,
        if_match: Option<Text>,
    },
    Delete {
        user: usize,
        if_match: Option<Text>,
        /// Whether another command may delete the user after this one was accepted under a key. Then both are done.
        shared: bool,
    },
    Get {
        user: usize,
    },
    /// A command that was executed is sent again with the same key.
    Repeat {
        user: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The command was executed. A user who is not deleted has this version since the last change.
    Done(Option<Text>),
    Shown(Names, Text),
    Taken,
    NotFound,
    PreconditionFailed,
    /// The command was executed, and its user has been deleted since.
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum User {
    Active {
        names: Names,
        /// `None` if the last change has no answer, and nobody has read the user since.
        version: Option<Text>,
    },
    Deleted,
}

/// All users that were ever created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Model(BTreeMap<usize, User>);

/// What an operation changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Set(usize, User),
}

impl NewNames {
    fn applied_to(&self, names: &Names) -> Names {
        let new = |new: &Option<Text>, old: &Text| new.as_ref().unwrap_or(old).clone();
        Names {
            username: new(&self.username, &names.username),
            given: new(&self.given, &names.given),
            family: new(&self.family, &names.family),
        }
    }
}

impl Model {
    pub(super) fn with(&self, effect: Effect) -> Self {
        let mut next = self.clone();
        if let Effect::Set(user, state) = effect {
            next.0.insert(user, state);
        }
        next
    }

    /// The effect of this operation, if it is answered in this way now. `None` if it cannot be.
    pub(super) fn effect(&self, number: usize, operation: &Operation) -> Option<Effect> {
        let outcome = operation.outcome.as_ref();
        let holds = |holds: bool| holds.then_some(Effect::Nothing);
        match (&operation.call, outcome) {
            (Call::Create(names), None) => self.create(number, names, None),
            (Call::Create(names), Some(Outcome::Done(version))) => {
                self.create(number, names, version.clone())
            }
            (Call::Create(names), Some(Outcome::Taken)) => {
                holds(self.holder(&names.username).is_some())
            }
            (Call::Patch { .. }, None) => self.patch(&operation.call, None),
            (Call::Patch { .. }, Some(Outcome::Done(version))) => {
                self.patch(&operation.call, version.as_ref())
            }
            (Call::Patch { user, new, .. }, Some(Outcome::Taken)) => {
                let holder = new.username.as_ref().and_then(|name| self.holder(name));
                holds(holder.is_some_and(|holder| holder != *user))
            }
            (Call::Delete { .. }, None | Some(Outcome::Done(_))) => {
                self.delete(&operation.call, outcome.is_some())
            }
            (Call::Get { user }, Some(Outcome::Shown(names, version))) => {
                self.shown(*user, names, version)
            }
            (
                Call::Patch { user, .. } | Call::Delete { user, .. } | Call::Get { user },
                Some(Outcome::NotFound),
            ) => holds(self.active(*user).is_none()),
            (
                Call::Patch { user, if_match, .. } | Call::Delete { user, if_match, .. },
                Some(Outcome::PreconditionFailed),
            ) => holds(self.active(*user).is_some() && !self.meets(*user, if_match.as_ref())),
            (Call::Repeat { user }, Some(Outcome::Done(_))) => holds(self.active(*user).is_some()),
            (Call::Repeat { user }, Some(Outcome::Gone)) => {
                holds(self.0.get(user) == Some(&User::Deleted))
            }
            (Call::Create(_) | Call::Get { .. } | Call::Repeat { .. }, _)
            | (Call::Patch { .. } | Call::Delete { .. }, Some(_)) => None,
        }
    }

    fn active(&self, user: usize) -> Option<(&Names, &Option<Text>)> {
        match self.0.get(&user)? {
            User::Active { names, version } => Some((names, version)),
            User::Deleted => None,
        }
    }

    /// The living user with this name, in upper or lower case.
    fn holder(&self, username: &Text) -> Option<usize> {
        let holds = |user: &User| match user {
            User::Active { names, .. } => names.username.eq_ignore_ascii_case(username),
            User::Deleted => false,
        };
        let mut users = self.0.iter();
        users.find_map(|(number, user)| holds(user).then_some(*number))
    }

    /// Whether a living user has the version that a command requires. A version that nobody has seen is required by nobody.
    fn meets(&self, user: usize, if_match: Option<&Text>) -> bool {
        let version = self.active(user).and_then(|(_, version)| version.as_ref());
        if_match.is_none() || if_match == version
    }

    fn create(&self, number: usize, names: &Names, version: Option<Text>) -> Option<Effect> {
        let names = names.clone();
        let free = self.holder(&names.username).is_none();
        free.then_some(Effect::Set(number, User::Active { names, version }))
    }

    fn patch(&self, call: &Call, answered: Option<&Text>) -> Option<Effect> {
        let Call::Patch {
            user,
            new,
            if_match,
        } = call
        else {
            return None;
        };
        let (names, version) = self.active(*user)?;
        let patched = new.applied_to(names);
        if !self.meets(*user, if_match.as_ref()) {
            return None;
        }
        if patched == *names {
            // Nothing changes. Without an answer, nothing says that this happened.
            return self.shown(*user, names, answered?);
        }
        let holder = self.holder(&patched.username);
        let is_free = holder.is_none_or(|holder| holder == *user);
        let is_new = answered.is_none() || answered != version.as_ref();
        (is_free && is_new).then(|| {
            let (names, version) = (patched, answered.cloned());
            Effect::Set(*user, User::Active { names, version })
        })
    }

    fn delete(&self, call: &Call, answered: bool) -> Option<Effect> {
        let Call::Delete {
            user,
            if_match,
            shared,
        } = call
        else {
            return None;
        };
        match self.0.get(user)? {
            User::Active { .. } if self.meets(*user, if_match.as_ref()) => {
                Some(Effect::Set(*user, User::Deleted))
            }
            User::Deleted if *shared && answered => Some(Effect::Nothing),
            User::Active { .. } | User::Deleted => None,
        }
    }

    /// A living user has these names and this version. A version that nobody had seen becomes known.
    fn shown(&self, user: usize, names: &Names, shown: &Text) -> Option<Effect> {
        let (current, version) = self.active(user)?;
        if current != names {
            return None;
        }
        if let Some(version) = version {
            return (version == shown).then_some(Effect::Nothing);
        }
        let (names, version) = (names.clone(), Some(shown.clone()));
        Some(Effect::Set(user, User::Active { names, version }))
    }
}
