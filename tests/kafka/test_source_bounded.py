"""Every kind of end that a partition can have: bounded reads stop there, with exactly the rows."""

from __future__ import annotations

import pytest

from sabot_ray.kafka.metadata import resolve_ranges
from sabot_ray.testing import Record
from sabot_ray.types import Watermarks
from tests.kafka.reading import delete_records, number, numbered, numbers_spec, read_to


def test_read_range_ending_at_commit_marker_gives_all_rows(
    broker, topic, open_source, produce_in_transaction
):
    produce_in_transaction(topic, map(number, range(3))).commit()
    source = open_source(numbers_spec(broker, topic), end_offset=4)
    assert read_to(source, 4).equals(numbered((n, n) for n in range(3)))
    assert source.position() == 4


def test_read_range_ending_at_abort_marker_gives_rows_before(
    broker, topic, open_source, produce, produce_in_transaction
):
    produce(topic, [number(0), number(1)])
    produce_in_transaction(topic, [number(2), number(3)]).abort()
    source = open_source(numbers_spec(broker, topic), end_offset=5)
    assert read_to(source, 5).equals(numbered([(0, 0), (1, 1)]))
    assert source.position() == 5


def test_read_range_wholly_aborted_gives_no_row(broker, topic, open_source, produce_in_transaction):
    produce_in_transaction(topic, map(number, range(3))).abort()
    source = open_source(numbers_spec(broker, topic), end_offset=4)
    assert read_to(source, 4).equals(numbered([]))
    assert source.position() == 4


def test_read_range_between_markers_gives_committed_rows_only(
    broker, topic, open_source, produce, produce_in_transaction
):
    produce(topic, [number(0)])
    produce_in_transaction(topic, [number(1), number(2)]).abort()
    produce_in_transaction(topic, [number(4)]).commit()
    produce_in_transaction(topic, [number(6)]).abort()
    produce(topic, [number(8)])
    source = open_source(numbers_spec(broker, topic), end_offset=9)
    assert read_to(source, 9).equals(numbered([(0, 0), (4, 4), (8, 8)]))


def test_read_range_with_interleaved_transactions_gives_committed_rows_only(
    broker, topic, open_source, produce, produce_in_transaction
):
    aborted = produce_in_transaction(topic, [number(0)])
    committed = produce_in_transaction(topic, [number(1)])
    produce(topic, [number(2)])
    aborted.abort()
    committed.commit()
    source = open_source(numbers_spec(broker, topic), end_offset=5)
    assert read_to(source, 5).equals(numbered([(1, 1), (2, 2)]))


def test_read_range_uncommitted_gives_aborted_rows_too(
    broker, topic, open_source, produce_in_transaction
):
    produce_in_transaction(topic, [number(0), number(1)]).abort()
    spec = numbers_spec(broker, topic, config={"isolation_level": "read_uncommitted"})
    source = open_source(spec, end_offset=3)
    assert read_to(source, 3).equals(numbered([(0, 0), (1, 1)]))


def test_read_range_up_to_open_transaction_gives_rows_before(
    broker, topic, open_source, produce, produce_in_transaction
):
    produce(topic, [number(0), number(1)])
    produce_in_transaction(topic, [number(2)])
    source = open_source(numbers_spec(broker, topic), end_offset=2)
    assert source.watermarks() == Watermarks(low=0, high=3, last_stable=2)
    assert read_to(source, 2).equals(numbered([(0, 0), (1, 1)]))


def test_read_past_open_transaction_waits_until_it_commits(
    broker, topic, open_source, produce_in_transaction
):
    transaction = produce_in_transaction(topic, [number(0)])
    source = open_source(numbers_spec(broker, topic))
    assert source.poll(10, timeout_s=0.5).num_rows == 0
    assert source.position() == 0
    transaction.commit()
    assert read_to(source, 2).equals(numbered([(0, 0)]))


def test_read_range_of_empty_partition_finishes_at_once(broker, topic, open_source):
    source = open_source(numbers_spec(broker, topic), end_offset=0)
    assert source.poll(10, timeout_s=30).num_rows == 0
    assert source.position() == 0


def test_read_range_of_emptied_partition_finishes_at_once(broker, topic, open_source, produce):
    produce(topic, map(number, range(3)))
    delete_records(broker, topic)
    source = open_source(numbers_spec(broker, topic), start_offset=3, end_offset=3)
    assert source.poll(10, timeout_s=30).num_rows == 0
    assert source.position() == 3


def test_watermarks_of_emptied_partition_are_equal(broker, topic, open_source, produce):
    produce(topic, map(number, range(3)))
    delete_records(broker, topic)
    source = open_source(numbers_spec(broker, topic), start_offset=3)
    assert source.watermarks() == Watermarks(low=3, high=3, last_stable=3)


@pytest.mark.parametrize(("start", "end"), [(2, 2), (3, 2)])
def test_read_range_with_start_at_or_past_end_finishes_at_once(
    broker, topic, open_source, produce, start, end
):
    produce(topic, map(number, range(5)))
    source = open_source(numbers_spec(broker, topic), start_offset=start, end_offset=end)
    assert source.poll(10, timeout_s=30).num_rows == 0
    assert source.position() == start


def test_read_range_with_end_in_the_future_stops_at_the_clamped_one(
    broker, topic, open_source, produce
):
    produce(topic, map(number, range(3)))
    spec = numbers_spec(broker, topic)
    watermarks = {0: open_source(spec).watermarks()}
    clamped = resolve_ranges(
        topic, watermarks, start=0, end=1_000_000, committed={}, auto_offset_reset="earliest"
    )[0]
    source = open_source(spec, start_offset=0, end_offset=clamped.end_offset)
    assert read_to(source, 3).equals(numbered((n, n) for n in range(3)))
    assert source.poll(10, timeout_s=30).num_rows == 0


def test_read_range_within_record_batches_gives_neither_more_nor_less(
    broker, topic, open_source, produce
):
    produce(topic, map(number, range(10)), linger_ms=200)
    source = open_source(numbers_spec(broker, topic), start_offset=3, end_offset=7)
    assert read_to(source, 7).equals(numbered((n, n) for n in range(3, 7)))
    assert source.position() == 7
    assert source.poll(10, timeout_s=30).num_rows == 0


def test_read_range_ending_in_compacted_gap_reaches_its_end(
    broker, make_topic, open_source, produce, wait_until
):
    topic = make_topic(
        cleanup_policy="compact",
        segment_ms=500,
        min_cleanable_dirty_ratio=0.01,
        max_compaction_lag_ms=1000,
    )
    # Every segment holds few records; all but the newest record of the key go away.
    for n in range(5):
        produce(topic, [Record(number(n), b"key"), Record(number(n), b"key")])
    spec = numbers_spec(broker, topic)

    def compacted() -> bool:
        # A write rolls the active segment, which is never compacted.
        produce(topic, [Record(number(99), b"other")])
        source = open_source(spec)
        rows = read_to(source, source.watermarks().high)
        source.close()
        return rows.column("_kafka_offset").to_pylist()[0] == 9

    wait_until(compacted, 60.0)
    source = open_source(spec, end_offset=8)
    assert read_to(source, 8).equals(numbered([]))
    assert source.position() == 8
    source = open_source(spec, start_offset=2, end_offset=10)
    assert read_to(source, 10).equals(numbered([(4, 9)]))
