//! Deciders: pure decisions over folded events, with given/when/then for their tests.
//!
//! This crate defines the shape of a decision and nothing else: it has no time, ids, storage, serialization or threads. A
//! command carries everything that its decision needs to know.

pub mod testing;

/// The rules of one kind of stream: a fold over its events, and a decision for each command.
pub trait Decider {
    /// A request, with everything that the decision needs to know.
    type Command;
    /// The result of folding the events so far.
    type State;
    /// Something that has happened.
    type Event;
    /// The reason why a rule refuses a command.
    type Refusal;

    /// The state of a stream without events.
    fn initial() -> Self::State;

    /// The events that the command causes; empty if the state is already as requested.
    ///
    /// # Errors
    /// The refusal, if a rule refuses the command.
    fn decide(
        state: &Self::State,
        command: Self::Command,
    ) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// The state after the event. It cannot fail or refuse, because the event has already happened.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;
}

/// The state after all `events` of a stream, in order.
pub fn fold<'a, D>(events: impl IntoIterator<Item = &'a D::Event>) -> D::State
where
    D: Decider,
    D::Event: 'a,
{
    events.into_iter().fold(D::initial(), D::evolve)
}
