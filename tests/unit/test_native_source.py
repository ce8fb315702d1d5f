"""`LibrdkafkaSource` without Ray, on librdkafka's mock cluster."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import BackendUnavailable, BrokerUnavailable, ConfigError, OffsetOutOfRange
from sabot_ray.kafka import librdkafka
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.librdkafka import LibrdkafkaClient, LibrdkafkaSource
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.testing import EmbeddedKafka
from sabot_ray.types import Watermarks

pytestmark = pytest.mark.skipif(
    librdkafka.load_error() is not None, reason=str(librdkafka.load_error())
)

SCHEMA = pa.schema([pa.field("n", pa.int64(), metadata={"unit": "m"}), ("text", pa.string())])


@pytest.fixture(scope="module")
def kafka() -> Iterator[EmbeddedKafka]:
    """A mock cluster with the topic "numbers" of ten records, and an empty one."""
    with EmbeddedKafka() as kafka:
        kafka.create_topic("numbers", 1)
        kafka.create_topic("empty", 2)
        kafka.produce("numbers", [b'{"n":%d,"text":"t%d"}' % (n, n) for n in range(10)])
        yield kafka


def rows(start: int, end: int) -> pa.Table:
    numbers = range(start, end)
    return pa.table([list(numbers), [f"t{n}" for n in numbers]], schema=SCHEMA)


def read(source: LibrdkafkaSource, end: int) -> pa.Table:
    batches = []
    while source.position() < end:
        batches.append(source.poll(1000, timeout_s=10))
    return pa.Table.from_batches(batches, SCHEMA).combine_chunks()


def spec(kafka: EmbeddedKafka, topic: str) -> SourceSpec:
    return SourceSpec(
        KafkaConfig(kafka.bootstrap_servers), topic, JsonCodec(SCHEMA), tuple(SCHEMA.names)
    )


def test_poll_bounded_range_gives_its_rows_with_the_schemas_metadata(kafka: EmbeddedKafka) -> None:
    source = LibrdkafkaSource(kafka.bootstrap_servers, "numbers", schema=SCHEMA, start=2, end=8)

    table = read(source, 8)

    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert table.equals(rows(2, 8))
    assert source.poll(1, timeout_s=60).num_rows == 0
    assert source.watermarks() == Watermarks(0, 10, 10)
    source.close()


def test_start_with_the_epoch_of_what_was_read_goes_on_and_with_an_unknown_one_does_not(
    kafka: EmbeddedKafka,
) -> None:
    client = LibrdkafkaClient(KafkaConfig(kafka.bootstrap_servers))
    first = client.open_source(spec(kafka, "numbers"), 0, 0)
    assert read(first, 5).num_rows >= 5
    position, epoch = first.position(), first.leader_epoch()
    first.close()
    again = client.open_source(spec(kafka, "numbers"), 0, position - 1, None, epoch)
    assert read(again, position).num_rows >= 1
    again.close()
    client.close()

    # A client that has read the partition takes the epoch for checked.
    client = LibrdkafkaClient(KafkaConfig(kafka.bootstrap_servers))
    unknown = client.open_source(spec(kafka, "numbers"), 0, 5, None, epoch + 7)
    with pytest.raises(OffsetOutOfRange) as caught:
        read(unknown, 10)
    # Nothing of what was read is known to be in this log.
    assert caught.value.diverges_at == 0
    client.close()


def test_batches_outlive_their_source(kafka: EmbeddedKafka) -> None:
    source = LibrdkafkaSource(kafka.bootstrap_servers, "numbers", schema=SCHEMA, end=10)
    table = read(source, 10)
    source.shutdown()
    del source
    gc.collect()

    assert table.equals(rows(0, 10))


def test_get_next_batch_waits_for_rows_and_is_empty_at_the_end(kafka: EmbeddedKafka) -> None:
    source = LibrdkafkaSource(kafka.bootstrap_servers, "numbers", schema=SCHEMA, start=8, end=10)

    async def read_all() -> list[int]:
        numbers: list[int] = []
        while batch := (await source.get_next_batch(1)).to_pylist():
            numbers += [row["n"] for row in batch]
        return numbers

    assert asyncio.run(read_all()) == [8, 9]
    source.close()


def test_close_wakes_a_blocked_poll_and_is_idempotent(kafka: EmbeddedKafka) -> None:
    source = LibrdkafkaSource(kafka.bootstrap_servers, "empty", partition_id=1, schema=SCHEMA)
    batches = []
    poll = threading.Thread(target=lambda: batches.append(source.poll(10, timeout_s=60)))
    poll.start()

    source.close()
    source.close()
    poll.join(10)

    assert [batch.num_rows for batch in batches] == [0]
    assert source.poll(10, timeout_s=60).num_rows == 0


def decoding_threads() -> int:
    """Return how many threads decode for others in this process."""
    count = 0
    for path in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # A thread that ended.
            count += path.read_text() == "sabot-decode\n"
    return count


def test_decode_threads_give_the_same_rows_and_end_with_their_client(kafka: EmbeddedKafka) -> None:
    kafka.create_topic("texts", 1)
    texts = [f"{n} " * 200 for n in range(3000)]
    kafka.produce("texts", [b'{"n":%d,"text":"%s"}' % (n, t.encode()) for n, t in enumerate(texts)])
    client = LibrdkafkaClient(KafkaConfig(kafka.bootstrap_servers))
    longs, numbers = (
        client.open_source(replace(spec(kafka, topic), decode_threads=3), 0, 0, end)
        for topic, end in (("texts", 3000), ("numbers", 10))
    )

    assert decoding_threads() == 2
    assert read(longs, 3000).equals(pa.table([list(range(3000)), texts], schema=SCHEMA))
    assert read(numbers, 10).equals(rows(0, 10))
    client.close()
    assert decoding_threads() == 0


def test_client_closes_its_sources_and_keeps_them_apart(kafka: EmbeddedKafka) -> None:
    client = LibrdkafkaClient(KafkaConfig(kafka.bootstrap_servers))
    numbers = client.open_source(spec(kafka, "numbers"), 0, 0, 10)
    empty = client.open_source(spec(kafka, "empty"), 0, 0)

    assert read(numbers, 10).equals(rows(0, 10))
    assert empty.poll(10, timeout_s=0).num_rows == 0
    client.close()
    assert empty.poll(10, timeout_s=60).num_rows == 0
    assert numbers.position() == 10


def test_poll_beyond_the_log_gives_offset_out_of_range(kafka: EmbeddedKafka) -> None:
    client = LibrdkafkaClient(KafkaConfig(kafka.bootstrap_servers))
    source = client.open_source(spec(kafka, "numbers"), 0, 99)

    with pytest.raises(OffsetOutOfRange, match="topic 'numbers' partition 0 offset 99"):
        source.poll(10, timeout_s=10)
    source.seek(9)
    assert read(source, 10).equals(rows(9, 10))
    client.close()


def test_watermarks_without_a_broker_names_the_connections_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = LibrdkafkaClient(KafkaConfig("127.0.0.1:1"))
    nowhere = SourceSpec(KafkaConfig("127.0.0.1:1"), "t", JsonCodec(SCHEMA), ("n",))
    source = client.open_source(nowhere, 0, 0)
    with caplog.at_level(logging.DEBUG, "sabot_ray.librdkafka"):
        while not client.client_errors():
            assert source.poll(10, timeout_s=0.05).num_rows == 0
        source.poll(10, timeout_s=0)

    assert all(isinstance(error, BrokerUnavailable) for error in client.client_errors())
    assert any("Connection refused" in record.message for record in caplog.records)
    client.close()


def statistics(
    brokers: dict[str, dict[str, Any]], partitions: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the part of librdkafka's statistics that tells who is in reach."""
    healthy = {"source": "learned", "state": "UP", "waitresp_cnt": 1, "rxidle": 400_000}
    return {
        "brokers": {name: {**healthy, **told} for name, told in brokers.items()},
        "topics": {"numbers": {"partitions": dict(enumerate(partitions))}},
    }


ONE, TWO = {"nodeid": 1}, {"nodeid": 2}
ACTIVE = {"broker": 1, "fetch_state": "active"}


@pytest.mark.parametrize(
    ("brokers", "partitions", "cut_off"),
    [
        ({"one": ONE, "two": TWO}, [ACTIVE], False),
        # The partition's own broker counts, and no other.
        ({"one": {**ONE, "state": "CONNECT"}, "two": TWO}, [ACTIVE], True),
        ({"one": ONE, "two": {**TWO, "state": "DOWN"}}, [ACTIVE], False),
        ({"one": ONE, "two": {**TWO, "state": "DOWN"}}, [ACTIVE, {**ACTIVE, "broker": 2}], True),
        ({"one": ONE}, [{**ACTIVE, "broker": -1}], True),
        ({"one": ONE}, [{"broker": -1, "fetch_state": "none"}], False),
        ({"one": {**ONE, "state": "REAUTH"}}, [ACTIVE], False),
        # Frozen: the connection is there, and no answer.
        ({"one": {**ONE, "rxidle": 1_600_000}}, [ACTIVE], True),
        # Nothing was asked: the queue is full.
        ({"one": {**ONE, "rxidle": 60_000_000, "waitresp_cnt": 0}}, [ACTIVE], False),
        # The coordinator's connection is another one.
        ({"one": {**ONE, "state": "DOWN"}, "c": {**ONE, "source": "logical"}}, [ACTIVE], True),
    ],
)
def test_is_cut_off_tells_whether_a_fetched_partitions_broker_answers(
    brokers: dict[str, dict[str, Any]], partitions: list[dict[str, Any]], cut_off: bool
) -> None:
    assert librdkafka._is_cut_off(statistics(brokers, partitions), 1500) is cut_off


def test_client_setting_that_librdkafka_refuses_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="debug"):
        LibrdkafkaClient(KafkaConfig("127.0.0.1:1", debug="no such context"))


def test_load_error_without_the_native_module_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sabot_ray

    monkeypatch.delattr(sabot_ray, "_native", raising=False)
    monkeypatch.setitem(sys.modules, "sabot_ray._native", None)

    assert librdkafka.load_error() == (
        "this installation has no native module (a pure-Python build); install a sabot-ray that "
        "was built with a C++ compiler"
    )
    with pytest.raises(BackendUnavailable):
        LibrdkafkaClient(KafkaConfig("127.0.0.1:1"))


def test_load_error_without_confluent_kafka_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka.cimpl", None)

    assert "confluent-kafka >= 2.13.2" in (librdkafka.load_error() or "")


def test_versions_names_every_library() -> None:
    from sabot_ray import _native

    versions = _native.versions()
    assert set(versions) == {"librdkafka", "simdjson", "simdjson_implementation"}
    assert all(versions.values())


@pytest.mark.parametrize(
    ("given", "is_shared", "wanted"),
    [({}, True, "50"), ({}, False, None), ({"fetch_max_wait_ms": 200}, True, "200")],
)
def test_shared_client_does_not_let_idle_partitions_hold_up_a_busy_one(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], is_shared: bool, wanted: str | None
) -> None:
    made: list[dict[str, str]] = []
    monkeypatch.setattr(librdkafka, "load_native", lambda: SimpleNamespace(Consumer=made.append))

    LibrdkafkaClient(KafkaConfig("localhost:9092", **given), is_shared=is_shared)

    assert made[0].get("fetch.wait.max.ms") == wanted
