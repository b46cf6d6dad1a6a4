//! What the domain promises: by example, and under clocks, rivals and crashes that a generator makes up.

use event_sourcing::testing::given;
use uuid::Uuid;

use super::{
    id::{Id, MILLISECONDS, Tick},
    issuer::{Issued, Issuer, OutOfWindow},
    window::{
        AHEAD_MS, GrantWindow, Holder, SHORTEST_MS, Window, WindowGranted, WindowRefused,
        WorkerNumber,
    },
};

mod simulation;

const ADA: Holder = Holder(Uuid::from_u128(1));
const BOB: Holder = Holder(Uuid::from_u128(2));

fn ask(holder: Holder, now_ms: u64) -> GrantWindow {
    GrantWindow { holder, now_ms }
}

fn granted(holder: Holder, from_ms: u64, until_ms: u64) -> WindowGranted {
    let window = Window { from_ms, until_ms };
    WindowGranted { holder, window }
}

#[test]
fn an_unused_number_is_granted_from_now_on() {
    given::<WorkerNumber>([])
        .when(ask(ADA, 5_000))
        .then([granted(ADA, 5_000, 5_000 + AHEAD_MS)]);
}

#[test]
fn a_renewal_follows_the_window_before_it() {
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(ask(ADA, 5_000))
        .then([granted(ADA, 9_000, 5_000 + AHEAD_MS)]);
}

#[test]
fn a_late_renewal_leaves_out_what_is_past() {
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(ask(ADA, 10_000))
        .then([granted(ADA, 10_000, 10_000 + AHEAD_MS)]);
}

#[test]
fn a_number_changes_hands_only_when_its_last_window_is_over() {
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(ask(BOB, 8_999))
        .then_refused(WindowRefused::Held);
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(ask(BOB, 9_000))
        .then([granted(BOB, 9_000, 9_000 + AHEAD_MS)]);
}

#[test]
fn a_clock_that_stepped_back_is_never_leased_further_ahead() {
    let until = 100_000 + AHEAD_MS;
    given::<WorkerNumber>([granted(ADA, 100_000, until)])
        .when(ask(ADA, 50_000))
        .then_nothing();
    given::<WorkerNumber>([granted(ADA, 100_000, until)])
        .when(ask(ADA, 100_000 + SHORTEST_MS - 1))
        .then_nothing();
    given::<WorkerNumber>([granted(ADA, 100_000, until)])
        .when(ask(ADA, 100_000 + SHORTEST_MS))
        .then([granted(ADA, until, until + SHORTEST_MS)]);
}

#[test]
fn no_window_leaves_the_layout() {
    for now_ms in [MILLISECONDS - AHEAD_MS + 1, u64::MAX] {
        given::<WorkerNumber>([])
            .when(ask(ADA, now_ms))
            .then_refused(WindowRefused::PastTheLayout);
    }
}

#[test]
fn an_id_of_the_original_is_taken_apart_as_the_original_put_it_together() {
    let id = Id::parse(1_509_466_340_062_097_408).unwrap();
    let since_1970 = 1_420_070_400_000 + id.millisecond();
    assert_eq!(since_1970, 1_779_955_219_999, "2026-05-28T08:00:19.999Z");
    assert_eq!((id.worker(), id.sequence()), (247, 0));
    assert_eq!(id.number(), 1_509_466_340_062_097_408);
}

#[test]
fn a_number_with_the_sign_bit_is_no_id() {
    let greatest = Id::parse(i64::MAX.unsigned_abs()).unwrap();
    assert_eq!((greatest.worker(), greatest.sequence()), (1_023, 4_095));
    assert_eq!(Id::parse(i64::MAX.unsigned_abs() + 1), None);
}

fn id(millisecond: u64, worker: u16, sequence: u64) -> Id {
    Id::new(Tick::first_of(millisecond).plus(sequence), worker)
}

fn with_window(worker: u16, from_ms: u64, until_ms: u64) -> Issuer {
    let mut issuer = Issuer::default();
    issuer.grant(worker, Window { from_ms, until_ms });
    issuer
}

fn first_and_last(issued: Issued) -> (Id, Id) {
    let first = issued.clone().next().unwrap();
    (first, issued.last().unwrap())
}

#[test]
fn ids_are_of_the_clocks_millisecond() {
    let mut issuer = with_window(7, 100, 200);
    assert_eq!(
        issuer.issue(150, 1, None).unwrap().next(),
        Some(id(150, 7, 0))
    );
    assert_eq!(
        issuer.issue(150, 1, None).unwrap().next(),
        Some(id(150, 7, 1))
    );
    assert_eq!(
        issuer.issue(151, 1, None).unwrap().next(),
        Some(id(151, 7, 0))
    );
}

#[test]
fn an_exhausted_millisecond_is_followed_by_the_next() {
    let mut issuer = with_window(7, 100, 200);
    let ids = issuer.issue(150, 10_000, None).unwrap();
    assert_eq!(ids.len(), 10_000);
    assert_eq!(
        first_and_last(ids),
        (id(150, 7, 0), id(152, 7, 10_000 - 2 * 4_096 - 1))
    );
}

#[test]
fn a_clock_step_back_goes_on_from_the_last_millisecond() {
    let mut issuer = with_window(7, 100, 200);
    issuer.issue(150, 1, None).unwrap();
    assert_eq!(
        issuer.issue(120, 1, None).unwrap().next(),
        Some(id(150, 7, 1))
    );
}

#[test]
fn a_window_that_is_over_issues_nothing() {
    let mut issuer = with_window(7, 100, 200);
    let out = |wanted_until_ms| Some(OutOfWindow { wanted_until_ms });
    assert_eq!(issuer.issue(200, 1, None).err(), out(201));
    assert_eq!(issuer.issue(u64::MAX, 1, None).err(), out(u64::MAX));
    assert_eq!(issuer.issue(199, 4_097, None).err(), out(201));
    assert_eq!(issuer.issue(199, 4_096, None).unwrap().len(), 4_096);
}

#[test]
fn a_window_issues_nothing_before_it_begins() {
    let mut issuer = with_window(7, 100, 200);
    assert_eq!(
        issuer.issue(50, 1, None).unwrap().next(),
        Some(id(100, 7, 0))
    );
}

#[test]
fn after_is_answered_above_it_from_the_window_in_hand() {
    for (after, next) in [
        (id(160, 6, 4_095), id(160, 7, 0)),
        (id(160, 7, 9), id(160, 7, 10)),
        (id(160, 7, 4_095), id(161, 7, 0)),
        (id(160, 8, 0), id(161, 7, 0)),
        (id(20, 8, 0), id(150, 7, 0)),
    ] {
        let mut issuer = with_window(7, 100, 200);
        assert_eq!(
            issuer.issue(150, 1, Some(after)).unwrap().next(),
            Some(next)
        );
    }
    let mut issuer = with_window(7, 100, 200);
    let out = OutOfWindow {
        wanted_until_ms: 201,
    };
    assert_eq!(issuer.issue(150, 1, Some(id(199, 8, 0))).err(), Some(out));
    assert_eq!(
        issuer.issue(150, 1, None).unwrap().next(),
        Some(id(150, 7, 0)),
        "refused, so not used"
    );
}

#[test]
fn a_change_of_the_worker_number_goes_on_upwards() {
    let mut issuer = with_window(7, 100, 200);
    issuer.issue(150, 5, None).unwrap();
    issuer.grant(
        3,
        Window {
            from_ms: 150,
            until_ms: 250,
        },
    );
    assert_eq!(
        issuer.issue(150, 1, None).unwrap().next(),
        Some(id(151, 3, 0))
    );
}

#[test]
fn a_window_that_follows_extends_the_one_in_hand() {
    let mut issuer = with_window(7, 100, 200);
    issuer.grant(
        7,
        Window {
            from_ms: 200,
            until_ms: 300,
        },
    );
    assert_eq!(issuer.remaining_ms(150), 150);
    assert_eq!(
        issuer.issue(150, 1, None).unwrap().next(),
        Some(id(150, 7, 0))
    );
    issuer.issue(150, 1, Some(id(280, 7, 0))).unwrap();
    assert_eq!(
        issuer.remaining_ms(150),
        20,
        "what was issued counts as used"
    );
}
