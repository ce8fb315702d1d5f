"""Bounds, acknowledgement and commits, without a broker."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from sabot_ray.errors import (
    BrokerUnavailable,
    CommitFailed,
    ConfigError,
    DataLoss,
    Fenced,
    TopicRecreated,
)
from sabot_ray.kafka.metadata import OffsetRange, data_loss, resolve_ranges
from sabot_ray.offsets.committer import Committer
from sabot_ray.offsets.envelope import pack, topic_id_in, unpack
from sabot_ray.offsets.store import Offsets
from sabot_ray.offsets.tracker import AckTracker
from sabot_ray.types import OffsetAndEpoch, OffsetAndMetadata, TopicPartition, Watermarks
from tests.servers import wait_until

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
MARKS = {0: Watermarks(10, 100, 90), 1: Watermarks(0, 0, 0)}

at = OffsetAndEpoch


def ranges(**bounds: Any) -> dict[int, tuple[int, int | None]]:
    options: dict[str, Any] = {
        "start": "earliest",
        "end": None,
        "committed": {},
        "auto_offset_reset": "earliest",
    }
    options |= bounds
    committed = {p: OffsetAndMetadata(offset) for p, offset in options["committed"].items()}
    resolved = resolve_ranges("t", MARKS, **{**options, "committed": committed})
    return {p: (wanted.start_offset, wanted.end_offset) for p, wanted in resolved.items()}


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, {0: (10, None), 1: (0, None)}),
        ({"start": "latest"}, {0: (90, None), 1: (0, None)}),
        ({"end": "latest"}, {0: (10, 90), 1: (0, 0)}),
        ({"start": "committed", "committed": {0: 40, 1: 0}}, {0: (40, None), 1: (0, None)}),
        ({"start": "committed", "committed": {0: 40}}, {0: (40, None), 1: (0, None)}),
        ({"start": "committed", "auto_offset_reset": "latest"}, {0: (90, None), 1: (0, None)}),
    ],
)
def test_bounds_become_offsets(bounds: dict[str, Any], expected: dict[int, Any]) -> None:
    assert ranges(**bounds) == expected


def test_start_by_another_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="start: 'earlist' is neither an offset nor"):
        ranges(start="earlist")


def test_end_beyond_the_last_stable_offset_is_clamped(caplog: pytest.LogCaptureFixture) -> None:
    assert ranges(end=95) == {0: (10, 90), 1: (0, 0)}
    assert "partition 0: end 95 is beyond the last stable offset 90" in caplog.text


@pytest.mark.parametrize(
    ("committed", "where"), [({0: 40}, "partitions [1]"), ({}, "any partition")]
)
def test_missing_committed_offsets_are_told_once(
    caplog: pytest.LogCaptureFixture, committed: dict[int, int], where: str
) -> None:
    ranges(start="committed", committed=committed)
    assert [record.getMessage() for record in caplog.records] == [
        f"topic 't': nothing is committed for {where}: starting at the earliest offset; expected "
        "in a group's first run, else the offsets have expired (after 7 days without members), or "
        "went with a topic that was deleted and created anew"
    ]


@pytest.mark.parametrize("start", ["earliest", "latest", 20])
def test_start_that_needs_no_committed_offset_is_silent(
    caplog: pytest.LogCaptureFixture, start: str | int
) -> None:
    resolve_ranges(
        "t", {0: MARKS[0]}, start=start, end=None, committed={}, auto_offset_reset="earliest"
    )
    assert caplog.text == ""


def test_nothing_committed_with_reset_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"partitions \[1\]: nothing is committed"):
        ranges(start="committed", committed={0: 40}, auto_offset_reset="none")


@pytest.mark.parametrize(
    ("offset", "available", "text"),
    [(4, 10, "6 offsets are lost to retention"), (101, 100, "re-created or truncated")],
)
def test_start_outside_the_log_is_data_loss(offset: int, available: int, text: str) -> None:
    with pytest.raises(DataLoss, match=text) as caught:
        ranges(start="committed", committed={0: offset, 1: 0})

    loss = caught.value
    assert (loss.partition, loss.wanted_offset, loss.available_offset) == (0, offset, available)
    assert loss.lost_offsets == abs(offset - available)


@pytest.mark.parametrize(("offset", "available"), [(4, 10), (101, 100)])
def test_start_outside_the_log_is_a_warning_where_that_is_asked_for(
    offset: int, available: int, caplog: pytest.LogCaptureFixture
) -> None:
    found = ranges(start="committed", committed={0: offset, 1: 0}, on_data_loss="warn")
    assert found == {0: (available, None), 1: (0, None)}
    assert f"partition 0: offset {offset} is" in caplog.text
    assert f"reading goes on at offset {available}" in caplog.text


RECREATED = TopicRecreated.of("t", "former", "latter")


def test_committed_offset_of_a_former_topic_is_an_error_where_it_would_be_the_start() -> None:
    committed = {0: 40, 1: 0}
    with pytest.raises(TopicRecreated, match="was former, and is latter now") as caught:
        ranges(start="committed", committed=committed, recreated={0: RECREATED})
    assert (caught.value.former_id, caught.value.topic_id) == ("former", "latter")
    for start in ("earliest", {"t": {0: "earliest"}}):
        found = ranges(start=start, committed=committed, recreated={0: RECREATED})
        assert found == {0: (10, None), 1: (0, None)}


def test_former_topic_is_a_single_warning_and_the_beginning_where_that_is_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = {0: RECREATED, 1: RECREATED}
    found = ranges(start="committed", committed={0: 40, 1: 7}, recreated=both, on_data_loss="warn")
    assert found == {0: (10, None), 1: (0, None)}
    assert [record.getMessage() for record in caplog.records] == [
        f"{RECREATED}; it is read from its beginning"
    ]


def test_range_begins_with_the_committed_leader_epoch_but_not_elsewhere() -> None:
    def epoch(offset: int, **options: Any) -> int:
        committed = {0: OffsetAndMetadata(offset, "", 7)}
        given = {"start": "committed", "end": None, "auto_offset_reset": "earliest"} | options
        return resolve_ranges("t", {0: MARKS[0]}, committed=committed, **given)[0].leader_epoch

    assert epoch(40) == 7
    assert epoch(40, start=40) == -1
    assert epoch(4, on_data_loss="warn") == -1


@pytest.mark.parametrize(
    ("offset", "diverges_at", "expected"),
    [
        (10, None, None),
        (100, None, None),
        (50, 40, (40, 10)),
        # The leader knows nothing of what was read.
        (50, 0, (10, 40)),
        (5, 3, (10, 5)),
        (120, 90, (90, 30)),
    ],
)
def test_loss_is_told_in_offsets(
    offset: int, diverges_at: int | None, expected: tuple[int, int] | None
) -> None:
    loss = data_loss(P0, offset, MARKS[0], diverges_at=diverges_at)
    assert (loss and (loss.available_offset, loss.lost_offsets)) == expected


def test_range_without_records_is_empty() -> None:
    assert OffsetRange(5, 5).is_empty
    assert OffsetRange(6, 5).is_empty
    assert not OffsetRange(4, 5).is_empty
    assert not OffsetRange(4, None).is_empty


def test_committable_offset_waits_for_the_contiguous_prefix() -> None:
    tracker = AckTracker()
    for start in (0, 10, 20):
        tracker.deliver(P0, start, start + 10, 100)
    tracker.deliver(P1, 5, 7, 50)

    tracker.acknowledge(P0, 10)
    tracker.acknowledge(P1, 5)
    assert tracker.committable() == {P1: at(7)}
    assert (tracker.pending_bytes(), tracker.pending_batches) == (200, 2)

    tracker.acknowledge(P0, 0)
    tracker.acknowledge(P0, 0)
    assert tracker.committable() == {P0: at(20), P1: at(7)}
    assert tracker.pending_bytes() == 100


def test_range_without_rows_is_committed_with_what_is_before_it() -> None:
    tracker = AckTracker()
    tracker.deliver(P0, 0, 10, 100)
    tracker.skip(P0, 10, 15)
    assert tracker.committable() == {}

    tracker.acknowledge(P0, 0)
    assert tracker.committable() == {P0: at(15)}


def test_acknowledge_all_covers_everything_delivered() -> None:
    tracker = AckTracker()
    for start in (0, 10, 20):
        tracker.deliver(P0, start, start + 10, 100)

    tracker.acknowledge_all()

    assert tracker.committable() == {P0: at(30)}
    assert tracker.pending_bytes() == 0


class Store:
    """Remembers commits; raises what it is told to, once each."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.commits: list[dict[TopicPartition, int]] = []
        # Beside the offsets of the last commit.
        self.metadata: set[str] = set()
        self.epochs: dict[TopicPartition, int] = {}

    def acquire(self) -> Offsets:
        return {}

    def commit(self, offsets: Offsets, *, timeout_s: float) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.commits.append({p: committed.offset for p, committed in offsets.items()})
        self.metadata = {committed.metadata for committed in offsets.values()}
        self.epochs = {p: committed.leader_epoch for p, committed in offsets.items()}

    def check(self) -> None: ...

    def close(self) -> None: ...


def test_committer_commits_only_what_changed() -> None:
    store = Store()
    committer = Committer(store, None, stored={P0: 5})

    committer.stage({P0: at(5), P1: at(3)})
    committer.flush(1.0)
    committer.flush(1.0)
    committer.stage({P0: at(6)})
    committer.flush(1.0)

    assert store.commits == [{P1: 3}, {P0: 6}]
    assert committer.stored == {P0: 6, P1: 3}


def test_committer_commits_by_itself() -> None:
    store = Store()
    committer = Committer(store, 0.01)
    committer.stage({P0: at(1)})
    wait_until(lambda: store.commits == [{P0: 1}], timeout_s=5)
    committer.close()


def test_passing_failure_of_a_commit_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    store = Store(CommitFailed("coordinator moved", retriable=True))
    committer = Committer(store, 0.01)
    committer.stage({P0: at(1)})
    wait_until(lambda: store.commits == [{P0: 1}], timeout_s=5)
    committer.close()
    assert "coordinator moved; it is tried again with the next commit" in caplog.text


def test_flush_retries_until_its_time_is_over() -> None:
    failure = CommitFailed("no answer", retriable=True)
    store = Store(failure, failure)
    committer = Committer(store, None)
    committer.stage({P0: at(1)})
    committer.flush(5.0)
    assert store.commits == [{P0: 1}]

    store.errors = [failure] * 1000
    committer.stage({P0: at(2)})
    with pytest.raises(CommitFailed, match="no answer"):
        committer.flush(0.2)


def test_fenced_commit_ends_the_committer_for_good() -> None:
    store = Store(Fenced("another driver"))
    committer = Committer(store, 0.01)
    committer.stage({P0: at(1)})

    def fenced() -> bool:
        try:
            committer.check()
        except Fenced:
            return True
        return False

    wait_until(fenced, timeout_s=5)
    with pytest.raises(Fenced):
        committer.flush(1.0)
    assert store.commits == []
    committer.close()


def test_metadata_goes_with_each_commit() -> None:
    store = Store()
    committer = Committer(store, None, metadata="first")
    committer.stage({P0: at(1), P1: at(1)})
    committer.flush(1.0)
    assert store.metadata == {"first"}
    committer.keep("second")
    committer.flush(1.0)
    assert store.metadata == {"first"}
    committer.stage({P0: at(2)})
    committer.flush(1.0)
    assert store.metadata == {"second"}


def test_metadata_that_the_brokers_refuse_is_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store(CommitFailed("too large", 12, "OFFSET_METADATA_TOO_LARGE"))
    committer = Committer(store, None, metadata="x" * 3000)
    for offset in (1, 2):
        committer.stage({P0: at(offset)})
        committer.flush(1.0)
    assert store.commits == [{P0: 1}, {P0: 2}]
    assert store.metadata == {""}
    assert "offset.metadata.max.bytes is below the 3000 bytes" in caplog.text


class Topics:
    """Knows topic ids, where the brokers answer."""

    def __init__(self, **ids: str) -> None:
        self.ids = ids
        self.error: Exception | None = None
        self.asked: list[set[str]] = []

    def confirmed(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, str]:
        self.asked.append(set(topics))
        if self.error is not None:
            raise self.error
        return {topic: self.ids[topic] for topic in topics if topic in self.ids}


def test_topic_id_goes_with_each_offset_and_that_of_a_former_topic_stays_back() -> None:
    store, topics = Store(), Topics(t="id-of-t", u="id-of-u")
    text = str(pack({"slots": 4}))
    committer = Committer(store, None, metadata=text, topics=topics)
    other = TopicPartition("u", 0)
    committer.stage({P0: at(1), other: at(1)})
    committer.flush(1.0)
    assert store.commits == [{P0: 1, other: 1}]
    assert {topic_id_in(text) for text in store.metadata} == {"id-of-t", "id-of-u"}
    assert [unpack(text)["slots"] for text in store.metadata] == [4, 4]

    del topics.ids["u"]
    committer.stage({P0: at(2), other: at(2)})
    committer.flush(1.0)
    assert store.commits[1:] == [{P0: 2}]
    assert topics.asked == [{"t", "u"}, {"t", "u"}]


def test_commit_waits_for_brokers_that_do_not_tell_topic_ids() -> None:
    store, topics = Store(), Topics(t="id")
    topics.error = BrokerUnavailable("away", retriable=True)
    committer = Committer(store, None, topics=topics)
    committer.stage({P0: at(1)})
    with pytest.raises(CommitFailed, match="still the same ones is not known: away"):
        committer.flush(0.2)
    assert store.commits == []
    topics.error = None
    committer.flush(1.0)
    assert store.commits == [{P0: 1}]


def test_rewound_offset_is_committed_although_a_higher_one_is_stored() -> None:
    store = Store()
    committer = Committer(store, None, stored={P1: 30})
    committer.stage({P0: at(20, 3)})
    committer.flush(1.0)
    committer.rewind(P0, 15)
    committer.rewind(P1, 25)
    committer.flush(1.0)
    assert store.commits == [{P0: 20}, {P0: 15, P1: 25}]


def test_offset_of_a_former_topic_is_forgotten() -> None:
    store = Store()
    committer = Committer(store, None)
    committer.stage({P0: at(20)})
    committer.flush(1.0)
    committer.stage({P0: at(30)})
    committer.rewind(P0, -1)
    committer.flush(1.0)
    assert store.commits == [{P0: 20}]
    # An equal offset of the new one is committed all the same.
    committer.stage({P0: at(20)})
    committer.flush(1.0)
    assert store.commits == [{P0: 20}, {P0: 20}]


def test_offset_goes_with_its_leader_epoch() -> None:
    store = Store()
    committer = Committer(store, None)
    committer.stage({P0: at(20, 3)})
    committer.flush(1.0)
    assert store.epochs == {P0: 3}
