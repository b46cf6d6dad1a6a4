//! The promises of the domain, by example and under generated clocks, rivals and crashes.

use event_sourcing::testing::given;
use uuid::Uuid;

use super::{
    id::{Id, MILLISECONDS},
    window::{
        AHEAD_MS, GrantWindow, Holder, Purpose, SHORTEST_MS, Window, WindowGranted, WindowRefused,
        WorkerNumber,
    },
};

mod issuing;
mod simulation;

const ADA: Holder = Holder(Uuid::from_u128(1));
const BOB: Holder = Holder(Uuid::from_u128(2));

fn take(holder: Holder, now_ms: u64) -> GrantWindow {
    GrantWindow {
        holder,
        now_ms,
        purpose: Purpose::Take,
    }
}

fn renew(holder: Holder, now_ms: u64) -> GrantWindow {
    GrantWindow {
        holder,
        now_ms,
        purpose: Purpose::Renew,
    }
}

fn granted(holder: Holder, from_ms: u64, until_ms: u64) -> WindowGranted {
    let window = Window { from_ms, until_ms };
    WindowGranted { holder, window }
}

#[test]
fn an_unused_number_is_granted_from_now_on() {
    given::<WorkerNumber>([])
        .when(take(ADA, 5_000))
        .then([granted(ADA, 5_000, 5_000 + AHEAD_MS)]);
}

#[test]
fn a_renewal_follows_the_window_before_it() {
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(renew(ADA, 5_000))
        .then([granted(ADA, 9_000, 5_000 + AHEAD_MS)]);
}

#[test]
fn a_late_renewal_begins_now() {
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(renew(ADA, 10_000))
        .then([granted(ADA, 10_000, 10_000 + AHEAD_MS)]);
}

#[test]
fn a_number_changes_hands_only_when_its_last_window_is_over() {
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(take(BOB, 8_999))
        .then_refused(WindowRefused::Held);
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(take(BOB, 9_000))
        .then([granted(BOB, 9_000, 9_000 + AHEAD_MS)]);
}

#[test]
fn a_holder_takes_its_own_number_only_when_the_last_window_is_over_too() {
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(take(ADA, 8_999))
        .then_refused(WindowRefused::Held);
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(take(ADA, 9_000))
        .then([granted(ADA, 9_000, 9_000 + AHEAD_MS)]);
}

#[test]
fn only_the_holder_renews_a_number() {
    given::<WorkerNumber>([granted(ADA, 0, 9_000)])
        .when(renew(BOB, 9_000))
        .then_refused(WindowRefused::Held);
}

#[test]
fn after_a_step_back_no_window_ends_further_ahead_of_the_clock() {
    let until = 100_000 + AHEAD_MS;
    given::<WorkerNumber>([granted(ADA, 100_000, until)])
        .when(renew(ADA, 50_000))
        .then_nothing();
    given::<WorkerNumber>([granted(ADA, 100_000, until)])
        .when(renew(ADA, 100_000 + SHORTEST_MS - 1))
        .then_nothing();
    given::<WorkerNumber>([granted(ADA, 100_000, until)])
        .when(renew(ADA, 100_000 + SHORTEST_MS))
        .then([granted(ADA, until, until + SHORTEST_MS)]);
}

#[test]
fn no_window_leaves_the_layout() {
    for now_ms in [MILLISECONDS - AHEAD_MS + 1, u64::MAX] {
        given::<WorkerNumber>([])
            .when(take(ADA, now_ms))
            .then_refused(WindowRefused::PastTheLayout);
    }
}

#[test]
fn an_id_of_the_original_service_is_parsed_into_its_parts() {
    let id = Id::parse(1_509_466_340_062_097_408).unwrap();
    let since_1970 = 1_420_070_400_000 + id.millisecond();
    assert_eq!(since_1970, 1_779_955_219_999, "2026-05-28T08:00:19.999Z");
    assert_eq!((id.worker(), id.sequence()), (247, 0));
    assert_eq!(id.number(), 1_509_466_340_062_097_408);
}

#[test]
fn a_number_with_the_sign_bit_is_not_an_id() {
    let greatest = Id::parse(i64::MAX.unsigned_abs()).unwrap();
    assert_eq!((greatest.worker(), greatest.sequence()), (1_023, 4_095));
    assert_eq!(Id::parse(i64::MAX.unsigned_abs() + 1), None);
}
