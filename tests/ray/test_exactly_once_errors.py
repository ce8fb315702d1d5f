"""Records that fail under `delivery="exactly_once"`: none is lost, and none is there twice."""

from __future__ import annotations

import functools
from collections.abc import Callable

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray import ConfigError, EncodeError, SinkError, Stream
from sabot_ray.runtime.output import OutputStream
from sabot_ray.testing import Record
from tests.conftest import MakeTopic, Produce
from tests.kafka.reading import await_no_transaction, read_all
from tests.ray.conftest import (
    committed,
    crash_at,
    dead_letter_options,
    kill_readers_at,
    written,
)
from tests.servers import KafkaBroker, wait_until

Copy = Callable[..., OutputStream]
Read = Callable[..., Stream]


@pytest.fixture
def read(read_numbers: Read) -> Read:
    """`read_numbers` of what is there by now."""
    return functools.partial(read_numbers, end="latest")


def keys(broker: KafkaBroker, topic: str) -> list[int]:
    return sorted(int(record.key or b"") for record in read_all(broker, topic))


def test_dead_letters_are_written_exactly_once_though_readers_are_killed(
    read: Read, copy: Copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce
) -> None:
    source, target, dead = make_topic(partitions=2), make_topic(partitions=2), make_topic()
    bad = [n for n in range(30_000) if n % 7 == 3]
    produce(
        source,
        [
            Record(b'{"n":"%d"}' % n if n % 7 == 3 else b'{"n":%d}' % n, b"%d" % n, n % 2)
            for n in range(30_000)
        ],
    )
    output = copy(
        read(source, end=None, readers=2, **dead_letter_options(dead)), target, wait=False
    )
    kill_readers_at(output, 1, 3000, 9000)
    wait_until(lambda: committed(broker, source) == 30_000, 60.0)
    output.stop()

    assert output.status().restarts >= 1
    assert written(broker, target) == [n for n in range(30_000) if n % 7 != 3]
    assert keys(broker, dead) == bad
    for topic in (target, dead):
        await_no_transaction(broker.bootstrap_servers, topic)


def test_ranges_of_which_nothing_is_left_are_committed_with_their_dead_letters(
    read: Read, copy: Copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce,
    topic: str,
) -> None:  # fmt: skip
    source, dead = make_topic(), make_topic()
    produce(source, [Record(b"{", b"%d" % n) for n in range(250)])
    output = copy(read(source, **dead_letter_options(dead)), topic)

    assert keys(broker, dead) == list(range(250))
    assert committed(broker, source) == 250
    assert (output.status().rows, output.status().dead_letters) == (0, 250)


def test_records_on_which_a_function_fails_or_that_cannot_be_encoded_are_passed_over(
    read: Read, copy: Copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce,
    topic: str,
) -> None:  # fmt: skip
    source, dead = make_topic(), make_topic()
    produce(source, [Record(b'{"n":%d}' % n, b"%d" % n) for n in range(300)])

    def invert(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 120 in batch["n"].to_pylist():
            raise ValueError("120")
        return batch.append_column("x", pc.divide(1.0, pc.subtract(batch["n"], 40).cast("float64")))

    output = copy(read(source, **dead_letter_options(dead)).map(invert), topic)

    assert written(broker, topic) == [n for n in range(300) if n not in (40, 120)]
    assert keys(broker, dead) == [40, 120]
    assert (output.status().skipped, committed(broker, source)) == (2, 300)


@pytest.mark.parametrize("policy", ["dead_letter", "skip"])
@pytest.mark.parametrize("many", [0, 300], ids=["a-request", "too-large-a-request"])
def test_records_that_the_brokers_refuse_cost_their_transactions_and_nothing_else(
    read: Read, copy: Copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce,
    policy: str, many: int, topic: str,
) -> None:  # fmt: skip
    source, small = make_topic(), make_topic(max_message_bytes=1000)
    sizes = [10, *[11] * many, 20, 5000, 30, *[12] * many, 40, 3000, 50]
    produce(source, [Record(b'{"t":"%s"}' % (b"x" * n), b"%d" % n) for n in sizes])
    options = {"error_handling_policy": "skip"} if policy == "skip" else dead_letter_options(topic)
    stream = read(source, schema={"t": "string"}, batch_size=1000, **options)
    output = copy(stream, small, compression_type="none")

    found = [len(orjson.loads(record.value or b"")["t"]) for record in read_all(broker, small)]
    assert found == [n for n in sizes if n < 1000]
    assert keys(broker, topic) == ([] if policy == "skip" else [3000, 5000])
    assert (output.status().skipped, committed(broker, source)) == (2, len(sizes))
    await_no_transaction(broker.bootstrap_servers, small)


def test_records_beyond_the_clients_limit_are_skipped(
    read: Read, copy: Copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, topic: str
) -> None:
    source = make_topic()
    sizes = [10, 5000, 20, 6000, 30]
    produce(source, [Record(b'{"t":"%s"}' % (b"x" * n)) for n in sizes])
    stream = read(source, schema={"t": "string"}, error_handling_policy="skip")
    output = copy(stream, topic, max_request_size=2000)

    found = [len(orjson.loads(record.value or b"")["t"]) for record in read_all(broker, topic)]
    assert found == [10, 20, 30]
    assert (output.status().skipped, committed(broker, source)) == (2, 5)


@pytest.mark.timeout(240)
def test_record_that_ends_its_readers_is_quarantined_and_no_other_is_there_twice(
    read: Read, copy: Copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, topic: str
) -> None:
    source, dead = make_topic(partitions=2), make_topic()
    produce(source, [Record(b'{"n":%d}' % n, b"%d" % n, n % 2) for n in range(3000)])

    output = copy(read(source, **dead_letter_options(dead)).map(crash_at(1502)), topic)

    assert written(broker, topic) == [n for n in range(3000) if n != 1502]
    assert keys(broker, dead) == [1502]
    status = output.status()
    assert (status.quarantined, status.skipped, status.dead_letters) == (1, 1, 1)
    assert committed(broker, source) == 3000


def test_dead_letter_that_is_refused_commits_nothing_of_its_transaction(
    read: Read, copy: Copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, topic: str
) -> None:
    source, dead = make_topic(), make_topic(max_message_bytes=1000)
    produce(source, [b'{"n":0}', b'{"n":"%s"}' % (b"x" * 5000), b'{"n":2}'])
    message = "not all failed records could be written to the dead-letter topic"
    with pytest.raises(SinkError, match=message):
        copy(read(source, **dead_letter_options(dead)), topic, compression_type="none")

    assert (read_all(broker, topic), read_all(broker, dead)) == ([], [])
    assert committed(broker, source) == 0
    await_no_transaction(broker.bootstrap_servers, topic)


def test_row_of_which_nobody_knows_the_record_commits_no_part_of_its_range(
    read: Read, copy: Copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, topic: str
) -> None:
    source = make_topic()
    produce(source, [Record(b'{"n":%d}' % n) for n in range(200)])

    def summarise(batch: pa.RecordBatch) -> pa.RecordBatch:
        last = batch["n"][-1].as_py()
        return pa.record_batch({"n": [last, -1], "x": [1.0, 1.0 if last < 100 else float("inf")]})

    stream = read(source, error_handling_policy="skip").map(summarise)
    with pytest.raises(EncodeError, match=r"\$\.x") as caught:
        copy(stream, topic, interval_s=5.0)
    assert "make rows of several records together" in caught.value.__notes__[0]

    # All of a batch or nothing of it.
    assert len(written(broker, topic)) == committed(broker, source) // 100 * 2
    assert 199 not in written(broker, topic)
    await_no_transaction(broker.bootstrap_servers, topic)


def test_limit_of_the_client_is_refused_beside_dead_letters(read: Read, copy: Copy) -> None:
    with pytest.raises(ConfigError, match=r"max_request_size: .* the same client"):
        copy(read("t", **dead_letter_options("dead")), "target", max_request_size=2000)
