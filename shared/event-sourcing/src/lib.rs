//! Deciders: pure decisions over folded events, with given/when/then for their tests.
//!
//! Owns the shape of a decision and nothing else: knows nothing of time, ids, storage, serialization or threads.
//! What a decision must know of the world travels in its command.

pub mod testing;

/// How one kind of stream decides: a fold over its events, and a rule for each command.
pub trait Decider {
    /// What somebody asks for, with everything that the decision must know.
    type Command;
    /// What the events so far amount to.
    type State;
    /// What has happened.
    type Event;
    /// Why a rule said no.
    type Refusal;

    /// The state of a stream without events.
    fn initial() -> Self::State;

    /// The events that the command makes; none when it is already so.
    ///
    /// # Errors
    /// The refusal, when a rule says no.
    fn decide(
        state: &Self::State,
        command: Self::Command,
    ) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// The state after the event. Never fails and never judges: the event has happened.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;
}

/// The state after `events`, in their order, from the very beginning.
pub fn fold<'a, D>(events: impl IntoIterator<Item = &'a D::Event>) -> D::State
where
    D: Decider,
    D::Event: 'a,
{
    events.into_iter().fold(D::initial(), D::evolve)
}
