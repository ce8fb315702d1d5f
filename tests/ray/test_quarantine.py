"""Records that end the process of their reader: found, and passed over or named."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from sabot_ray import ReaderFailed
from sabot_ray.kafka.source import Backend
from sabot_ray.testing import Record
from tests.conftest import MakeTopic, Produce
from tests.faults.processes import readers
from tests.kafka.reading import read_all
from tests.ray.conftest import ReadTopic, committed, crash_at
from tests.servers import KafkaBroker

NUMBERS = {"n": "int64"}
COUNT = 3000


@pytest.fixture
def numbers(make_topic: MakeTopic, produce: Produce) -> str:
    """A topic of two partitions with numbers."""
    topic = make_topic(partitions=2)
    produce(topic, [Record(b'{"n":%d}' % n, b"k%d" % n, n % 2) for n in range(COUNT)])
    return topic


@pytest.mark.timeout(180)
@pytest.mark.parametrize("readers_count", [2, 1])
def test_record_that_ends_its_readers_becomes_a_dead_letter(
    read_topic: ReadTopic, broker: KafkaBroker, numbers: str, topic: str, readers_count: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    stream = read_topic(
        numbers,
        numbers,
        end="latest",
        schema=NUMBERS,
        batch_size=500,
        readers=readers_count,
        error_handling_policy="dead_letter",
        dead_letter_topic=topic,
    ).map(crash_at(1502))
    with stream.start() as run:
        rows = [n for batch in run for n in batch["n"].to_pylist()]
        status = run.status()

    assert sorted(rows) == [n for n in range(COUNT) if n != 1502]
    (letter,) = read_all(broker, topic)
    assert (letter.key, letter.value) == (b"k1502", b'{"n":1502}')
    headers = dict(letter.headers)
    assert headers["__connect.errors.offset"] == b"751"
    assert headers["__connect.errors.exception.class.name"] == b"sabot_ray.errors.ReaderFailed"
    assert (status.quarantined, status.skipped, status.dead_letters) == (1, 1, 1)
    assert f"topic '{numbers}' partition 0 offset 751: the record there is passed over" in (
        caplog.text
    )
    assert committed(broker, numbers) == COUNT


@pytest.mark.timeout(240)
def test_stream_that_writes_passes_over_records_that_end_its_readers(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, numbers: str, topic: str
) -> None:
    stream = read_topic(
        numbers, numbers, end="latest", schema=NUMBERS, batch_size=500,
        error_handling_policy="skip",
    ).map(crash_at(1000, 1001, 2500))  # fmt: skip
    output = stream.to_kafka(broker.bootstrap_servers, topic, use_cpp=backend == "native")

    found = [orjson.loads(record.value or b"")["n"] for record in read_all(broker, topic)]
    # At least once: what was not told when a reader died is written again.
    assert set(found) == set(range(COUNT)) - {1000, 1001, 2500}
    assert output.status().quarantined == 3
    assert committed(broker, numbers) == COUNT


@pytest.mark.timeout(180)
def test_record_that_ends_its_readers_is_named_where_the_policy_is_to_fail(
    read_topic: ReadTopic, broker: KafkaBroker, numbers: str
) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS, batch_size=500).map(crash_at(1502))
    rows: list[Any] = []
    message = rf"topic '{numbers}' partition 0 offset 751: the record there ended the process"
    with pytest.raises(ReaderFailed, match=message):
        for batch in stream:
            rows += batch["n"].to_pylist()
    assert [n for n in rows if n % 2 == 0] == list(range(0, 1502, 2))


@pytest.mark.timeout(180)
def test_readers_that_others_kill_accuse_no_record(read_topic: ReadTopic, numbers: str) -> None:
    stream = read_topic(numbers, schema=NUMBERS, end="latest", batch_size=100, readers=1)
    rows: list[Any] = []
    with stream.start() as run:
        for number, batch in enumerate(run):
            rows += batch["n"].to_pylist()
            if number in (1, 2, 4, 8, 12):
                for reader in readers():
                    reader.kill()
        assert run.status().restarts >= 2
    assert sorted(rows) == list(range(COUNT))
