//! The ids that one process issues, by example.

use crate::domain::{
    id::{Id, Tick},
    issuer::{Issuer, Need, Refusal},
    window::{AHEAD_MS, Window},
};

fn id(millisecond: u64, worker: u16, sequence: u64) -> Id {
    Id::new(Tick::first_of(millisecond).plus(sequence), worker)
}

fn with_window(worker: u16, from_ms: u64, until_ms: u64) -> Issuer {
    let mut issuer = Issuer::default();
    issuer.grant(worker, Window { from_ms, until_ms });
    issuer
}

/// The first and the last of `count` ids.
fn ends(issuer: &mut Issuer, now_ms: u64, count: u16, after: Option<Id>) -> (Id, Id) {
    let given = issuer.issue(now_ms, count, after).unwrap();
    assert_eq!(given.ids().count(), usize::from(count));
    assert_eq!(given.count(), usize::from(count));
    let first = given.ids().next().unwrap();
    (first, given.ids().last().unwrap())
}

fn one(issuer: &mut Issuer, now_ms: u64) -> Id {
    ends(issuer, now_ms, 1, None).0
}

fn above(issuer: &mut Issuer, now_ms: u64, after: Id) -> Id {
    ends(issuer, now_ms, 1, Some(after)).0
}

fn refusal(issuer: &mut Issuer, now_ms: u64, count: u16, after: Option<Id>) -> Refusal {
    issuer.issue(now_ms, count, after).unwrap_err()
}

#[test]
fn ids_carry_the_clocks_millisecond() {
    let mut issuer = with_window(7, 100, 200);
    assert_eq!(one(&mut issuer, 150), id(150, 7, 0));
    assert_eq!(one(&mut issuer, 150), id(150, 7, 1));
    assert_eq!(one(&mut issuer, 151), id(151, 7, 0));
}

#[test]
fn an_exhausted_millisecond_is_followed_by_the_next() {
    let mut issuer = with_window(7, 100, 200);
    assert_eq!(
        ends(&mut issuer, 150, 10_000, None),
        (id(150, 7, 0), id(152, 7, 10_000 - 2 * 4_096 - 1))
    );
}

#[test]
fn a_clock_step_back_goes_on_from_the_last_millisecond() {
    let mut issuer = with_window(7, 100, 200);
    one(&mut issuer, 150);
    assert_eq!(one(&mut issuer, 120), id(150, 7, 1));
}

#[test]
fn a_window_that_is_over_issues_nothing() {
    let mut issuer = with_window(7, 100, 200);
    for (now_ms, count) in [(200, 1), (u64::MAX, 1), (199, 4_097)] {
        assert_eq!(
            refusal(&mut issuer, now_ms, count, None),
            Refusal::OutOfWindow
        );
    }
    ends(&mut issuer, 199, 4_096, None);
}

#[test]
fn a_window_issues_nothing_before_it_begins() {
    let mut issuer = with_window(7, 100, 200);
    assert_eq!(one(&mut issuer, 50), id(100, 7, 0));
}

#[test]
fn the_shared_sequence_leads_the_clock_by_a_second_at_most() {
    let mut issuer = with_window(7, 5_000, 65_000);
    assert_eq!(one(&mut issuer, 4_000), id(5_000, 7, 0));
    let too_early = Refusal::AheadOfTheClock { by_ms: 1 };
    assert_eq!(refusal(&mut issuer, 3_999, 1, None), too_early);
    assert_eq!(refusal(&mut issuer, 4_000, 4_096, None), too_early);
    assert_eq!(
        ends(&mut issuer, 4_000, 4_095, None),
        (id(5_000, 7, 1), id(5_000, 7, 4_095))
    );
    assert_eq!(refusal(&mut issuer, 4_000, 1, None), too_early);
    assert_eq!(one(&mut issuer, 4_001), id(5_001, 7, 0));
}

#[test]
fn ids_after_an_id_are_greater_and_come_from_the_current_window() {
    for (after, next) in [
        (id(160, 6, 4_095), id(160, 7, 0)),
        (id(160, 7, 9), id(161, 7, 0)),
        (id(160, 7, 4_095), id(161, 7, 0)),
        (id(160, 8, 0), id(161, 7, 0)),
        (id(150, 7, 0), id(151, 7, 0)),
        (id(150, 6, 9), id(150, 7, 0)),
        (id(20, 8, 0), id(150, 7, 0)),
    ] {
        let mut issuer = with_window(7, 100, 200);
        assert_eq!(above(&mut issuer, 150, after), next);
    }
    let mut issuer = with_window(7, 100, 200);
    assert_eq!(
        refusal(&mut issuer, 150, 1, Some(id(199, 8, 0))),
        Refusal::OutOfWindow
    );
    assert_eq!(
        one(&mut issuer, 150),
        id(150, 7, 0),
        "a refusal uses up no id"
    );
}

#[test]
fn ids_issued_ahead_move_nobody_else_and_are_not_issued_again() {
    let mut issuer = with_window(7, 100, 60_100);
    let after = id(1_000, 6, 0);
    assert_eq!(
        ends(&mut issuer, 150, 5_000, Some(after)),
        (id(1_000, 7, 0), id(1_001, 7, 5_000 - 4_096 - 1))
    );
    assert_eq!(one(&mut issuer, 150), id(150, 7, 0));
    assert_eq!(above(&mut issuer, 150, after), id(1_001, 7, 904));
    assert_eq!(
        above(&mut issuer, 150, id(1_001, 7, 904)),
        id(1_001, 7, 905)
    );
    assert_eq!(above(&mut issuer, 150, id(1_100, 6, 0)), id(1_100, 7, 0));
    // When the shared sequence reaches these ticks, it skips those issued ahead and takes all others.
    assert_eq!(one(&mut issuer, 999), id(999, 7, 0));
    assert_eq!(one(&mut issuer, 1_000), id(1_001, 7, 906));
    assert_eq!(
        ends(&mut issuer, 1_099, 4_097, None),
        (id(1_099, 7, 0), id(1_100, 7, 1))
    );
}

#[test]
fn after_may_lead_the_later_of_clock_and_last_id_by_two_seconds() {
    let last = |millisecond| id(millisecond, 6, 4_095);
    let mut issuer = with_window(7, 100, 60_100);
    assert_eq!(
        above(&mut issuer, 10_000, last(12_000)),
        id(12_000, 7, 0),
        "by the clock"
    );
    for too_far in [12_001, 60_000, 3_600_000, (1 << 41) - 1] {
        assert_eq!(
            refusal(&mut issuer, 10_000, 1, Some(last(too_far))),
            Refusal::AfterTooFar
        );
    }
    one(&mut issuer, 10_500);
    assert_eq!(
        above(&mut issuer, 10_000, last(12_500)),
        id(12_500, 7, 0),
        "by the last id"
    );
    assert_eq!(
        refusal(&mut issuer, 10_000, 1, Some(last(12_501))),
        Refusal::AfterTooFar
    );
    let mut without_a_window = Issuer::default();
    assert_eq!(
        refusal(&mut without_a_window, 10_000, 1, Some(last(12_001))),
        Refusal::AfterTooFar
    );
}

#[test]
fn after_is_never_refused_for_an_id_that_was_issued_ahead() {
    let mut issuer = with_window(7, 100, 60_100);
    let (_, last) = ends(&mut issuer, 10_000, 10_000, Some(id(12_000, 6, 0)));
    assert_eq!(last.millisecond(), 12_002);
    let following = id(12_002, 7, last.sequence() + 1);
    assert_eq!(above(&mut issuer, 10_000, last), following);
    assert_eq!(
        refusal(&mut issuer, 10_000, 1, Some(id(12_002, 7, 4_095))),
        Refusal::AfterTooFar,
        "it was never issued"
    );
    // Another number takes over at the same time, and still accepts the id.
    let (from_ms, until_ms) = (10_000, 70_000);
    issuer.grant(3, Window { from_ms, until_ms });
    assert_eq!(above(&mut issuer, 10_000, following), id(12_003, 3, 0));
    // After a long step back the sequence restarts. An id this far ahead would make its caller wait for the clock.
    let (from_ms, until_ms) = (5_000, 65_000);
    issuer.grant(4, Window { from_ms, until_ms });
    assert_eq!(
        refusal(&mut issuer, 5_000, 1, Some(following)),
        Refusal::AfterTooFar
    );
}

#[test]
fn an_answer_ahead_ends_at_most_a_second_beyond_the_farthest_after() {
    let mut issuer = with_window(7, 100, 60_100);
    let farthest = Some(id(12_000, 7, 4_095));
    while issuer.issue(10_000, 10_000, farthest).is_ok() {}
    assert_eq!(
        refusal(&mut issuer, 10_000, 10_000, farthest),
        Refusal::AheadOfTheClock { by_ms: 1 }
    );
    assert_eq!(one(&mut issuer, 10_000), id(10_000, 7, 0));
}

#[test]
fn a_change_of_the_worker_number_goes_on_upwards() {
    let mut issuer = with_window(7, 100, 200);
    ends(&mut issuer, 150, 5, None);
    let (from_ms, until_ms) = (150, 250);
    issuer.grant(3, Window { from_ms, until_ms });
    assert_eq!(one(&mut issuer, 150), id(151, 3, 0));
}

#[test]
fn a_new_number_far_below_the_last_id_restarts_the_sequence_there() {
    let mut issuer = with_window(7, 3_600_000, 3_660_000);
    one(&mut issuer, 3_600_000);
    let (from_ms, until_ms) = (5_000, 65_000);
    issuer.grant(3, Window { from_ms, until_ms });
    assert_eq!(one(&mut issuer, 5_000), id(5_000, 3, 0));
    assert_eq!(one(&mut issuer, 5_000), id(5_000, 3, 1));
}

#[test]
fn a_following_window_extends_the_current_one() {
    let mut issuer = with_window(7, 100, 200);
    let (from_ms, until_ms) = (200, 300);
    issuer.grant(7, Window { from_ms, until_ms });
    assert_eq!(one(&mut issuer, 150), id(150, 7, 0));
    assert_eq!(one(&mut issuer, 199), id(199, 7, 0));
    assert_eq!(one(&mut issuer, 299), id(299, 7, 0));
}

#[test]
fn the_clock_decides_when_a_window_or_another_number_is_needed() {
    assert_eq!(Issuer::default().need(0), Need::Number);
    let mut issuer = with_window(7, 100_000, 100_000 + AHEAD_MS);
    one(&mut issuer, 105_000);
    above(&mut issuer, 105_000, id(107_000, 0, 0));
    for (now_ms, need) in [
        (105_000, Need::Nothing),
        (120_000, Need::Nothing),
        (120_001, Need::Window),
        (u64::MAX, Need::Window),
        (105_000 - AHEAD_MS, Need::Nothing),
        (105_000 - AHEAD_MS - 1, Need::Number),
        (0, Need::Number),
    ] {
        assert_eq!(issuer.need(now_ms), need, "at {now_ms}");
    }
}
