"""Which offsets may be committed, after acknowledgements in any order."""

from __future__ import annotations

import pytest

from sabot_ray.offsets.committer import Committer
from sabot_ray.offsets.store import Offsets
from sabot_ray.offsets.tracker import AckTracker
from sabot_ray.types import TopicPartition
from tests.servers import wait_until

PARTITION = TopicPartition("orders", 0)
OTHER = TopicPartition("orders", 1)


def test_tracker_passes_no_range_that_is_not_acknowledged() -> None:
    tracker = AckTracker()
    for start in (0, 10, 20):
        tracker.deliver(PARTITION, start, start + 10, 100)
    tracker.skip(OTHER, 5, 8)

    tracker.acknowledge(PARTITION, 20)
    assert tracker.committable() == {OTHER: 8}
    tracker.acknowledge(PARTITION, 0)
    tracker.acknowledge(PARTITION, 0)
    assert tracker.committable() == {PARTITION: 10, OTHER: 8}
    assert (tracker.pending_batches, tracker.pending_bytes()) == (1, 100)
    tracker.acknowledge_all()
    assert tracker.committable() == {PARTITION: 30, OTHER: 8}
    assert tracker.pending_bytes() == 0


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
    committer.stage({PARTITION: 20, OTHER: 1})
    committer.stage({PARTITION: 10, OTHER: 2})
    committer.flush(1.0)

    assert store.commits == [{PARTITION: 20, OTHER: 2}]


def test_committer_raises_any_error_that_ended_its_thread() -> None:
    failure = ValueError("a defect of the store")
    committer = Committer(_Store(failure), 0.01)
    committer.stage({PARTITION: 1})

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
