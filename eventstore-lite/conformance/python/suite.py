"""Every operation in scope, through the official Python client, against the server at EVENTSTORE_URL.

Prints one line for each check; exits with 1 if any failed. PLANTED=1 adds a check that must fail, which shows that a
difference would be seen.
"""

import contextlib
import os
import sys
import threading
import traceback
import uuid

from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import (
    AlreadyExistsError,
    NotFoundError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)

DEADLINE = 20
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def new(kind="Happened", data=b'{"a":1}', metadata=b"", content_type="application/json"):
    return NewEvent(type=kind, data=data, metadata=metadata, content_type=content_type)


def name(category="conformance"):
    return f"{category}{uuid.uuid4().hex}-1"


def append(client, stream, count=1, current_version=StreamState.NO_STREAM):
    events = [new(data=b'{"n":%d}' % n) for n in range(count)]
    position = client.append_to_stream(stream, current_version=current_version, events=events)
    return events, position


def refused(error, call):
    try:
        call()
    except error:
        return
    raise AssertionError(f"{error.__name__} expected")


@contextlib.contextmanager
def ending(subscription):
    """Stops the subscription at the latest at the deadline, so that nobody waits for ever."""
    timer = threading.Timer(DEADLINE, subscription.stop)
    timer.start()
    try:
        yield subscription
    finally:
        timer.cancel()
        subscription.stop()


def take(subscription, count):
    events = []
    with ending(subscription):
        for event in subscription:
            events.append(event)
            if len(events) == count:
                break
    assert len(events) == count, f"{len(events)} of {count} events came"
    return events


def ids(events):
    return [event.id for event in events]


@check
def an_appended_event_is_read_as_it_was_written(client):
    stream = name()
    written = new("Made", b"\x00\xff", b'{"m":true}', "application/octet-stream")
    client.append_to_stream(stream, current_version=StreamState.NO_STREAM, events=written)
    (read,) = client.get_stream(stream)
    assert (read.id, read.type, read.data, read.metadata, read.content_type) == (
        written.id,
        "Made",
        b"\x00\xff",
        b'{"m":true}',
        "application/octet-stream",
    ), read
    assert (read.stream_name, read.stream_position) == (stream, 0)
    assert read.commit_position is not None and read.recorded_at is not None


@check
def an_expected_version_is_kept(client):
    stream = name()
    append(client, stream, 2)
    refused(WrongCurrentVersionError, lambda: append(client, stream))
    refused(WrongCurrentVersionError, lambda: append(client, stream, 1, 0))
    append(client, stream, 1, 1)
    append(client, stream, 1, StreamState.ANY)
    append(client, stream, 1, StreamState.EXISTS)
    refused(WrongCurrentVersionError, lambda: append(client, name(), 1, StreamState.EXISTS))
    assert client.get_current_version(stream) == 4
    assert client.get_current_version(name()) == StreamState.NO_STREAM


@check
def a_repeated_append_is_the_same_append(client):
    stream = name()
    events, position = append(client, stream, 3)
    again = client.append_to_stream(stream, current_version=StreamState.NO_STREAM, events=events)
    assert again == position
    assert ids(client.get_stream(stream)) == ids(events)


@check
def a_single_event_is_appended_through_the_older_call(client):
    stream = name()
    event = new()
    client.append_event(stream, current_version=StreamState.NO_STREAM, event=event)
    client.append_events(stream, current_version=0, events=[new(), new()])
    assert client.get_current_version(stream) == 2


@check
def a_stream_is_read_both_ways_from_anywhere(client):
    stream = name()
    events, _ = append(client, stream, 5)
    forwards = ids(events)
    assert ids(client.get_stream(stream)) == forwards
    assert ids(client.get_stream(stream, stream_position=2, limit=2)) == forwards[2:4]
    assert ids(client.get_stream(stream, backwards=True)) == forwards[::-1]
    assert ids(client.get_stream(stream, stream_position=2, backwards=True)) == forwards[2::-1]
    refused(NotFoundError, lambda: client.get_stream(name()))


@check
def all_is_read_both_ways_and_filtered(client):
    stream = name()
    events, position = append(client, stream, 3)
    first = client.get_stream(stream)[0].commit_position
    forwards = client.read_all(commit_position=first, filter_include=[stream], filter_by_stream_name=True)
    assert ids(forwards) == ids(events)
    backwards = client.read_all(backwards=True, filter_include=[stream], filter_by_stream_name=True, limit=2)
    assert ids(backwards) == ids(events)[:0:-1]
    kind = "Type" + uuid.uuid4().hex
    client.append_to_stream(stream, current_version=2, events=new(kind))
    by_type = client.read_all(commit_position=first, filter_include=[kind[:20]], filter_by_prefix=True)
    assert [event.type for event in by_type] == [kind]
    assert client.get_commit_position() > position


@check
def a_subscription_to_a_stream_gets_old_events_and_new_ones(client):
    stream = name()
    old, _ = append(client, stream, 2)
    subscription = client.subscribe_to_stream(stream)
    fresh, _ = append(client, stream, 2, 1)
    assert ids(take(subscription, 4)) == ids(old + fresh)
    after_first = client.subscribe_to_stream(stream, stream_position=0)
    assert ids(take(after_first, 3)) == ids((old + fresh)[1:])


@check
def a_subscription_from_the_end_gets_what_is_new(client):
    stream = name()
    append(client, stream, 2)
    subscription = client.subscribe_to_stream(stream, from_end=True)
    fresh, _ = append(client, stream, 1, 1)
    assert ids(take(subscription, 1)) == ids(fresh)


@check
def a_filtered_subscription_to_all_gets_its_part_and_checkpoints(client):
    stream = name()
    _, start = append(client, name(), 1)
    subscription = client.subscribe_to_all(
        commit_position=start, filter_include=[stream], filter_by_stream_name=True
    )
    events, position = append(client, stream, 3)
    append(client, name(), 3)
    received = take(subscription, 3)
    assert ids(received) == ids(events)
    assert received[-1].commit_position == position
    with_checkpoints = client.subscribe_to_all(
        commit_position=start,
        filter_include=["no such type"],
        include_checkpoints=True,
        window_size=1,
        checkpoint_interval_multiplier=1,
    )
    (checkpoint,) = take(with_checkpoints, 1)
    assert checkpoint.is_checkpoint and checkpoint.commit_position > start


@check
def a_caught_up_subscription_says_so(client):
    stream = name()
    append(client, stream, 1)
    event, caught_up = take(client.subscribe_to_stream(stream, include_caught_up=True), 2)
    assert not event.is_caught_up and caught_up.is_caught_up


@check
def a_deleted_stream_is_gone_and_can_begin_again(client):
    stream = name()
    append(client, stream, 2)
    client.delete_stream(stream, current_version=1)
    refused(NotFoundError, lambda: client.get_stream(stream))
    again, _ = append(client, stream, 1, StreamState.NO_STREAM)
    (event,) = client.get_stream(stream)
    assert (event.id, event.stream_position) == (again[0].id, 2)


@check
def a_tombstoned_stream_is_gone_for_ever(client):
    stream = name()
    append(client, stream, 1)
    client.tombstone_stream(stream, current_version=StreamState.ANY)
    refused(StreamIsDeletedError, lambda: client.get_stream(stream))
    refused(StreamIsDeletedError, lambda: append(client, stream, 1, StreamState.ANY))
    refused(StreamIsDeletedError, lambda: client.tombstone_stream(stream, current_version=StreamState.ANY))


@check
def metadata_is_kept_and_obeyed(client):
    stream = name()
    append(client, stream, 5)
    assert client.get_stream_metadata(stream) == ({}, StreamState.NO_STREAM)
    client.set_stream_metadata(stream, metadata={"$maxCount": 2, "own": "x"})
    metadata, version = client.get_stream_metadata(stream)
    assert (metadata, version) == ({"$maxCount": 2, "own": "x"}, 0)
    assert [event.stream_position for event in client.get_stream(stream)] == [3, 4]
    client.set_stream_metadata(stream, metadata={"$tb": 4}, current_version=0)
    assert [event.stream_position for event in client.get_stream(stream)] == [4]


@check
def a_link_resolves_to_what_it_names(client):
    target, links = name(), name()
    events, _ = append(client, target, 1)
    link = new("$>", f"0@{target}".encode(), b"", "application/octet-stream")
    client.append_to_stream(links, current_version=StreamState.NO_STREAM, events=link)
    (resolved,) = client.get_stream(links, resolve_links=True)
    assert resolved.id == events[0].id and resolved.link.id == link.id
    (plain,) = client.get_stream(links)
    assert plain.id == link.id and plain.link is None


@check
def a_persistent_subscription_delivers_until_it_is_acknowledged(client):
    stream, group = name(), "group"
    events, _ = append(client, stream, 3)
    client.create_subscription_to_stream(group, stream, message_timeout=DEADLINE)
    refused(AlreadyExistsError, lambda: client.create_subscription_to_stream(group, stream))
    subscription = client.read_subscription_to_stream(group, stream)
    received = []
    with ending(subscription):
        for event in subscription:
            received.append(event)
            if len(received) == 2 and event.retry_count == 0:
                subscription.nack(event, "retry")
            else:
                subscription.ack(event)
            if len(received) == 4:
                break
    assert sorted(ids(received)) == sorted(ids(events) + [received[1].id]), received
    info = client.get_subscription_info(group, stream)
    assert (info.group_name, info.event_source) == (group, stream)
    assert group in [info.group_name for info in client.list_subscriptions_to_stream(stream)]
    client.delete_subscription(group, stream)
    refused(NotFoundError, lambda: client.get_subscription_info(group, stream))


@check
def parked_events_are_replayed(client):
    stream, group = name(), "parking"
    events, _ = append(client, stream, 1)
    client.create_subscription_to_stream(group, stream)
    subscription = client.read_subscription_to_stream(group, stream)
    seen = []
    with ending(subscription):
        for event in subscription:
            seen.append(event.id)
            if len(seen) == 2:
                subscription.ack(event)
                break
            subscription.nack(event, "park")
            until(lambda: client.get_subscription_info(group, stream).parked_message_count == 1)
            client.replay_parked_events(group, stream)
    assert seen == ids(events) * 2
    client.delete_subscription(group, stream)


@check
def a_persistent_subscription_to_all_is_filtered(client):
    stream, group = name(), "all" + uuid.uuid4().hex
    client.create_subscription_to_all(group, filter_include=[stream], filter_by_stream_name=True)
    events, _ = append(client, stream, 2)
    subscription = client.read_subscription_to_all(group)
    received = []
    with ending(subscription):
        for event in subscription:
            received.append(event.id)
            subscription.ack(event)
            if len(received) == 2:
                break
    assert received == ids(events)
    client.update_subscription_to_all(group, max_retry_count=3)
    assert client.get_subscription_info(group).max_retry_count == 3
    client.delete_subscription(group)


@check
def the_cluster_is_one_leader(client):
    (member,) = [member for member in client.read_gossip() if member.state == "NODE_STATE_LEADER"]
    assert member.port > 0


def planted(client):
    append(client, stream := name(), 1)
    assert client.get_current_version(stream) == 1, "the planted difference"


def until(condition):
    """Asks until it is so; each question is a call, which is its own pause."""
    ended = threading.Event()
    timer = threading.Timer(DEADLINE, ended.set)
    timer.start()
    try:
        while not condition():
            assert not ended.is_set(), "not in time"
    finally:
        timer.cancel()


def main():
    failed = 0
    checks = CHECKS + ([planted] if os.environ.get("PLANTED") else [])
    with KurrentDBClient(os.environ["EVENTSTORE_URL"]) as client:
        for run in checks:
            title = run.__name__.replace("_", " ")
            try:
                run(client)
                print(f"ok      {title}", flush=True)
            except Exception:  # noqa: BLE001: whatever went wrong is the finding
                failed += 1
                print(f"FAILED  {title}\n{traceback.format_exc()}", flush=True)
    print(f"{len(checks) - failed} of {len(checks)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
