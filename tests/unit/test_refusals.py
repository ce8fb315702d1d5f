"""Which records a transaction that is done again is to handle with care."""

from __future__ import annotations

import pytest

from sabot_ray.runtime.policy import DeadLetter
from sabot_ray.runtime.refusals import Refusals
from sabot_ray.types import TopicPartition

PARTITION = TopicPartition("t", 0)


def search(refusals: Refusals, offsets: list[int], bad: set[int], most: int = 10**9) -> int:
    """Send records as a reader does until none is refused; return how often that took.

    Args:
        refusals: What is known.
        offsets: The records.
        bad: Those that the brokers refuse, with all that comes with them.
        most: How many records the brokers take together.
    """
    for count in range(1, 1000):
        for begin, end, is_suspect in list(refusals.segments(PARTITION, offsets)):
            part = offsets[begin:end]
            if refusals.is_refused(PARTITION, part[0]):
                continue
            if bad.isdisjoint(part) and len(part) <= most:
                continue
            if is_suspect and len(part) == 1:
                refusals.note(PARTITION, DeadLetter(part[0], "", "", "", ""))
            else:
                refusals.suspect(PARTITION, part)
            break
        else:
            return count
    raise AssertionError("it never ends")


def left_out(refusals: Refusals, offsets: range) -> list[int]:
    return [letter.offset for letter in refusals.refused(PARTITION, offsets)]


@pytest.mark.parametrize(
    ("count", "bad", "times"),
    [(1, {0}, 3), (7, {2, 5}, 4), (10_000, {4321}, 6), (10_000, {0, 5000, 9999}, 14)],
)
def test_refused_records_are_found_and_no_other(count: int, bad: set[int], times: int) -> None:
    refusals = Refusals()
    assert search(refusals, list(range(count)), bad) <= times
    assert left_out(refusals, range(count)) == sorted(bad)


def test_request_that_is_too_large_as_a_whole_is_sent_in_parts() -> None:
    refusals = Refusals()
    assert search(refusals, list(range(600)), set(), most=20) <= 20
    assert left_out(refusals, range(600)) == []


def test_what_is_committed_is_forgotten() -> None:
    refusals = Refusals()
    search(refusals, list(range(10)), {3, 8})
    refusals.forget(PARTITION, 5)
    assert not refusals.knows_of(PARTITION, range(5))
    assert left_out(refusals, range(10)) == [8]


def test_rows_of_a_refused_record_are_left_out_together() -> None:
    refusals = Refusals()
    refusals.note(PARTITION, DeadLetter(1, "", "", "", ""))
    segments = list(refusals.segments(PARTITION, [0, 1, 1, 2]))
    assert segments == [(0, 1, False), (1, 3, False), (3, 4, False)]
    assert [refusals.is_refused(PARTITION, o) for o in (0, 1, 2)] == [False, True, False]
