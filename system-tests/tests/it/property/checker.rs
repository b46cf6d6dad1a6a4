//! Finds an order of the operations that explains every answer (Wing and Gong's search, with a memory of what was tried).
//!
//! Each operation takes effect at one moment between its begin and its end. The search takes the operations one by one, each
//! before the end of all that are left.

use super::model::{Effect, Model, Operation};
use std::collections::HashSet;
use std::fmt;

/// The most steps of a search. A history of these tests needs a few thousand.
const STEPS: usize = 3_000_000;

/// A set of operations, a bit for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Taken(Box<[u64]>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    taken: Taken,
    model: Model,
}

/// No order explains the answers, or none was found.
#[derive(Debug)]
pub(super) struct Unexplained {
    /// The best attempt: the state that it reached, and the operations that are left of it.
    pub(super) model: Model,
    pub(super) left: Vec<(usize, Operation)>,
    /// Whether all orders were tried.
    pub(super) certain: bool,
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            model,
            left,
            certain,
        } = self;
        let found = if *certain {
            "there is no"
        } else {
            "the search found no"
        };
        writeln!(
            f,
            "{found} order that explains the answers. The best one leads to {model:#?}"
        )?;
        writeln!(f, "These operations are left: {left:#?}")
    }
}

impl Taken {
    fn has(&self, number: usize) -> bool {
        self.0[number / 64] >> (number % 64) & 1 == 1
    }

    fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|bits| bits.count_ones()).sum()
    }
}

/// Finds an order of the operations, which must be sorted by their begin.
pub(super) fn explain(operations: &[Operation]) -> Result<(), Box<Unexplained>> {
    let mut stack = vec![Node {
        taken: Taken(vec![0; operations.len().div_ceil(64)].into()),
        model: Model::default(),
    }];
    let mut tried = HashSet::new();
    let mut best: Option<Node> = None;
    while let Some(mut node) = stack.pop() {
        take_all_without_effect(operations, &mut node);
        if is_complete(operations, &node) {
            return Ok(());
        }
        if tried.len() == STEPS {
            return Err(Box::new(unexplained(
                operations,
                &best.unwrap_or(node),
                false,
            )));
        }
        if !tried.insert(node.clone()) {
            continue;
        }
        if best
            .as_ref()
            .is_none_or(|best| node.taken.count() > best.taken.count())
        {
            best = Some(node.clone());
        }
        stack.extend(next(operations, &node));
    }
    let best = best.expect("the first node is the best if there is no other");
    Err(Box::new(unexplained(operations, &best, true)))
}

/// The operations that may be taken now: none that is left has ended before they began.
fn possible<'a>(
    operations: &'a [Operation],
    taken: &'a Taken,
) -> impl Iterator<Item = (usize, &'a Operation)> {
    let left = || {
        let all = operations.iter().enumerate();
        all.filter(move |(number, _)| !taken.has(*number))
    };
    let mut end = u64::MAX;
    for (_, operation) in left() {
        if operation.began > end {
            break;
        }
        end = end.min(operation.ended.unwrap_or(u64::MAX));
    }
    let in_time = left().take_while(move |(_, operation)| operation.began < end);
    in_time.filter(|(_, operation)| operation.after.is_none_or(|after| taken.has(after)))
}

/// Takes all operations that are explained now and change nothing. To take them now excludes nothing later, so no other order
/// need be tried.
fn take_all_without_effect(operations: &[Operation], node: &mut Node) {
    loop {
        let found = possible(operations, &node.taken).find_map(|(number, operation)| {
            let effect = node.model.effect(number, operation);
            (effect == Some(Effect::Nothing)).then_some(number)
        });
        match found {
            Some(number) => node.taken.insert(number),
            None => return,
        }
    }
}

/// The nodes after one more operation. The most promising one is the last: the operation that ended first.
fn next(operations: &[Operation], node: &Node) -> Vec<Node> {
    let mut possible: Vec<_> = possible(operations, &node.taken).collect();
    possible.sort_by_key(|(_, operation)| std::cmp::Reverse(operation.ended.unwrap_or(u64::MAX)));
    let next = possible.into_iter().filter_map(|(number, operation)| {
        let model = node.model.with(node.model.effect(number, operation)?);
        let mut taken = node.taken.clone();
        taken.insert(number);
        Some(Node { taken, model })
    });
    next.collect()
}

/// Whether only operations are left that need not have taken effect.
fn is_complete(operations: &[Operation], node: &Node) -> bool {
    let mut all = operations.iter().enumerate();
    all.all(|(number, operation)| operation.ended.is_none() || node.taken.has(number))
}

fn unexplained(operations: &[Operation], node: &Node, certain: bool) -> Unexplained {
    let left = operations.iter().enumerate();
    let left = left.filter(|(number, _)| !node.taken.has(*number));
    Unexplained {
        model: node.model.clone(),
        left: left
            .map(|(number, operation)| (number, operation.clone()))
            .collect(),
        certain,
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Call, Names, NewNames, Outcome, Text};
    use super::*;

    fn names(username: &str, given: &str) -> Names {
        Names {
            username: username.into(),
            given: given.into(),
            family: "f".into(),
        }
    }

    fn renamed(username: &str) -> NewNames {
        NewNames {
            username: Some(username.into()),
            ..NewNames::default()
        }
    }

    fn given(given: &str) -> NewNames {
        NewNames {
            given: Some(given.into()),
            ..NewNames::default()
        }
    }

    fn create(username: &str) -> Call {
        Call::Create(names(username, "g"))
    }

    fn patch(user: usize, new: NewNames) -> Call {
        Call::Patch {
            user,
            new,
            if_match: None,
        }
    }

    fn done(version: &str) -> Outcome {
        Outcome::Done(Some(version.into()))
    }

    fn shown(username: &str, given: &str, version: &str) -> Outcome {
        Outcome::Shown(names(username, given), version.into())
    }

    /// An operation from `began` to `ended`.
    fn from_to(began: u64, ended: u64, call: Call, outcome: Option<Outcome>) -> Operation {
        Operation {
            call,
            ended: outcome.is_some().then_some(ended),
            outcome,
            began,
            after: None,
        }
    }

    /// Operations one after another.
    fn one_by_one(operations: Vec<(Call, Option<Outcome>)>) -> Vec<Operation> {
        let numbered = (0..).zip(operations);
        numbered
            .map(|(number, (call, outcome))| from_to(2 * number, 2 * number + 1, call, outcome))
            .collect()
    }

    fn is_explained(operations: &[Operation]) -> bool {
        match explain(operations) {
            Ok(()) => true,
            Err(unexplained) => {
                assert!(unexplained.certain && !unexplained.left.is_empty());
                false
            }
        }
    }

    #[test]
    fn a_history_of_one_client_is_explained_in_its_own_order_only() {
        let history = |last: Option<Outcome>| {
            one_by_one(vec![
                (create("ada"), Some(done("1"))),
                (create("ADA"), Some(Outcome::Taken)),
                (patch(0, renamed("eda")), Some(done("2"))),
                (create("ada"), Some(done("3"))),
                (patch(3, renamed("eda")), Some(Outcome::Taken)),
                (Call::Get { user: 0 }, last),
            ])
        };
        assert!(is_explained(&history(Some(shown("eda", "g", "2")))));
        assert!(!is_explained(&history(Some(shown("ada", "g", "2")))));
        assert!(!is_explained(&history(Some(shown("eda", "g", "1")))));
        assert!(!is_explained(&history(Some(Outcome::NotFound))));
    }

    #[test]
    fn commands_at_the_same_time_may_have_happened_in_any_order() {
        let history = |second_began| {
            vec![
                from_to(0, 1, create("ada"), Some(done("1"))),
                from_to(2, 9, patch(0, given("one")), Some(done("2"))),
                from_to(second_began, 11, patch(0, given("two")), Some(done("3"))),
                from_to(
                    12,
                    13,
                    Call::Get { user: 0 },
                    Some(shown("ada", "one", "2")),
                ),
            ]
        };
        assert!(is_explained(&history(3)));
        // The second one began when the first one had ended, so the first one's update cannot be the last.
        assert!(!is_explained(&history(10)));
    }

    #[test]
    fn two_users_never_have_one_name() {
        let both = vec![
            from_to(0, 8, create("ada"), Some(done("1"))),
            from_to(1, 9, create("Ada"), Some(done("2"))),
        ];
        assert!(!is_explained(&both));
        let with_deletion = |ended| {
            let delete = Call::Delete {
                user: 0,
                if_match: None,
                shared: false,
            };
            let deletion = from_to(3, ended, delete, Some(Outcome::Done(None)));
            let create_again = from_to(5, 9, create("Ada"), Some(done("2")));
            let create_first = from_to(0, 2, create("ada"), Some(done("1")));
            let get = from_to(10, 11, Call::Get { user: 0 }, Some(Outcome::NotFound));
            vec![create_first, deletion, create_again, get]
        };
        assert!(is_explained(&with_deletion(4)));
        assert!(is_explained(&with_deletion(8)));
    }

    #[test]
    fn a_refusal_needs_a_holder_at_some_moment() {
        let refused = |call| {
            one_by_one(vec![
                (create("ada"), Some(done("1"))),
                (call, Some(Outcome::Taken)),
            ])
        };
        assert!(is_explained(&refused(create("ada"))));
        assert!(!is_explained(&refused(create("eda"))));
        assert!(!is_explained(&refused(patch(0, renamed("Ada")))));
        // The creation has no answer, and explains the refusal.
        let unknown = one_by_one(vec![
            (create("ada"), None),
            (create("ada"), Some(Outcome::Taken)),
        ]);
        assert!(is_explained(&unknown));
    }

    #[test]
    fn a_command_without_an_answer_happens_once_or_never_and_perhaps_late() {
        let history = |shown: Vec<Option<Outcome>>| {
            let mut history = vec![
                (create("ada"), Some(done("1"))),
                (patch(0, given("x")), None),
            ];
            let gets = shown.into_iter();
            history.extend(gets.map(|shown| (Call::Get { user: 0 }, shown)));
            one_by_one(history)
        };
        let (before, after) = (Some(shown("ada", "g", "1")), Some(shown("ada", "x", "2")));
        assert!(is_explained(&history(vec![before.clone()])));
        assert!(is_explained(&history(vec![after.clone()])));
        let late = vec![before.clone(), after.clone(), after.clone()];
        assert!(is_explained(&history(late)));
        assert!(!is_explained(&history(vec![after.clone(), before])));
        // The version that it made does not change.
        assert!(!is_explained(&history(vec![
            after,
            Some(shown("ada", "x", "3"))
        ])));
    }

    #[test]
    fn a_condition_is_judged_by_the_version() {
        let history = |if_match: &str, outcome| {
            let patch = Call::Patch {
                user: 0,
                new: given("b"),
                if_match: Some(if_match.into()),
            };
            one_by_one(vec![
                (create("ada"), Some(done("1"))),
                (self::patch(0, given("a")), Some(done("2"))),
                (patch, outcome),
            ])
        };
        assert!(is_explained(&history("2", Some(done("3")))));
        assert!(is_explained(&history(
            "1",
            Some(Outcome::PreconditionFailed)
        )));
        assert!(!is_explained(&history("1", Some(done("3")))));
        assert!(!is_explained(&history(
            "2",
            Some(Outcome::PreconditionFailed)
        )));
    }

    #[test]
    fn a_command_that_changes_nothing_has_the_current_version() {
        let history = |version: &str| {
            one_by_one(vec![
                (create("ada"), Some(done("1"))),
                (patch(0, given("g")), Some(done(version))),
            ])
        };
        assert!(is_explained(&history("1")));
        assert!(!is_explained(&history("2")));
    }

    #[test]
    fn a_repetition_follows_the_command_and_says_whether_the_user_is_deleted() {
        let repeat = |outcome, after| Operation {
            after: Some(after),
            ..from_to(6, 7, Call::Repeat { user: 0 }, outcome)
        };
        let delete = |shared| Call::Delete {
            user: 0,
            if_match: None,
            shared,
        };
        let history = |outcome, deleted: bool| {
            let mut history = vec![from_to(0, 1, create("ada"), Some(done("1")))];
            if deleted {
                history.push(from_to(2, 3, delete(false), Some(Outcome::Done(None))));
            }
            history.push(repeat(outcome, 0));
            history
        };
        let version: Text = "1".into();
        let done = || Some(Outcome::Done(Some(version.clone())));
        assert!(is_explained(&history(done(), false)));
        assert!(!is_explained(&history(done(), true)));
        assert!(is_explained(&history(Some(Outcome::Gone), true)));
        assert!(!is_explained(&history(Some(Outcome::Gone), false)));
        let twice = |shared| {
            vec![
                from_to(0, 1, create("ada"), done()),
                from_to(2, 3, delete(false), Some(Outcome::Done(None))),
                from_to(4, 5, delete(shared), Some(Outcome::Done(None))),
            ]
        };
        assert!(is_explained(&twice(true)));
        assert!(!is_explained(&twice(false)));
    }
}
