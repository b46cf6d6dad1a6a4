//! Wrong answers, planted into a recorded history. The checker must find each of them.

use super::client::Client;
use super::history::{Action, Sent};
use super::model::{Names, NewNames, Text};
use super::world::World;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use system_tests::client::Answer;
use system_tests::unique;

/// Something that a service without these promises would answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A rename was acknowledged, and the user still has the former name.
    LostRename,
    /// A change was acknowledged, and a read shows the value before it.
    LostUpdate,
    /// A user was created with the name of another one.
    TwoHolders,
    /// A command was executed although the user had another version than it required.
    IgnoredCondition,
    /// A deleted user is still there.
    UndoneDeletion,
}

pub(super) const FAULTS: [Fault; 5] = [
    Fault::LostRename,
    Fault::LostUpdate,
    Fault::TwoHolders,
    Fault::IgnoredCondition,
    Fault::UndoneDeletion,
];

/// What one client did alone at the end of a history, in this order.
#[derive(Debug)]
pub(super) struct Coda {
    first: Text,
    answers: Vec<Answer>,
}

const CREATED: usize = 0;
const PATCHED: usize = 1;
const SHOWN: usize = 2;
const REFUSED: usize = 3;
const CONDITION_FAILED: usize = 4;
const SHOWN_RENAMED: usize = 6;
const NOT_FOUND: usize = 8;

impl Coda {
    /// Creates, changes, renames and deletes a user with names of its own, and reads it in between.
    pub(super) async fn play(client: &mut Client, world: &World) -> Result<Self> {
        let (first, second): (Text, Text) = (unique("coda").into(), unique("coda").into());
        let names = Names {
            username: first.clone(),
            given: "Before".into(),
            family: "Family".into(),
        };
        let created = client.ask(world, Action::Create(names.clone())).await?;
        let created = created.expect(201)?;
        let id = created.id()?;
        let version = created.header("etag").map(Text::from);
        let patch = |new, if_match| Action::Patch {
            id: id.clone(),
            new,
            if_match,
        };
        let given = |given: &str| NewNames {
            given: Some(given.into()),
            ..NewNames::default()
        };
        let rename = NewNames {
            username: Some(second),
            ..NewNames::default()
        };
        let get = || Action::Get { id: id.clone() };
        let delete = Action::Delete {
            id: id.clone(),
            if_match: None,
        };
        let mut answers = vec![created];
        for (action, status) in [
            (patch(given("After"), None), 204),
            (get(), 200),
            (Action::Create(names), 409),
            (patch(given("Too late"), version), 412),
            (patch(rename, None), 204),
            (get(), 200),
            (delete, 204),
            (get(), 404),
        ] {
            answers.push(client.ask(world, action).await?.expect(status)?);
        }
        Ok(Self { first, answers })
    }

    /// The history with a planted fault. The coda is the end of the history.
    pub(super) fn plant(&self, fault: Fault, history: &[Sent]) -> Result<Vec<Sent>> {
        let mut history = history.to_vec();
        let coda = history.len() - self.answers.len();
        let (place, answer) = match fault {
            Fault::LostRename => (
                SHOWN_RENAMED,
                self.with(SHOWN_RENAMED, "username", &self.first),
            ),
            Fault::LostUpdate => (SHOWN, self.with(SHOWN, "given_name", "Before")),
            Fault::TwoHolders => {
                let mut created = self.answers[CREATED].clone();
                created.body["id"] = json!("1");
                (REFUSED, created)
            }
            Fault::IgnoredCondition => {
                let mut patched = self.answers[PATCHED].clone();
                patched.headers.insert("etag", "\"another\"".parse()?);
                (CONDITION_FAILED, patched)
            }
            Fault::UndoneDeletion => (NOT_FOUND, self.answers[SHOWN_RENAMED].clone()),
        };
        let altered = history.get_mut(coda + place).context("the coda")?;
        let was = altered.answer.replace(answer).map(|answer| answer.status);
        ensure!(
            was == Some(self.answers[place].status),
            "the coda is not the end"
        );
        Ok(history)
    }

    /// This answer with another value of one name.
    fn with(&self, place: usize, name: &str, value: &str) -> Answer {
        let mut answer = self.answers[place].clone();
        answer.body[name] = Value::from(value);
        answer
    }
}
