use super::*;
use crate::domain::{Claim, UserError};

const USER: UserId = UserId::new(1);
const LIMITS: AttemptLimits = AttemptLimits {
    follows: 2,
    decisions: 1,
};
const TAKEN: NoEvent = NoEvent::Refused(UserError::UsernameTaken);

fn known(head: u64, done: Option<NoEvent>) -> KnownCommand {
    let user = USER;
    KnownCommand { user, head, done }
}

fn active(revision: u64) -> UserStatus {
    UserStatus::Active {
        claim: Claim::of("a", 0),
        revision,
    }
}

fn runs(head: u64, read_first: bool) -> AttemptStep {
    AttemptStep::Run {
        user: USER,
        head,
        read_first,
    }
}

fn nothing_found(status: UserStatus) -> AttemptSeen {
    let found = None;
    AttemptSeen::User { status, found }
}

fn refused(status: UserStatus) -> AttemptSeen {
    AttemptSeen::Ran(Decided::WithoutEvent(TAKEN, status))
}

fn without_event(replayed: bool) -> AttemptStep {
    AttemptStep::Done(AttemptOutcome::WithoutEvent {
        user: USER,
        reason: TAKEN,
        replayed,
    })
}

fn committed(revision: u64, replayed: bool) -> AttemptStep {
    AttemptStep::Done(AttemptOutcome::Committed {
        user: USER,
        revision,
        replayed,
    })
}

const GONE: AttemptStep = AttemptStep::Done(AttemptOutcome::Gone);
const CONTENDED: AttemptStep = AttemptStep::Done(AttemptOutcome::Contended);

/// The steps of an attempt whose results are `seen`.
fn steps(kind: CommandKind, seen: impl IntoIterator<Item = AttemptSeen>) -> Vec<AttemptStep> {
    let mut attempt = CommandAttempt::new(kind, LIMITS);
    let mut steps = vec![attempt.next()];
    for seen in seen {
        attempt.observe(seen);
        steps.push(attempt.next());
    }
    steps
}

/// What a process sees until it takes over the command at revision 1 of the memory.
fn taken_over() -> [AttemptSeen; 4] {
    [
        AttemptSeen::Known(known(0, None)),
        nothing_found(UserStatus::Absent),
        AttemptSeen::PatienceOver,
        AttemptSeen::Turn(USER, 1),
    ]
}

fn after_taking_over(
    kind: CommandKind,
    seen: impl IntoIterator<Item = AttemptSeen>,
) -> Vec<AttemptStep> {
    let seen = taken_over().into_iter().chain(seen);
    steps(kind, seen).split_off(4)
}

#[test]
fn a_new_command_is_accepted_and_decided() {
    let seen = [
        AttemptSeen::Turn(USER, 0),
        AttemptSeen::Ran(Decided::Committed(7)),
    ];
    let expected = [AttemptStep::Accept, runs(0, false), committed(7, false)];
    assert_eq!(steps(CommandKind::Create, seen), expected);
}

#[test]
fn a_command_that_is_accepted_with_its_outcome_has_ended() {
    let reason = NoEvent::Refused(UserError::Erased);
    let seen = [AttemptSeen::Settled(USER, reason)];
    let refused = AttemptStep::Done(AttemptOutcome::WithoutEvent {
        user: USER,
        reason,
        replayed: false,
    });
    let expected = [AttemptStep::Accept, refused];
    assert_eq!(steps(CommandKind::Delete, seen), expected);
}

#[test]
fn the_first_owner_stores_a_refusal_without_a_fence() {
    let seen = [
        AttemptSeen::Turn(USER, 0),
        refused(active(3)),
        AttemptSeen::Appended,
    ];
    let expected = [
        AttemptStep::Accept,
        runs(0, false),
        AttemptStep::Remember(TAKEN, 0),
        without_event(false),
    ];
    assert_eq!(steps(CommandKind::Patch, seen), expected);
}

#[test]
fn an_outcome_that_is_known_is_repeated() {
    let seen = [AttemptSeen::Known(known(1, Some(TAKEN)))];
    let expected = [AttemptStep::Accept, without_event(true)];
    assert_eq!(steps(CommandKind::Create, seen), expected);
    let seen = [
        AttemptSeen::Known(known(0, None)),
        AttemptSeen::User {
            status: active(5),
            found: Some(4),
        },
    ];
    let expected = [
        AttemptStep::Accept,
        AttemptStep::LookForEvent(USER),
        committed(4, true),
    ];
    assert_eq!(steps(CommandKind::Patch, seen), expected);
}

#[test]
fn a_repeated_command_waits_for_its_owner_and_then_takes_over() {
    let seen = [
        AttemptSeen::Known(known(0, None)),
        nothing_found(UserStatus::Absent),
        AttemptSeen::Waited,
        AttemptSeen::Known(known(1, None)),
        nothing_found(UserStatus::Absent),
        AttemptSeen::PatienceOver,
        AttemptSeen::Turn(USER, 2),
    ];
    let expected = [
        AttemptStep::Accept,
        AttemptStep::LookForEvent(USER),
        AttemptStep::Wait,
        AttemptStep::ReadMemory,
        AttemptStep::LookForEvent(USER),
        AttemptStep::Wait,
        AttemptStep::TakeOver(known(1, None)),
        runs(2, true),
    ];
    assert_eq!(steps(CommandKind::Create, seen), expected);
}

#[test]
fn waiting_for_an_owner_uses_up_no_attempt_to_follow_one() {
    let waited = [
        AttemptSeen::Known(known(0, None)),
        nothing_found(UserStatus::Absent),
        AttemptSeen::Waited,
    ];
    let many = LIMITS.follows as usize + 2;
    let steps = steps(
        CommandKind::Create,
        std::iter::repeat_n(waited, many).flatten(),
    );
    assert_eq!(steps.last(), Some(&AttemptStep::ReadMemory));
}

#[test]
fn an_attempt_that_has_ended_stays_as_it_ended() {
    let seen = [
        AttemptSeen::Turn(USER, 0),
        AttemptSeen::Ran(Decided::Committed(7)),
        AttemptSeen::Waited,
    ];
    let last = steps(CommandKind::Create, seen).pop();
    assert_eq!(last, Some(committed(7, false)));
}

#[test]
fn an_owner_who_took_over_fences_before_it_stores_a_refusal() {
    for (kind, status, fence, expected) in [
        (
            CommandKind::Create,
            UserStatus::Absent,
            Fence::RegistrationAbandoned,
            None,
        ),
        (CommandKind::Patch, active(3), Fence::RenameFenced, Some(3)),
        (CommandKind::Delete, active(3), Fence::RenameFenced, Some(3)),
    ] {
        let seen = [
            refused(status),
            AttemptSeen::Appended,
            AttemptSeen::Appended,
        ];
        let fence = AttemptStep::Fence {
            user: USER,
            fence,
            expected,
        };
        let expected = [
            runs(1, true),
            fence,
            AttemptStep::Remember(TAKEN, 1),
            without_event(false),
        ];
        assert_eq!(after_taking_over(kind, seen), expected);
    }
}

#[test]
fn nobody_is_fenced_who_can_commit_nothing() {
    for (kind, status) in [
        (CommandKind::Patch, UserStatus::Absent),
        (CommandKind::Create, UserStatus::Abandoned),
        (CommandKind::Delete, UserStatus::Abandoned),
    ] {
        let steps = after_taking_over(kind, [refused(status)]);
        assert_eq!(steps.last(), Some(&AttemptStep::Remember(TAKEN, 1)));
    }
}

#[test]
fn a_command_whose_fence_was_refused_is_decided_anew_after_a_read() {
    let refused = [refused(UserStatus::Absent), AttemptSeen::Refused];
    let steps = after_taking_over(CommandKind::Create, refused.clone());
    assert_eq!(steps.last(), Some(&runs(1, true)));
    let twice = refused.clone().into_iter().chain(refused);
    let steps = after_taking_over(CommandKind::Create, twice);
    assert_eq!(steps.last(), Some(&CONTENDED));
}

#[test]
fn an_owner_who_took_over_stores_no_refusal_of_an_erased_user() {
    for kind in [CommandKind::Create, CommandKind::Patch] {
        let steps = after_taking_over(kind, [refused(UserStatus::Erased)]);
        assert_eq!(steps.last(), Some(&GONE));
    }
    let seen = [refused(UserStatus::Erased), AttemptSeen::Appended];
    let steps_of_deletion = after_taking_over(CommandKind::Delete, seen);
    let remembered = AttemptStep::Remember(NoEvent::Unchanged(0), 1);
    assert_eq!(steps_of_deletion[1..], [remembered, committed(0, true)]);
    let seen = [AttemptSeen::Turn(USER, 0), refused(UserStatus::Erased)];
    let steps = steps(CommandKind::Patch, seen);
    assert_eq!(steps.last(), Some(&AttemptStep::Remember(TAKEN, 0)));
}

#[test]
fn after_an_erasure_a_deletion_waits_for_its_owner_and_all_else_is_gone() {
    for (kind, found, last) in [
        (CommandKind::Create, Some(0), GONE),
        (CommandKind::Patch, None, GONE),
        (CommandKind::Delete, Some(4), committed(4, true)),
        (CommandKind::Delete, None, AttemptStep::Wait),
    ] {
        let seen = [
            AttemptSeen::Known(known(0, None)),
            AttemptSeen::User {
                status: UserStatus::Erased,
                found,
            },
        ];
        assert_eq!(steps(kind, seen).last(), Some(&last));
    }
}

#[test]
fn a_creation_whose_id_is_used_goes_on_with_another_id() {
    let other = UserId::new(2);
    let seen = [
        AttemptSeen::Ran(Decided::IdUsed),
        AttemptSeen::Turn(other, 2),
        AttemptSeen::Ran(Decided::IdUsed),
    ];
    let expected = [
        runs(1, true),
        AttemptStep::TakeAnotherId(1),
        AttemptStep::Run {
            user: other,
            head: 2,
            read_first: false,
        },
        CONTENDED,
    ];
    assert_eq!(after_taking_over(CommandKind::Create, seen), expected);
}

#[test]
fn a_process_that_is_not_the_owner_any_more_follows_the_new_owner() {
    for seen in [
        AttemptSeen::Ran(Decided::Superseded),
        AttemptSeen::Ran(Decided::IdUsed),
        refused(UserStatus::Abandoned),
    ] {
        let seen = [AttemptSeen::Turn(USER, 0), seen, AttemptSeen::Refused];
        let steps = steps(CommandKind::Create, seen);
        assert!(steps.contains(&AttemptStep::ReadMemory), "{steps:?}");
    }
}

#[test]
fn a_process_that_always_loses_the_command_gives_up() {
    let lost = [
        AttemptSeen::Known(known(0, None)),
        nothing_found(UserStatus::Absent),
        AttemptSeen::PatienceOver,
        AttemptSeen::Refused,
    ];
    let all = std::iter::repeat_n(lost, 3).flatten();
    let steps = steps(CommandKind::Create, all);
    assert_eq!(steps.last(), Some(&CONTENDED));
    assert_eq!(steps.iter().filter(|step| **step == CONTENDED).count(), 1);
}

#[test]
fn a_command_that_was_forgotten_may_be_sent_again() {
    let seen = [
        AttemptSeen::Turn(USER, 0),
        AttemptSeen::Ran(Decided::Superseded),
        AttemptSeen::Forgotten,
    ];
    assert_eq!(steps(CommandKind::Create, seen).last(), Some(&CONTENDED));
}

#[test]
fn a_deletion_that_had_nothing_to_do_is_done() {
    let unchanged = NoEvent::Unchanged(3);
    let seen = [
        AttemptSeen::Turn(USER, 0),
        AttemptSeen::Ran(Decided::WithoutEvent(unchanged, UserStatus::Erased)),
        AttemptSeen::Appended,
    ];
    let first = steps(CommandKind::Delete, seen);
    assert_eq!(first.last(), Some(&committed(3, false)));
    let seen = [AttemptSeen::Known(known(1, Some(unchanged)))];
    let again = steps(CommandKind::Delete, seen);
    assert_eq!(again.last(), Some(&committed(3, true)));
}
