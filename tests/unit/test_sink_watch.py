"""How a sink notices that what is under way gets no further."""

from __future__ import annotations

import pytest

from sabot_ray.kafka import sink
from sabot_ray.kafka.sink import _Watch
from tests.unit.test_writing_reader import FakeDelivery


class CountedDelivery(FakeDelivery):
    """A delivery of so many records that the test settles."""

    def __init__(self, records: int) -> None:
        super().__init__()
        self.records = records

    def outstanding(self) -> int:
        return self.records

    def is_settled(self) -> bool:
        return not self.records


class Clock:
    """A time that the test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sink, "time", clock)
    return clock


def hand_over(watch: _Watch, records: int) -> CountedDelivery:
    delivery = CountedDelivery(0)
    with watch.handing_over(delivery):
        # As long as the client has none of it.
        assert watch.look() < 10.0
        delivery.records = records
    return delivery


def test_nothing_under_way_is_no_stall(clock: Clock) -> None:
    watch = _Watch()
    clock.now += 50.0
    assert watch.look() == 0.0
    delivery = hand_over(watch, 3)
    clock.now += 50.0
    delivery.records = 0
    assert watch.look() == 0.0


def test_stall_lasts_until_the_oldest_batch_gets_further(clock: Clock) -> None:
    watch = _Watch()
    first, second = hand_over(watch, 3), hand_over(watch, 3)
    assert watch.look() == 0.0
    clock.now += 7.0
    # Another partition's leader answers.
    second.records = 1
    assert watch.look() == 7.0
    first.records = 2
    assert watch.look() == 0.0
    clock.now += 8.0
    assert watch.look() == 8.0
    first.records = 0
    assert watch.look() == 0.0
    clock.now += 9.0
    assert watch.look() == 9.0
