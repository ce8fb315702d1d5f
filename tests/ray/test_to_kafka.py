"""`Stream.to_kafka` on real Ray actors and a real broker: what it writes, commits and refuses."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any

import orjson
import psutil
import pyarrow.compute as pc
import pytest

from sabot_ray import ConfigError, EncodeError, SinkError, Stream, UnknownTopicOrPartition
from sabot_ray.kafka.source import Backend
from sabot_ray.testing import Record
from tests.conftest import MakeTopic, Produce
from tests.kafka.reading import read_all
from tests.ray.conftest import ReadTopic, committed, written
from tests.servers import KafkaBroker, wait_until

NUMBERS = {"n": "int64"}


@pytest.fixture
def numbers(make_topic: MakeTopic, produce: Produce) -> str:
    """A topic of two partitions with the numbers 0 to 199."""
    topic = make_topic(partitions=2)
    produce(topic, [Record(b'{"n":%d}' % n, b"k%d" % n, partition=n % 2) for n in range(200)])
    return topic


@pytest.mark.parametrize("use_cpp", [True, False])
def test_seed_example_writes_the_flagged_rows(
    broker: KafkaBroker,
    make_topic: MakeTopic,
    produce: Produce,
    ray_session: None,
    use_cpp: bool,
) -> None:
    transactions, flagged = make_topic(), make_topic()
    rows = [{"id": n, "amount": 100.5 * n} for n in range(30)]
    produce(transactions, rows)
    stream = Stream.from_kafka(
        bootstrap_servers=broker.bootstrap_servers,
        topic=transactions,
        group_id=f"processor-{transactions}",
        use_cpp=use_cpp,
        end="latest",
    )

    stream.filter(lambda b: b["amount"] > 1000.0).to_kafka(
        broker.bootstrap_servers, flagged, use_cpp=use_cpp
    )

    found = [orjson.loads(record.value) for record in read_all(broker, flagged)]
    assert found == [row for row in rows if row["amount"] > 1000.0]


def test_key_headers_and_partition_come_from_the_stream(
    read_topic: ReadTopic,
    backend: Backend,
    broker: KafkaBroker,
    numbers: str,
    make_topic: MakeTopic,
) -> None:
    copy = make_topic(partitions=2)
    stream = read_topic(numbers, end="latest", schema=NUMBERS, metadata=True)

    output = stream.to_kafka(
        broker.bootstrap_servers,
        copy,
        use_cpp=backend == "native",
        key="_kafka_key",
        timestamp="_kafka_timestamp",
        partition=pc.field("_kafka_partition"),
    )

    assert read_all(broker, copy) == read_all(broker, numbers)
    assert output.status().rows == 200


def test_what_is_written_is_committed_and_not_written_again(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, numbers: str, topic: str
) -> None:
    stream = read_topic(numbers, numbers, end="latest", schema=NUMBERS, batch_size=10)
    options = {"use_cpp": backend == "native"}

    stream.filter(lambda b: b["n"] < 100).to_kafka(broker.bootstrap_servers, topic, **options)
    assert committed(broker, numbers) == 200
    stream.to_kafka(broker.bootstrap_servers, topic, **options)

    assert written(broker, topic) == list(range(100))


def test_output_in_the_background_stops_without_loss_or_doubles(
    read_topic: ReadTopic,
    backend: Backend,
    broker: KafkaBroker,
    numbers: str,
    topic: str,
    produce: Produce,
) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS, batch_size=10)
    output = stream.to_kafka(
        broker.bootstrap_servers, topic, use_cpp=backend == "native", wait=False
    )
    assert output.start() is output
    wait_until(lambda: output.status().rows == 200, 30.0)
    assert not output.wait(0.1)
    produce(numbers, [Record(b'{"n":%d}' % n, partition=n % 2) for n in range(200, 1200)])
    wait_until(lambda: output.status().rows > 200, 30.0)
    output.stop()
    assert output.status().state == "CLOSED"
    after_stop = written(broker, topic)
    assert committed(broker, numbers) == len(after_stop)

    with output.start():
        wait_until(lambda: len(written(broker, topic)) >= 1200, 30.0)
    assert written(broker, topic) == list(range(1200))


def test_reader_that_dies_loses_nothing(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, make_topic: MakeTopic,
    produce: Produce, topic: str,
) -> None:  # fmt: skip
    source = make_topic()
    produce(source, [Record(b'{"n":%d}' % n) for n in range(20_000)])
    stream = read_topic(source, source, schema=NUMBERS, batch_size=100)
    with stream.to_kafka(
        broker.bootstrap_servers, topic, use_cpp=backend == "native", interval_s=0.1, wait=False
    ) as output:
        wait_until(lambda: output.status().rows > 1000, 30.0)
        for process in psutil.Process().children(recursive=True):
            if "ray::WritingReader" in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: output.status().rows == 20_000, 60.0)
        assert output.status().restarts == 1

    counts = Counter(written(broker, topic))
    assert counts.keys() == set(range(20_000))
    # What was under way when it died.
    assert max(counts.values()) <= 2


def test_union_is_written_to_one_topic(
    read_topic: ReadTopic, broker: KafkaBroker, numbers: str, make_topic: MakeTopic,
    produce: Produce, topic: str,
) -> None:  # fmt: skip
    other = make_topic()
    produce(other, [Record(b'{"n":%d}' % n) for n in range(200, 250)])
    streams = [read_topic(t, end="latest", schema=NUMBERS) for t in (numbers, other)]
    streams[0].union(streams[1]).to_kafka(broker.bootstrap_servers, topic)
    assert written(broker, topic) == list(range(250))


def test_schema_that_grows_is_written_without_doubles(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, make_topic: MakeTopic,
    produce: Produce, topic: str,
) -> None:  # fmt: skip
    source = make_topic(partitions=2)

    def value(n: int) -> bytes:
        # A field that the second partition never has.
        return b'{"n":%d,"m":1}' % n if n % 2 == 0 and n >= 500 else b'{"n":%d}' % n

    produce(source, [Record(value(n), partition=n % 2) for n in range(1000)])
    stream = read_topic(
        source, source, schema=NUMBERS, unknown_fields="evolve", end="latest", batch_size=20
    )
    stream.to_kafka(broker.bootstrap_servers, topic, use_cpp=backend == "native")

    assert written(broker, topic) == list(range(1000))
    rows = [orjson.loads(record.value) for record in read_all(broker, topic)]
    assert sum(row.get("m") == 1 for row in rows) == 250


# errors


def test_row_that_cannot_be_encoded_says_where_it_was_read(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, make_topic: MakeTopic,
    produce: Produce, topic: str,
) -> None:  # fmt: skip
    source = make_topic()
    produce(source, [Record(b'{"x":%d}' % n) for n in range(30)])
    stream = read_topic(source, source, schema={"x": "float64"}, end="latest", batch_size=10)
    broken = stream.map(lambda b: b.append_column("y", pc.divide(1.0, pc.subtract(b["x"], 15.0))))
    with pytest.raises(EncodeError) as caught:
        broken.to_kafka(broker.bootstrap_servers, topic, use_cpp=backend == "native")
    assert f"read from {source}[0], offsets 10 to 19" in str(caught.value)
    assert (caught.value.row, caught.value.field) == (5, "$.y")
    # What came before is written and committed.
    assert len(read_all(broker, topic)) == 10
    assert committed(broker, source) == 10


def test_record_that_is_refused_ends_the_stream_before_its_offset(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, make_topic: MakeTopic,
    produce: Produce,
) -> None:  # fmt: skip
    source, small = make_topic(), make_topic(max_message_bytes=1000)
    produce(source, [Record(b'{"t":"%s"}' % (b"x" * n)) for n in (1, 2, 5000, 3)])
    stream = read_topic(source, source, schema={"t": "string"}, end="latest", batch_size=1)
    with pytest.raises(SinkError, match=rf"topic '{small}'.* was not written: (?i:.*large)"):
        stream.to_kafka(
            broker.bootstrap_servers, small, use_cpp=backend == "native", compression_type="none"
        )
    assert committed(broker, source) <= 2


def test_missing_topic_is_an_error(
    read_topic: ReadTopic, broker: KafkaBroker, numbers: str
) -> None:
    with pytest.raises(UnknownTopicOrPartition, match="'nowhere' does not exist"):
        read_topic(numbers, end="latest", schema=NUMBERS).to_kafka(
            broker.bootstrap_servers, "nowhere"
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delivery": "twice"}, "delivery: 'twice' is not one of 'at_least_once', 'exactly_once'"),
        ({"codec_options": {}}, "codec_options: not available yet"),
        ({"interval_s": 0}, "interval_s: expected seconds"),
        ({"key": "m"}, "key: .*'m'"),
        ({"columns": []}, "columns: "),
        ({"fetch_min_bytes": 1}, "a producer has nothing like it"),
        ({"intervall_s": 1}, "'intervall_s'; did you mean 'interval_s'"),
        ({"sasl_password": "planted"}, "(?s)secret in clear|SASL|security_protocol"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_read(
    read_topic: ReadTopic, numbers: str, topic: str, broker: KafkaBroker,
    options: dict[str, Any], message: str,
) -> None:  # fmt: skip
    stream = read_topic(numbers, numbers, end="latest", schema=NUMBERS)
    with pytest.raises(ConfigError, match=message):
        stream.to_kafka(broker.bootstrap_servers, topic, **options)
