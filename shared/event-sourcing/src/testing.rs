//! Given/when/then: tests of a decider that read as prose.
//!
//! `given::<Door>([Opened]).when(Close).then([Closed])`. A failed check panics and shows both sides.

use std::fmt::Debug;

use crate::{Decider, fold};

/// The events before the command.
#[must_use]
pub struct Given<D: Decider> {
    events: Vec<D::Event>,
}

/// The decision about the command.
#[must_use]
pub struct When<D: Decider> {
    events: Vec<D::Event>,
    decided: Result<Vec<D::Event>, D::Refusal>,
}

/// Begins a test with the events that the stream already has.
pub fn given<D: Decider>(events: impl IntoIterator<Item = D::Event>) -> Given<D> {
    Given {
        events: events.into_iter().collect(),
    }
}

impl<D: Decider> Given<D> {
    /// Decides the command after the given events.
    pub fn when(self, command: D::Command) -> When<D> {
        let decided = D::decide(&fold::<D>(&self.events), command);
        When {
            events: self.events,
            decided,
        }
    }
}

impl<D: Decider> When<D>
where
    D::Event: PartialEq + Debug,
    D::Refusal: PartialEq + Debug,
{
    /// Continues with the given and the decided events, so that several commands read as a story.
    ///
    /// # Panics
    /// If the command was refused.
    #[track_caller]
    pub fn and(mut self) -> Given<D> {
        match self.decided {
            Ok(events) => self.events.extend(events),
            Err(refusal) => panic!("refused: {refusal:?}"),
        }
        Given {
            events: self.events,
        }
    }

    /// Checks that exactly these events were decided.
    ///
    /// # Panics
    /// If other events were decided, or the command was refused.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = D::Event>) {
        assert_eq!(self.decided, Ok(expected.into_iter().collect()));
    }

    /// Checks that no event was decided, because the state was already as requested.
    ///
    /// # Panics
    /// If an event was decided, or the command was refused.
    #[track_caller]
    pub fn then_nothing(self) {
        self.then([]);
    }

    /// Checks that the command was refused for this reason.
    ///
    /// # Panics
    /// If it was not refused, or for another reason.
    #[track_caller]
    pub fn then_refused(self, expected: D::Refusal) {
        assert_eq!(self.decided, Err(expected));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Door;

    #[derive(Debug, PartialEq)]
    enum DoorEvent {
        Opened,
        Closed,
    }

    enum DoorCommand {
        Open,
        Knock,
    }

    #[derive(Debug, PartialEq)]
    struct AlreadyOpen;

    impl Decider for Door {
        type Command = DoorCommand;
        type State = bool;
        type Event = DoorEvent;
        type Refusal = AlreadyOpen;

        fn initial() -> bool {
            false
        }

        fn decide(open: &bool, command: DoorCommand) -> Result<Vec<DoorEvent>, AlreadyOpen> {
            match (open, command) {
                (true, DoorCommand::Open) => Err(AlreadyOpen),
                (false, DoorCommand::Open) => Ok(vec![DoorEvent::Opened]),
                (_, DoorCommand::Knock) => Ok(vec![]),
            }
        }

        fn evolve(_: bool, event: &DoorEvent) -> bool {
            *event == DoorEvent::Opened
        }
    }

    #[test]
    fn the_given_events_are_folded_in_order() {
        given::<Door>([DoorEvent::Opened, DoorEvent::Closed])
            .when(DoorCommand::Open)
            .then([DoorEvent::Opened]);
    }

    #[test]
    fn a_story_continues_with_the_decided_events() {
        given::<Door>([])
            .when(DoorCommand::Open)
            .and()
            .when(DoorCommand::Open)
            .then_refused(AlreadyOpen);
    }

    #[test]
    fn a_command_without_events_decides_nothing() {
        given::<Door>([]).when(DoorCommand::Knock).then_nothing();
    }

    #[test]
    #[should_panic(expected = "assertion")]
    fn an_event_that_was_not_decided_fails_the_test() {
        given::<Door>([])
            .when(DoorCommand::Knock)
            .then([DoorEvent::Opened]);
    }
}
