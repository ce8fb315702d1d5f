"""Dead letters on a real broker: records read again by their offsets, and written as they were."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator

import pytest

from sabot_ray.errors import DataLoss, OffsetOutOfRange, SinkError
from sabot_ray.kafka.backend import connect_sink, connect_source_client
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.sink import PartitionSink
from sabot_ray.kafka.source import Backend
from sabot_ray.runtime.dead_letters import (
    PREFETCH_BYTES,
    DeadLetters,
    RawRecords,
    dead_letter_sink,
)
from sabot_ray.runtime.policy import DeadLetter
from sabot_ray.testing import Record
from sabot_ray.types import TopicPartition
from tests.conftest import MakeTopic, Produce, ProduceInTransaction
from tests.kafka.reading import Found, delete_records, read_all
from tests.servers import KafkaBroker

Open = Callable[[str], DeadLetters]


@pytest.fixture
def open_dead_letters(broker: KafkaBroker, backend: Backend) -> Iterator[Open]:
    """Opens what writes dead letters to a topic, with the test's backend."""
    config = KafkaConfig(broker.bootstrap_servers)
    opened: list[RawRecords | PartitionSink] = []

    def open_one(topic: str) -> DeadLetters:
        connect = functools.partial(connect_source_client, backend, config, PREFETCH_BYTES)
        spec = dead_letter_sink(config, topic)
        records = RawRecords(config, connect)
        sink = connect_sink(backend, spec)
        opened.extend((records, sink))
        return DeadLetters(records, lambda _: sink)

    yield open_one
    for one in opened:
        one.close()


def letter(offset: int) -> DeadLetter:
    return DeadLetter(offset, "VALUE_CONVERTER", "a.Codec", "an.Error", f"reason {offset}")


def as_read(found: list[Found]) -> list[Record]:
    """Return the records without what was added to their headers."""
    return [
        Record(f.value, f.key, f.partition, f.timestamp_ms, tuple(f.headers[:-7])) for f in found
    ]


def test_records_are_written_as_they_were_read_with_the_reasons_behind_their_headers(
    broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, open_dead_letters: Open
) -> None:
    at = 1_700_000_000_000
    records = [
        Record(b"\x00\xff no JSON", b"\xfe", 0, at, (("h", b"\x80"), ("h", None), ("", b""))),
        Record(None, b"k", 0, at + 1),
        Record(b"good", b"good", 0, at + 2),
        Record(b"", b"", 0, at + 3, (("ü", b"1"),)),
        Record(None, None, 0, at + 4),
        Record(b"v" * 3_000_000, None, 0, at + 5),
    ]
    broker_limit = {"max_message_bytes": 4_000_000}
    source = make_topic(**broker_limit)
    dead = make_topic(**broker_limit)
    produce(source, records, message_max_bytes=4_000_000)
    wanted = [0, 1, 3, 4, 5]

    place = TopicPartition(source, 0)
    open_dead_letters(dead).write(place, [letter(offset) for offset in wanted])

    found = read_all(broker, dead)
    assert as_read(found) == [records[offset] for offset in wanted]
    for record, offset in zip(found, wanted, strict=True):
        assert record.headers[-7:] == [
            ("__connect.errors.topic", source.encode()),
            ("__connect.errors.partition", b"0"),
            ("__connect.errors.offset", b"%d" % offset),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            ("__connect.errors.class.name", b"a.Codec"),
            ("__connect.errors.exception.class.name", b"an.Error"),
            ("__connect.errors.exception.message", b"reason %d" % offset),
        ]


def test_records_far_apart_and_many_times_are_found(
    broker: KafkaBroker, topic: str, make_topic: MakeTopic, produce: Produce,
    open_dead_letters: Open,
) -> None:  # fmt: skip
    dead = make_topic()
    produce(topic, [b"%d" % n for n in range(25_000)])
    dead_letters = open_dead_letters(dead)
    for offsets in ([0, 24_999], [12_345], [12_344, 12_346]):
        dead_letters.write(TopicPartition(topic, 0), [letter(offset) for offset in offsets])
    assert [record.value for record in read_all(broker, dead)] == [
        b"0",
        b"24999",
        b"12345",
        b"12344",
        b"12346",
    ]


def test_record_that_was_deleted_meanwhile_is_data_loss(
    broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, open_dead_letters: Open,
    produce_in_transaction: ProduceInTransaction,
) -> None:  # fmt: skip
    source, dead = make_topic(), make_topic()
    produce(source, [b"0", b"1"])
    # Its marker is at offset 3: no record is there.
    produce_in_transaction(source, [b"2"]).commit()
    with pytest.raises(DataLoss, match="partition 0 offset 3: a record that failed was deleted"):
        open_dead_letters(dead).write(TopicPartition(source, 0), [letter(1), letter(3)])


def test_log_that_begins_later_is_an_error(
    broker: KafkaBroker, topic: str, make_topic: MakeTopic, produce: Produce,
    open_dead_letters: Open,
) -> None:  # fmt: skip
    produce(topic, [b"0", b"1", b"2"])
    delete_records(broker, topic, 2)
    with pytest.raises(OffsetOutOfRange):
        open_dead_letters(make_topic()).write(TopicPartition(topic, 0), [letter(1)])


def test_record_that_the_dead_letter_topic_refuses_is_an_error_that_names_it(
    broker: KafkaBroker, topic: str, make_topic: MakeTopic, produce: Produce,
    open_dead_letters: Open,
) -> None:  # fmt: skip
    dead = make_topic(max_message_bytes=1000)
    # What is compressed well would fit.
    produce(topic, [random.Random(7).randbytes(5000)])
    with pytest.raises(SinkError, match=rf"topic '{topic}' partition 0, offset 0: .*(?i:large)"):
        open_dead_letters(dead).write(TopicPartition(topic, 0), [letter(0)])
    assert read_all(broker, dead) == []
