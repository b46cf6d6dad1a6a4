//! Tests of the state machine: chosen cases, and random ones.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::{Duration, Instant};

use super::*;
use crate::event::{Position, RecordedEvent};
use crate::persistent::settings::{StartFrom, Strategy as Consumers};
use crate::stream_name::StreamName;

const NOTHING: [u64; 0] = [];
const MOST_RETRIES: i32 = 2;
const TIMEOUT: Duration = Duration::from_secs(30);

fn settings(strategy: Consumers) -> Settings {
    Settings {
        resolve_link_tos: false,
        extra_statistics: false,
        start_from: StartFrom::Start,
        message_timeout: 30_000,
        max_retry_count: MOST_RETRIES,
        live_buffer_size: 500,
        history_buffer_size: 40,
        read_batch_size: 4,
        check_point_after: 2_000,
        min_check_point_count: 3,
        max_check_point_count: 10,
        max_subscriber_count: 0,
        named_consumer_strategy: strategy,
        filter: None,
    }
}

fn id(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

/// The event with this number as its revision. The number also chooses its stream.
fn event(number: u64, id: Uuid, correlation: &str) -> ResolvedEvent {
    let record = RecordedEvent {
        position: Position(number),
        stream: StreamName::stored(&format!("s-{}", number % 3)),
        revision: number,
        id,
        created: 0,
        event_type: "happened".to_owned(),
        is_json: true,
        data: Bytes::new(),
        metadata: format!(r#"{{"$correlationId":"{correlation}"}}"#).into(),
    };
    ResolvedEvent {
        position: record.position,
        event: Some(record),
        link: None,
    }
}

struct Table {
    group: Group,
    now: Instant,
}

impl Table {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            group: Group::new(settings, None, now),
            now,
        }
    }

    fn strategy(strategy: Consumers) -> Self {
        Self::new(settings(strategy))
    }

    fn read(&mut self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            self.group.read(number, event(number, id(number), "one"));
        }
    }

    fn join(&mut self, buffer_size: usize) -> ClientId {
        self.group.connect(Peer::default(), buffer_size).unwrap()
    }

    fn outputs(&mut self) -> Vec<Output> {
        self.group.push(self.now);
        self.group.outputs()
    }

    /// The events that were sent: client, number, and retry count.
    fn sent(&mut self) -> Vec<(ClientId, u64, i32)> {
        let sent = |output| match output {
            Output::Push(client, message) => Some((client, number(&message), message.retry_count)),
            Output::Park(..) | Output::Checkpoint(_) | Output::Replayed(_) => None,
        };
        self.outputs().into_iter().filter_map(sent).collect()
    }

    fn sent_to(&mut self, client: ClientId) -> Vec<u64> {
        let sent = self.sent().into_iter();
        sent.filter(|sent| sent.0 == client)
            .map(|sent| sent.1)
            .collect()
    }

    fn ack(&mut self, number: u64) {
        self.group.ack(&[id(number)], self.now);
    }

    fn retry(&mut self, number: u64) {
        self.group
            .nack(&[id(number)], NackAction::Retry, "", self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.group.tick(self.now);
    }

    fn checkpoints(&mut self) -> Vec<u64> {
        let place = |output| match output {
            Output::Checkpoint(place) => Some(place),
            Output::Push(..) | Output::Park(..) | Output::Replayed(_) => None,
        };
        self.outputs().into_iter().filter_map(place).collect()
    }
}

fn number(message: &Message) -> u64 {
    message.event.position.0
}

#[test]
fn a_client_never_has_more_events_in_flight_than_its_buffer_size() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    let client = table.join(2);
    table.read(0..4);
    assert_eq!(table.sent_to(client), [0, 1]);
    assert_eq!(table.sent_to(client), NOTHING);
    table.ack(1);
    assert_eq!(table.sent_to(client), [2]);
}

#[test]
fn clients_take_turns() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    let (one, two) = (table.join(9), table.join(9));
    table.read(0..4);
    let sent: Vec<_> = table.sent().into_iter().map(|sent| sent.0).collect();
    assert_eq!(sent, [one, two, one, two]);
}

#[test]
fn a_single_client_gets_everything_until_it_is_full() {
    let mut table = Table::strategy(Consumers::DispatchToSingle);
    let (one, two) = (table.join(2), table.join(9));
    table.read(0..4);
    let sent: Vec<_> = table.sent().into_iter().map(|sent| sent.0).collect();
    assert_eq!(sent, [one, one, two, two]);
}

#[test]
fn a_stream_stays_with_its_client_even_when_the_client_is_full() {
    let mut table = Table::strategy(Consumers::Pinned);
    let clients = [table.join(1), table.join(1), table.join(1)];
    table.read(0..6);
    let first = table.sent();
    let of_stream: HashMap<u64, ClientId> = first.iter().map(|s| (s.1 % 3, s.0)).collect();
    assert_eq!(of_stream.len(), clients.len(), "{first:?}");
    for number in 0..3 {
        table.ack(number);
    }
    let then = table.sent();
    assert_eq!(then.len(), 3);
    assert!(then.iter().all(|sent| of_stream[&(sent.1 % 3)] == sent.0));
}

#[test]
fn correlated_events_of_several_streams_go_to_one_client() {
    let mut table = Table::strategy(Consumers::PinnedByCorrelation);
    let _clients = [table.join(99), table.join(99)];
    table.read(0..9);
    let clients: HashSet<_> = table.sent().into_iter().map(|sent| sent.0).collect();
    assert_eq!(clients.len(), 1);
}

#[test]
fn the_events_of_a_lost_client_are_retried_first_and_in_order() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    let one = table.join(3);
    table.read(0..5);
    assert_eq!(table.sent_to(one), [0, 1, 2]);
    table.ack(0);
    table.group.disconnect(one);
    let two = table.join(9);
    assert_eq!(
        table.sent(),
        [(two, 1, 1), (two, 2, 1), (two, 3, 0), (two, 4, 0)]
    );
}

#[test]
fn events_of_lost_clients_are_retried_however_often_and_never_parked() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    table.read(0..1);
    for retries in 0..=MOST_RETRIES + 2 {
        let client = table.join(1);
        assert_eq!(table.sent(), [(client, 0, retries)]);
        table.group.disconnect(client);
    }
    let outputs = table.outputs();
    assert!(outputs.is_empty(), "{outputs:?}");
}

#[test]
fn a_checkpoint_becomes_due_even_when_the_clients_are_gone() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    let client = table.join(9);
    table.read(0..3);
    assert_eq!(table.sent().len(), 3);
    (0..3).for_each(|number| table.ack(number));
    table.group.disconnect(client);
    assert!(table.group.is_busy(), "a checkpoint is still due");
    table.wait(Duration::from_secs(3));
    assert_eq!(table.checkpoints(), [2]);
    assert!(!table.group.is_busy(), "nothing is due");
}

#[test]
fn a_group_that_ends_checkpoints_what_is_settled_however_little() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    table.join(9);
    table.read(0..3);
    assert_eq!(table.sent().len(), 3);
    table.group.finish(table.now);
    assert_eq!(table.checkpoints(), NOTHING);
    table.ack(0);
    table.ack(2);
    table.group.finish(table.now);
    assert_eq!(table.checkpoints(), [0]);
}

#[test]
fn a_replayed_event_is_reported_when_it_is_settled() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    table.join(9);
    table.group.replay(7, event(100, id(100), "one"));
    assert_eq!(table.sent().len(), 1);
    table.ack(100);
    let outputs = table.outputs();
    assert!(matches!(outputs[..], [Output::Replayed(7)]), "{outputs:?}");
}

#[test]
fn a_bounded_number_of_parked_events_is_replayed_at_a_time() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    table.join(1_000);
    let room = table.group.room_to_replay().unwrap() as u64;
    (0..room).for_each(|n| table.group.replay(n, event(n, id(n), "one")));
    assert_eq!(table.sent().len() as u64, room);
    assert_eq!(table.group.room_to_replay(), None);
    (0..room).for_each(|number| table.ack(number));
    assert_eq!(table.group.room_to_replay(), Some(MOST_REPLAYED));
}

/// A link to revision 0 of `target`, with or without that event.
fn link(number: u64, target: &str, resolved: bool) -> ResolvedEvent {
    let mut read = event(number, id(number), "one");
    let mut link = read.event.take().unwrap();
    link.stream = StreamName::stored("links");
    link.event_type = crate::event::LINK.to_owned();
    link.data = format!("0@{target}").into();
    let (event, link) = if resolved {
        (None, Some(link))
    } else {
        (Some(link), None)
    };
    ResolvedEvent {
        event,
        link,
        position: read.position,
    }
}

#[test]
fn a_link_is_pinned_by_its_target_stream_even_when_its_event_is_gone() {
    for resolved in [false, true] {
        let mut table = Table::strategy(Consumers::Pinned);
        let clients = [table.join(99), table.join(99)];
        for number in 0..8 {
            let link = link(number, &format!("s-{}", number % 4), resolved);
            table.group.read(number, link);
        }
        let sent = table.sent();
        for client in clients {
            let of_client = sent.iter().filter(|sent| sent.0 == client);
            let streams: Vec<u64> = of_client.map(|sent| sent.1 % 4).collect();
            assert_eq!(streams.len(), 4, "{sent:?}");
            assert_eq!(streams[..2], streams[2..], "{sent:?}");
        }
    }
}

#[test]
fn an_unsettled_event_times_out_and_is_retried_until_it_is_parked() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    let client = table.join(1);
    table.read(0..1);
    for retries in 0..=MOST_RETRIES {
        assert_eq!(table.sent(), [(client, 0, retries)]);
        table.wait(TIMEOUT / 2);
        assert!(table.sent().is_empty());
        table.wait(TIMEOUT / 2);
    }
    let outputs = table.outputs();
    let [Output::Park(message, reason)] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!(
        (number(message), &reason[..]),
        (0, "Reached retry count of 2")
    );
}

#[test]
fn a_client_may_retry_skip_park_or_ignore_an_event() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    let client = table.join(9);
    table.read(0..4);
    assert_eq!(table.sent_to(client), [0, 1, 2, 3]);
    table.retry(0);
    table.group.nack(&[id(1)], NackAction::Skip, "", table.now);
    table
        .group
        .nack(&[id(2)], NackAction::Park, "no", table.now);
    table.group.nack(&[id(3)], NackAction::Stop, "", table.now);
    let outputs = table.outputs();
    let [Output::Park(parked, reason), Output::Push(_, retries)] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!((number(parked), number(retries)), (2, 0));
    assert_eq!(reason, "Client explicitly NAK'ed message.\nno");
    assert_eq!(table.group.in_flight(), 2);
}

#[test]
fn replayed_events_come_after_retries_and_before_new_events() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    let client = table.join(1);
    table.read(0..3);
    assert_eq!(table.sent_to(client), [0]);
    table.group.replay(7, event(100, id(100), "one"));
    table.retry(0);
    assert_eq!(table.sent_to(client), [0]);
    table.ack(0);
    assert_eq!(table.sent_to(client), [100]);
    table.ack(100);
    assert_eq!(table.sent_to(client), [1]);
}

#[test]
fn a_checkpoint_waits_for_its_time_and_its_minimum_number() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    table.join(99);
    table.read(0..20);
    assert_eq!(table.sent().len(), 20);
    table.ack(0);
    table.ack(1);
    table.wait(Duration::from_secs(3));
    assert_eq!(table.checkpoints(), NOTHING, "two events are too few");
    table.ack(3);
    table.wait(Duration::from_secs(1));
    assert_eq!(table.checkpoints(), NOTHING, "the third one is not settled");
    table.ack(2);
    table.wait(Duration::from_secs(1));
    assert_eq!(table.checkpoints(), [3]);
    (4..13).for_each(|number| table.ack(number));
    assert_eq!(table.checkpoints(), NOTHING);
    table.ack(13);
    assert_eq!(
        table.checkpoints(),
        [13],
        "ten events are enough at any time"
    );
}

#[test]
fn an_event_that_is_parked_holds_the_checkpoint_until_it_is_written() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    table.join(99);
    table.read(0..12);
    assert_eq!(table.sent().len(), 12);
    table.group.nack(&[id(0)], NackAction::Park, "", table.now);
    let mut outputs = table.outputs();
    let Some(Output::Park(message, _)) = outputs.pop() else {
        panic!("no event is parked");
    };
    (1..12).for_each(|number| table.ack(number));
    assert_eq!(table.checkpoints(), NOTHING);
    table.group.parked(&message);
    table.wait(Duration::from_secs(3));
    assert_eq!(table.checkpoints(), [11]);
}

#[test]
fn events_that_a_filter_leaves_out_move_the_checkpoint_but_never_past_an_open_event() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    table.join(99);
    table.group.filtered_out(50, 9);
    table.wait(Duration::from_secs(3));
    assert_eq!(table.checkpoints(), [50]);
    table.read(60..61);
    assert_eq!(table.sent().len(), 1);
    table.group.filtered_out(90, 99);
    table.wait(Duration::from_secs(3));
    assert_eq!(table.checkpoints(), NOTHING);
    table.ack(60);
    assert_eq!(table.checkpoints(), [90]);
}

#[test]
fn two_events_with_one_id_are_both_delivered() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    let client = table.join(9);
    table.group.read(0, event(0, id(7), "one"));
    table.group.read(1, event(1, id(7), "one"));
    assert_eq!(table.sent_to(client), [0]);
    table.ack(7);
    assert_eq!(table.sent_to(client), [1]);
}

#[test]
fn the_number_of_clients_is_limited() {
    let mut settings = settings(Consumers::RoundRobin);
    settings.max_subscriber_count = 1;
    let mut table = Table::new(settings);
    let only = table.join(1);
    assert_eq!(table.group.connect(Peer::default(), 1), None);
    table.group.disconnect(only);
    table.join(1);
}

#[test]
fn a_group_reads_a_batch_at_a_time_while_it_has_room() {
    let mut table = Table::strategy(Consumers::RoundRobin);
    assert_eq!(table.group.room(), Some(4));
    table.read(0..36);
    assert_eq!(table.group.room(), Some(4));
    table.read(36..37);
    assert_eq!(table.group.room(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64),
    Join(usize),
    Leave(usize),
    Ack(usize),
    Nack(usize, u8),
    Wait(u64),
    Written,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..6u64).prop_map(Step::Read),
        1 => (1..5usize).prop_map(Step::Join),
        1 => (0..4usize).prop_map(Step::Leave),
        6 => (0..9usize).prop_map(Step::Ack),
        3 => (0..9usize, 0..4u8).prop_map(|(which, action)| Step::Nack(which, action)),
        2 => (1..40u64).prop_map(Step::Wait),
        2 => Just(Step::Written),
    ];
    prop::collection::vec(step, 1..80)
}

/// The expected state of the events, tracked in a much simpler way.
#[derive(Default)]
struct Ledger {
    read: u64,
    in_flight: HashMap<u64, ClientId>,
    sizes: HashMap<ClientId, usize>,
    parking: Vec<Message>,
    settled: HashSet<u64>,
    checkpoint: Option<u64>,
    /// How many clients left. Their events are retried however often they were before.
    leaves: i32,
}

impl Ledger {
    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Push(client, message) => {
                    let number = number(&message);
                    assert!(
                        !self.settled.contains(&number),
                        "a settled event was sent again"
                    );
                    assert!(message.retry_count <= MOST_RETRIES + self.leaves);
                    let before = self.in_flight.insert(number, client);
                    assert_eq!(before, None, "an event is in flight twice");
                    let has = self.in_flight.values().filter(|c| **c == client).count();
                    assert!(has <= self.sizes[&client], "a client has too many events");
                }
                Output::Park(message, _) => {
                    self.in_flight.remove(&number(&message));
                    self.parking.push(message);
                }
                Output::Checkpoint(place) => {
                    let lowest = (0..self.read).find(|number| !self.settled.contains(number));
                    assert!(
                        lowest.is_none_or(|lowest| place < lowest),
                        "a checkpoint passed an open event"
                    );
                    assert!(self.checkpoint.is_none_or(|before| before < place));
                    self.checkpoint = Some(place);
                }
                Output::Replayed(_) => panic!("no event was replayed"),
            }
        }
    }

    fn nth_in_flight(&self, n: usize) -> Option<u64> {
        let mut numbers: Vec<u64> = self.in_flight.keys().copied().collect();
        numbers.sort_unstable();
        numbers.get(n % numbers.len().max(1)).copied()
    }

    fn nth_client(&self, n: usize) -> Option<ClientId> {
        let mut clients: Vec<ClientId> = self.sizes.keys().copied().collect();
        clients.sort_unstable();
        clients.get(n % clients.len().max(1)).copied()
    }
}

fn take_step(table: &mut Table, ledger: &mut Ledger, step: &Step) {
    match *step {
        Step::Read(count) => {
            table.read(ledger.read..ledger.read + count);
            ledger.read += count;
        }
        Step::Join(size) => {
            let client = table.join(size);
            ledger.sizes.insert(client, size);
        }
        Step::Leave(n) => {
            if let Some(client) = ledger.nth_client(n) {
                table.group.disconnect(client);
                ledger.sizes.remove(&client);
                ledger.leaves += 1;
                ledger.in_flight.retain(|_, has| *has != client);
            }
        }
        Step::Ack(n) => {
            if let Some(number) = ledger.nth_in_flight(n) {
                ledger.in_flight.remove(&number);
                ledger.settled.insert(number);
                table.ack(number);
            }
        }
        Step::Nack(n, action) => nack(table, ledger, n, action),
        Step::Wait(seconds) => {
            table.wait(Duration::from_secs(seconds));
            // Events in flight may have timed out. Only the group knows when each was sent.
            let group = &table.group;
            ledger
                .in_flight
                .retain(|number, _| group.outstanding.contains_key(&id(*number)));
        }
        Step::Written => {
            for message in ledger.parking.drain(..) {
                ledger.settled.insert(number(&message));
                table.group.parked(&message);
            }
        }
    }
    let outputs = table.outputs();
    ledger.take(outputs);
}

fn nack(table: &mut Table, ledger: &mut Ledger, n: usize, action: u8) {
    let Some(number) = ledger.nth_in_flight(n) else {
        return;
    };
    let action = match action {
        0 => NackAction::Retry,
        1 => NackAction::Park,
        2 => NackAction::Skip,
        _ => NackAction::Stop,
    };
    if action != NackAction::Stop {
        ledger.in_flight.remove(&number);
    }
    if action == NackAction::Skip {
        ledger.settled.insert(number);
    }
    table.group.nack(&[id(number)], action, "", table.now);
}

/// At the end, one client takes and acknowledges all remaining events.
fn finish(table: &mut Table, ledger: &mut Ledger) {
    let last = table.join(1_000);
    ledger.sizes.insert(last, 1_000);
    for _ in 0..1_000 {
        take_step(table, ledger, &Step::Written);
        if ledger.settled.len() as u64 == ledger.read {
            return;
        }
        while ledger.nth_in_flight(0).is_some() {
            take_step(table, ledger, &Step::Ack(0));
        }
    }
    panic!(
        "{} of {} events are settled",
        ledger.settled.len(),
        ledger.read
    );
}

fn consumers() -> impl Strategy<Value = Consumers> {
    prop_oneof![
        Just(Consumers::RoundRobin),
        Just(Consumers::DispatchToSingle),
        Just(Consumers::Pinned),
        Just(Consumers::PinnedByCorrelation),
    ]
}

proptest! {
    #[test]
    fn every_event_is_settled_once_and_no_checkpoint_passes_an_open_one(
        strategy in consumers(),
        steps in steps(),
    ) {
        let mut table = Table::strategy(strategy);
        let mut ledger = Ledger::default();
        for step in &steps {
            take_step(&mut table, &mut ledger, step);
        }
        finish(&mut table, &mut ledger);
        prop_assert_eq!(table.group.in_flight(), 0);
        prop_assert_eq!(table.group.bytes, 0);
        prop_assert_eq!(table.group.progress.lowest_open(), None);
    }
}
