//! The promises of the domain, by example and under generated clocks, rivals and crashes.

use event_sourcing::testing::given;
use uuid::Uuid;

use super::{
    id::{Id, MILLISECONDS},
    window::{
        AHEAD_MS, GrantWindow, Holder, NumberCommand, Purpose, RaiseFloor, SHORTEST_MS, Window,
        WindowGranted, WindowRefused, WorkerNumber,
    },
};

mod issuing;
mod simulation;

const ADA: Holder = Holder(Uuid::from_u128(1));
const BOB: Holder = Holder(Uuid::from_u128(2));

fn take(holder: Holder, now_ms: u64) -> NumberCommand {
    grant(holder, now_ms, Purpose::Take)
}

fn renew(holder: Holder, now_ms: u64) -> NumberCommand {
    grant(holder, now_ms, Purpose::Renew)
}

fn grant(holder: Holder, now_ms: u64, purpose: Purpose) -> NumberCommand {
    NumberCommand::Grant(GrantWindow {
        holder,
        now_ms,
        purpose,
    })
}

fn raise_floor(floor_ms: u64, now_ms: u64) -> NumberCommand {
    NumberCommand::RaiseFloor(RaiseFloor { floor_ms, now_ms })
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
fn a_floor_is_a_window_of_nobody() {
    given::<WorkerNumber>([])
        .when(raise_floor(9_000, 5_000))
        .then([granted(Holder::NOBODY, 0, 9_000)]);
    given::<WorkerNumber>([granted(ADA, 0, 4_000)])
        .when(raise_floor(9_000, 5_000))
        .then([granted(Holder::NOBODY, 4_000, 9_000)]);
}

#[test]
fn no_window_begins_before_the_floor() {
    let floor = granted(Holder::NOBODY, 4_000, 9_000);
    for refused in [take(BOB, 8_999), renew(ADA, 8_999)] {
        given::<WorkerNumber>([granted(ADA, 0, 4_000), floor])
            .when(refused)
            .then_refused(WindowRefused::Held);
    }
    given::<WorkerNumber>([granted(ADA, 0, 4_000), floor])
        .when(take(BOB, 9_000))
        .then([granted(BOB, 9_000, 9_000 + AHEAD_MS)]);
}

#[test]
fn a_floor_can_be_raised_twice_and_is_never_lowered() {
    let floor = granted(Holder::NOBODY, 0, 9_000);
    given::<WorkerNumber>([floor])
        .when(raise_floor(9_000, 5_000))
        .then_nothing();
    given::<WorkerNumber>([floor])
        .when(raise_floor(9_500, 5_000))
        .then([granted(Holder::NOBODY, 9_000, 9_500)]);
    given::<WorkerNumber>([floor])
        .when(raise_floor(8_999, 5_000))
        .then_refused(WindowRefused::FloorTooLow { until_ms: 9_000 });
}

#[test]
fn a_floor_is_refused_while_a_process_may_run_and_below_what_was_granted() {
    let until_ms = 9_000;
    given::<WorkerNumber>([granted(ADA, 0, until_ms)])
        .when(raise_floor(10_000, 8_999))
        .then_refused(WindowRefused::InUse { until_ms });
    given::<WorkerNumber>([granted(ADA, 0, until_ms)])
        .when(raise_floor(8_999, 9_000))
        .then_refused(WindowRefused::FloorTooLow { until_ms });
    given::<WorkerNumber>([])
        .when(raise_floor(MILLISECONDS + 1, 9_000))
        .then_refused(WindowRefused::PastTheLayout);
}

#[test]
fn a_window_that_overlaps_the_one_before_it_spoils_the_number() {
    for strangers in [
        granted(BOB, 0, 1),
        granted(BOB, 8_999, 20_000),
        granted(BOB, 9_000, 9_000),
        granted(BOB, 9_001, 9_000),
    ] {
        for refused in [take(BOB, 100_000), raise_floor(100_000, 100_000)] {
            given::<WorkerNumber>([granted(ADA, 0, 9_000), strangers])
                .when(refused)
                .then_refused(WindowRefused::Spoiled);
        }
        given::<WorkerNumber>([
            granted(ADA, 0, 9_000),
            strangers,
            granted(ADA, 50_000, 60_000),
        ])
        .when(renew(ADA, 60_000))
        .then_refused(WindowRefused::Spoiled);
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
