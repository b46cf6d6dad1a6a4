//! What the clients sent, what they were answered, and the operations that this amounts to.

use super::model::{Call, Names, NewNames, Operation, Outcome, Text};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use system_tests::client::Answer;

/// A command or a read of a user. A user is named by its id.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Create(Names),
    Patch {
        id: String,
        new: NewNames,
        if_match: Option<Text>,
    },
    Delete {
        id: String,
        if_match: Option<Text>,
    },
    Get {
        id: String,
    },
}

/// Something that a client wants, and sends until it has an answer, or gives up.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// The number of the wish in its history.
    pub(super) number: u64,
    pub(super) action: Action,
    /// With a key the service executes the command once, however often it is sent.
    pub(super) key: Option<String>,
}

/// One request and its answer.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) wish: Arc<Wish>,
    /// Whether the key of the wish was sent with another body.
    pub(super) other_body: bool,
    /// Whether the command was sent through the queue. There the service gives it a key if it has none.
    pub(super) queued: bool,
    pub(super) began: u64,
    pub(super) ended: u64,
    /// `None` if the connection was lost.
    pub(super) answer: Option<Answer>,
}

/// What an answer says about the command.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Outcome(Outcome, Option<String>),
    /// The command may have been executed, or may be executed later.
    Unknown,
    /// The command was not executed.
    NotBegun,
}

impl Names {
    pub(super) fn body(&self) -> Value {
        json!({"username": *self.username, "given_name": *self.given, "family_name": *self.family})
    }
}

impl NewNames {
    pub(super) fn body(&self) -> Value {
        let mut body = json!({});
        let names = [
            ("username", &self.username),
            ("given_name", &self.given),
            ("family_name", &self.family),
        ];
        for (name, value) in names {
            if let Some(value) = value {
                body[name] = json!(**value);
            }
        }
        body
    }
}

impl Sent {
    fn verdict(&self) -> Result<Verdict> {
        let Some(answer) = &self.answer else {
            return Ok(Verdict::Unknown);
        };
        let version = || answer.header("etag").map(Text::from);
        let outcome = match (answer.status, answer.problem()) {
            (201 | 204, _) => Outcome::Done(version()),
            (200, _) => {
                let name = |member: &str| {
                    let name = answer.body[member].as_str();
                    name.map(Text::from).context("a name in the answer")
                };
                let names = Names {
                    username: name("username")?,
                    given: name("given_name")?,
                    family: name("family_name")?,
                };
                Outcome::Shown(names, version().context("an answer without an ETag")?)
            }
            (404, "not-found") => Outcome::NotFound,
            (409, "username-taken") => Outcome::Taken,
            (410, "gone") => Outcome::Gone,
            (412, "precondition-failed") => Outcome::PreconditionFailed,
            (503, "overloaded") => return Ok(Verdict::NotBegun),
            // Another process goes on with a command that has a key.
            (409, "contended") if self.wish.key.is_none() => return Ok(Verdict::NotBegun),
            (409, "contended") | (503, _) => return Ok(Verdict::Unknown),
            _ => bail!("an unexpected answer to {:?}: {answer:?}", self.wish),
        };
        Ok(Verdict::Outcome(outcome, answer.id().ok()))
    }
}

/// All operations of a history, sorted by their begin.
pub(super) fn operations(sent: &[Sent]) -> Result<Vec<Operation>> {
    let mut wishes: BTreeMap<(u64, u64), Vec<&Sent>> = BTreeMap::new();
    for (index, one) in (1..).zip(sent) {
        // Without a key every request is a command of its own.
        let repetition = if one.wish.key.is_some() { 0 } else { index };
        let wish = wishes.entry((one.wish.number, repetition)).or_default();
        wish.push(one);
    }
    let mut wishes: Vec<_> = wishes.into_values().collect();
    for requests in &mut wishes {
        requests.sort_by_key(|one| one.began);
    }
    wishes.sort_by_key(|requests| requests[0].began);
    let mut history = History::default();
    for requests in &wishes {
        history.add(requests)?;
    }
    Ok(history.sorted())
}

#[derive(Default)]
struct History {
    operations: Vec<Operation>,
    /// The operations that created the users with these ids.
    created: HashMap<String, usize>,
}

/// What all answers to the requests of one command say together.
struct Verdicts<'a> {
    all: Vec<(&'a Sent, Verdict)>,
    /// The request that was answered first with an outcome, the outcome, and the id in the answer.
    first: Option<(&'a Sent, Outcome, Option<String>)>,
}

impl<'a> Verdicts<'a> {
    /// Fails if two requests were answered differently.
    fn of(requests: &[&'a Sent]) -> Result<Self> {
        let mut all = Vec::new();
        let mut first: Option<(&Sent, Outcome, Option<String>)> = None;
        for one in requests.iter().copied().filter(|one| !one.other_body) {
            let verdict = one.verdict()?;
            if let Verdict::Outcome(outcome, id) = &verdict
                && *outcome != Outcome::Gone
            {
                let same = first
                    .as_ref()
                    .is_none_or(|(_, same, same_id)| (same, same_id) == (outcome, id));
                ensure!(same, "two answers to one command: {requests:#?}");
                if first
                    .as_ref()
                    .is_none_or(|(first, ..)| one.ended < first.ended)
                {
                    first = Some((one, outcome.clone(), id.clone()));
                }
            }
            all.push((one, verdict));
        }
        Ok(Self { all, first })
    }

    /// Whether the command was perhaps executed.
    fn may_have_happened(&self) -> bool {
        self.all
            .iter()
            .any(|(_, verdict)| *verdict != Verdict::NotBegun)
    }
}

impl History {
    /// Adds the operation of all these requests, which ask for the same thing, and the operations of its repetitions.
    fn add(&mut self, requests: &[&Sent]) -> Result<()> {
        let verdicts = Verdicts::of(requests)?;
        let action = &requests[0].wish.action;
        let is_read = matches!(action, Action::Get { .. });
        if !verdicts.may_have_happened() || (is_read && verdicts.first.is_none()) {
            return Ok(());
        }
        let number = self.operations.len();
        let user = match action.id() {
            None => number,
            Some(id) => {
                let created = self.created.get(id);
                *created.context("a user whose creation was answered later")?
            }
        };
        if let Some((_, Outcome::Done(_), Some(id))) = &verdicts.first {
            let other = self.created.insert(id.clone(), number);
            ensure!(other.is_none(), "two creations of one user: {requests:#?}");
        }
        self.operations.push(Operation {
            call: call(requests, user),
            outcome: verdicts
                .first
                .as_ref()
                .map(|(_, outcome, _)| outcome.clone()),
            began: requests[0].began,
            ended: verdicts.first.as_ref().map(|(first, ..)| first.ended),
            after: None,
        });
        let first = verdicts.first.map(|(first, ..)| first);
        let repetitions = requests
            .iter()
            .filter(|one| first.is_none_or(|first| first.began != one.began));
        for one in repetitions {
            self.repeat(one, number, user)?;
        }
        Ok(())
    }

    /// Adds an operation if the answer to this repetition says whether the user still exists.
    fn repeat(&mut self, one: &Sent, command: usize, user: usize) -> Result<()> {
        let is_deletion = matches!(one.wish.action, Action::Delete { .. });
        if one.other_body
            && one
                .answer
                .as_ref()
                .is_some_and(|answer| answer.status == 422)
        {
            return Ok(());
        }
        let (outcome, after) = match one.verdict()? {
            Verdict::Outcome(Outcome::Gone, _) => (Outcome::Gone, None),
            Verdict::Outcome(..) if one.other_body => bail!("a key was used twice: {one:#?}"),
            Verdict::Outcome(outcome @ Outcome::Done(_), _) if !is_deletion => {
                (outcome, Some(command))
            }
            Verdict::Outcome(..) | Verdict::Unknown | Verdict::NotBegun => return Ok(()),
        };
        self.operations.push(Operation {
            call: Call::Repeat { user },
            outcome: Some(outcome),
            began: one.began,
            ended: Some(one.ended),
            after,
        });
        Ok(())
    }

    /// The operations in the order of their begin, with new numbers.
    fn sorted(self) -> Vec<Operation> {
        let mut order: Vec<usize> = (0..self.operations.len()).collect();
        order.sort_by_key(|number| self.operations[*number].began);
        let mut place = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new;
        }
        let mut operations = Vec::new();
        for old in order {
            let mut operation = self.operations[old].clone();
            operation.after = operation.after.map(|after| place[after]);
            match &mut operation.call {
                Call::Create(_) => {}
                Call::Patch { user, .. }
                | Call::Delete { user, .. }
                | Call::Get { user }
                | Call::Repeat { user } => *user = place[*user],
            }
            operations.push(operation);
        }
        share_deletions(&mut operations);
        operations
    }
}

/// A deletion under a key may share its effect only with a deletion of the same user that had not ended when it began.
fn share_deletions(operations: &mut [Operation]) {
    let mut deletions = HashMap::<usize, Vec<(usize, u64)>>::new();
    for (number, operation) in operations.iter().enumerate() {
        if let Call::Delete { user, .. } = operation.call {
            let ended = operation.ended.unwrap_or(u64::MAX);
            deletions.entry(user).or_default().push((number, ended));
        }
    }
    for (number, operation) in operations.iter_mut().enumerate() {
        let began = operation.began;
        if let Call::Delete { user, shared, .. } = &mut operation.call {
            let mut others = deletions[user].iter().filter(|(other, _)| *other != number);
            *shared = *shared && others.any(|(_, ended)| *ended > began);
        }
    }
}

fn call(requests: &[&Sent], user: usize) -> Call {
    let wish = &requests[0].wish;
    match wish.action.clone() {
        Action::Create(names) => Call::Create(names),
        Action::Patch { new, if_match, .. } => Call::Patch {
            user,
            new,
            if_match,
        },
        Action::Delete { if_match, .. } => Call::Delete {
            user,
            if_match,
            shared: wish.key.is_some() || requests.iter().any(|one| one.queued),
        },
        Action::Get { .. } => Call::Get { user },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(id: &str) -> Answer {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("etag", format!("\"{id}\"").parse().expect("a header"));
        Answer {
            status: 201,
            content_type: String::new(),
            location: None,
            headers,
            body: json!({"id": id}),
        }
    }

    fn refused(status: u16, problem: &str) -> Answer {
        Answer {
            status,
            body: json!({"type": format!("urn:problem-type:{problem}")}),
            ..created("0")
        }
    }

    /// One creation, sent once for each answer, one after the other.
    fn sent(key: Option<&str>, answers: Vec<Option<Answer>>) -> Vec<Sent> {
        let names = Names {
            username: "ada".into(),
            given: "g".into(),
            family: "f".into(),
        };
        let wish = Arc::new(Wish {
            number: 0,
            action: Action::Create(names),
            key: key.map(str::to_owned),
        });
        let numbered = (0..).zip(answers);
        let sent = numbered.map(|(number, answer)| Sent {
            wish: Arc::clone(&wish),
            other_body: false,
            queued: false,
            began: 2 * number,
            ended: 2 * number + 1,
            answer,
        });
        sent.collect()
    }

    #[test]
    fn a_command_under_a_key_happens_once_before_its_first_answer() -> Result<()> {
        let repeated = vec![None, Some(created("1")), Some(created("1"))];
        let operations = operations(&sent(Some("k"), repeated))?;
        let ends: Vec<_> = operations
            .iter()
            .map(|one| (one.began, one.ended))
            .collect();
        assert_eq!(ends, [(0, Some(3)), (4, Some(5))]);
        assert_eq!(operations[1].call, Call::Repeat { user: 0 });
        assert_eq!(operations[1].after, Some(0));
        Ok(())
    }

    #[test]
    fn two_answers_to_one_command_under_a_key_are_found() {
        let twice = || vec![Some(created("1")), Some(created("2"))];
        assert!(operations(&sent(Some("k"), twice())).is_err());
        let taken = refused(409, "username-taken");
        let both = vec![Some(created("1")), Some(taken)];
        assert!(operations(&sent(Some("k"), both)).is_err());
        // Without a key these are two commands.
        assert!(operations(&sent(None, twice())).is_ok_and(|two| two.len() == 2));
    }

    #[test]
    fn only_an_answer_that_nothing_was_done_excludes_that_something_was() -> Result<()> {
        let overloaded = || Some(refused(503, "overloaded"));
        assert!(operations(&sent(None, vec![overloaded()]))?.is_empty());
        for answer in [None, Some(refused(503, "unavailable"))] {
            let unknown = operations(&sent(Some("k"), vec![overloaded(), answer]))?;
            assert_eq!((unknown.len(), unknown[0].ended), (1, None));
        }
        assert!(operations(&sent(None, vec![Some(refused(500, "internal-error"))])).is_err());
        Ok(())
    }
}
