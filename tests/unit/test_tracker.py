"""Which offsets may be committed, after acknowledgements in any order."""

from __future__ import annotations

import pytest

from sabot_ray.offsets.committer import Committer
from sabot_ray.offsets.store import Offsets
from sabot_ray.offsets.tracker import AckTracker
from sabot_ray.types import OffsetAndEpoch, TopicPartition
from tests.servers import wait_until

PARTITION = TopicPartition("orders", 0)
OTHER = TopicPartition("orders", 1)

at = OffsetAndEpoch


def test_tracker_passes_no_range_that_is_not_acknowledged() -> None:
    tracker = AckTracker()
    for start in (0, 10, 20):
        tracker.deliver(PARTITION, start, start + 10, 100)
    tracker.skip(OTHER, 5, 8)

    tracker.acknowledge(PARTITION, 20)
    assert tracker.committable() == {OTHER: at(8)}
    tracker.acknowledge(PARTITION, 0)
    tracker.acknowledge(PARTITION, 0)
    assert tracker.committable() == {PARTITION: at(10), OTHER: at(8)}
    assert (tracker.pending_batches, tracker.pending_bytes()) == (1, 100)
    tracker.acknowledge_all()
    assert tracker.committable() == {PARTITION: at(30), OTHER: at(8)}
    assert tracker.pending_bytes() == 0


def test_rewind_lets_nothing_beyond_the_offset_be_committed() -> None:
    tracker = AckTracker()
    for start in (0, 10, 20):
        tracker.deliver(PARTITION, start, start + 10, 100, reader_epoch=1, leader_epoch=7)
    tracker.acknowledge(PARTITION, 0, reader_epoch=1)
    assert tracker.committable() == {PARTITION: at(10, 7)}

    # The log was truncated to 15, and the next range begins there.
    tracker.rewind(PARTITION, 15)
    tracker.deliver(PARTITION, 15, 40, 100, reader_epoch=2, leader_epoch=8)
    tracker.acknowledge(PARTITION, 15, reader_epoch=2)
    assert tracker.committable() == {PARTITION: at(10, 7)}
    tracker.acknowledge(PARTITION, 10, reader_epoch=1)
    assert tracker.committable() == {PARTITION: at(15)}
    tracker.acknowledge(PARTITION, 20, reader_epoch=1)
    assert tracker.committable() == {PARTITION: at(40, 8)}
    assert tracker.pending_bytes() == 0


def test_acknowledgement_of_a_former_range_is_none_of_a_later_one_at_its_offset() -> None:
    tracker = AckTracker()
    tracker.deliver(PARTITION, 0, 10, 100, reader_epoch=1)
    tracker.deliver(PARTITION, 10, 20, 100, reader_epoch=1)
    tracker.acknowledge(PARTITION, 0, reader_epoch=1)
    # Another topic of the name: nothing of the former one counts, and nothing waits for it.
    tracker.rewind(PARTITION, -1)
    assert (tracker.committable(), tracker.pending_bytes()) == ({}, 0)
    tracker.deliver(PARTITION, 0, 5, 100, reader_epoch=2)
    tracker.acknowledge(PARTITION, 0, reader_epoch=1)
    assert tracker.committable() == {}
    tracker.acknowledge(PARTITION, 0, reader_epoch=2)
    assert tracker.committable() == {PARTITION: at(5)}


class _Store:
    is_member = True

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.commits: list[Offsets] = []

    def acquire(self) -> Offsets:
        return {}

    def commit(self, offsets: Offsets, *, timeout_s: float) -> None:
        self.commits.append({p: committed.offset for p, committed in offsets.items()})
        if self.failure is not None:
            raise self.failure

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_committer_stages_no_offset_lower_than_one_it_has() -> None:
    store = _Store()
    committer = Committer(store, None)

    # Two threads acknowledge: the one that was later comes here first.
    committer.stage({PARTITION: at(20), OTHER: at(1)})
    committer.stage({PARTITION: at(10), OTHER: at(2)})
    committer.flush(1.0)

    assert store.commits == [{PARTITION: 20, OTHER: 2}]


def test_committer_raises_any_error_that_ended_its_thread() -> None:
    failure = ValueError("a defect of the store")
    committer = Committer(_Store(failure), 0.01)
    committer.stage({PARTITION: at(1)})

    def raised() -> bool:
        try:
            committer.check()
        except ValueError as error:
            return error is failure
        return False

    wait_until(raised)
    with pytest.raises(ValueError, match="a defect of the store"):
        committer.flush(1.0)
    committer.close()
