"""`error_handling_policy` on real Ray actors and a real broker: what is written and committed."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray import ConfigError, DecodeError, EncodeError, SinkError
from sabot_ray.kafka.source import Backend
from sabot_ray.testing import Record
from tests.conftest import MakeTopic, Produce
from tests.kafka.reading import Found, read_all
from tests.ray.conftest import ReadTopic, committed, dead_letter_options
from tests.servers import KafkaBroker, wait_until

NUMBERS = {"n": "int64"}
COUNT = 2000
#: Every so many records does not decode.
EVERY = 9


def value(n: int) -> bytes:
    return b'{"n":"%d"}' % n if n % EVERY == 4 else b'{"n":%d}' % n


BAD = [n for n in range(COUNT) if n % EVERY == 4]
GOOD = [n for n in range(COUNT) if n % EVERY != 4]


@pytest.fixture
def mixed(make_topic: MakeTopic, produce: Produce) -> str:
    """A topic of two partitions with good and bad records among each other."""
    topic = make_topic(partitions=2)
    produce(
        topic,
        [
            Record(value(n), b"k%d" % n, n % 2, 1_700_000_000_000 + n, (("h", b"%d" % n),))
            for n in range(COUNT)
        ],
    )
    return topic


def header(record: Found, name: str) -> str:
    (found,) = [value for key, value in record.headers if key == f"__connect.errors.{name}"]
    assert found is not None
    return found.decode()


def assert_are_the_bad_ones(letters: list[Found], source: str) -> None:
    assert len(letters) == len(BAD)
    by_number = {int((record.key or b"")[1:]): record for record in letters}
    assert sorted(by_number) == BAD
    for n, record in by_number.items():
        assert record.value == value(n)
        assert record.headers[0] == ("h", b"%d" % n)
        assert record.timestamp_ms == 1_700_000_000_000 + n
        place = [header(record, name) for name in ("topic", "partition", "offset")]
        assert place == [source, str(n % 2), str(n // 2)]
        assert header(record, "stage") == "VALUE_CONVERTER"
        assert header(record, "exception.class.name") == "sabot_ray.errors.DecodeError"
        assert header(record, "exception.message") == (
            f"topic '{source}' partition {n % 2} offset {n // 2}: field $.n: expected an integer, "
            "found a string"
        )


def test_records_that_do_not_decode_become_dead_letters_and_their_neighbours_rows(
    read_topic: ReadTopic, broker: KafkaBroker, mixed: str, topic: str
) -> None:
    stream = read_topic(
        mixed, mixed, end="latest", schema=NUMBERS, batch_size=50, **dead_letter_options(topic)
    )
    with stream.start() as run:
        rows = [n for batch in run for n in batch["n"].to_pylist()]
        status = run.status()

    assert sorted(rows) == GOOD
    assert [n for n in rows if n % 2] == [n for n in GOOD if n % 2]
    assert_are_the_bad_ones(read_all(broker, topic), mixed)
    assert committed(broker, mixed) == COUNT
    assert (status.decode_errors, status.dead_letters) == (len(BAD), len(BAD))
    assert "dead letters" in repr(status)


def test_readers_of_several_partitions_write_dead_letters(
    read_topic: ReadTopic, broker: KafkaBroker, mixed: str, topic: str
) -> None:
    stream = read_topic(
        mixed, mixed, end="latest", schema=NUMBERS, readers=1, **dead_letter_options(topic)
    )
    assert sum(batch.num_rows for batch in stream) == len(GOOD)
    assert_are_the_bad_ones(read_all(broker, topic), mixed)


def test_stream_that_writes_writes_dead_letters_beside(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, mixed: str, topic: str,
    make_topic: MakeTopic,
) -> None:  # fmt: skip
    target = make_topic()
    stream = read_topic(mixed, mixed, end="latest", schema=NUMBERS, **dead_letter_options(topic))
    stream.to_kafka(broker.bootstrap_servers, target, use_cpp=backend == "native")
    written = sorted(orjson.loads(record.value or b"")["n"] for record in read_all(broker, target))
    assert written == GOOD
    assert_are_the_bad_ones(read_all(broker, topic), mixed)
    assert committed(broker, mixed) == COUNT


def test_looking_skips_and_writes_nothing(
    read_topic: ReadTopic, broker: KafkaBroker, mixed: str, topic: str
) -> None:
    stream = read_topic(mixed, end="latest", schema=NUMBERS, **dead_letter_options(topic))
    assert stream.collect().num_rows == len(GOOD)
    assert read_all(broker, topic) == []


def test_retry_writes_malformed_records_at_once(
    read_topic: ReadTopic, broker: KafkaBroker, mixed: str, topic: str
) -> None:
    stream = read_topic(
        mixed,
        end="latest",
        schema=NUMBERS,
        error_handling_policy="retry",
        dead_letter_topic=topic,
        retry_backoff_seconds=3600,
    )
    assert sum(batch.num_rows for batch in stream) == len(GOOD)
    assert_are_the_bad_ones(read_all(broker, topic), mixed)


def test_retry_without_a_dead_letter_topic_fails_at_a_malformed_record(
    read_topic: ReadTopic, mixed: str
) -> None:
    stream = read_topic(mixed, end="latest", schema=NUMBERS, error_handling_policy="retry")
    with pytest.raises(DecodeError, match="expected an integer, found a string"):
        list(stream)


def test_offset_is_not_committed_before_its_dead_letter_is_written(
    read_topic: ReadTopic, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce
) -> None:
    source, small = make_topic(), make_topic(max_message_bytes=1000)
    # What is compressed well would fit.
    bad = random.Random(7).randbytes(5000)
    produce(source, [b'{"n":0}', b"bad", b'{"n":2}', bad, b'{"n":4}'])
    stream = read_topic(
        source, source, schema=NUMBERS, end="latest", batch_size=1, **dead_letter_options(small)
    )
    with pytest.raises(SinkError, match=rf"'{source}' partition 0, offset 3: not all failed"):
        list(stream)
    assert [record.value for record in read_all(broker, small)] == [b"bad"]
    assert committed(broker, source) <= 3


@pytest.mark.timeout(180)
def test_readers_that_are_killed_lose_no_dead_letter(
    read_topic: ReadTopic, broker: KafkaBroker, mixed: str, topic: str
) -> None:
    from tests.faults.processes import readers

    stream = read_topic(mixed, mixed, schema=NUMBERS, batch_size=20, **dead_letter_options(topic))
    rows = []
    with stream.start() as run:
        for number, batch in enumerate(run):
            rows += batch["n"].to_pylist()
            if number in (10, 40):
                for reader in readers():
                    reader.kill()
            if len(rows) == len(GOOD):
                break
        run.commit()
        wait_until(lambda: run.status().dead_letters >= len(BAD), 30.0)

    assert sorted(rows) == GOOD
    found = {record.key for record in read_all(broker, topic)}
    assert found == {b"k%d" % n for n in BAD}


# what cannot work


def test_missing_dead_letter_topic_is_refused_before_anything_is_read(
    read_topic: ReadTopic, broker: KafkaBroker, mixed: str
) -> None:
    stream = read_topic(mixed, mixed, schema=NUMBERS, **dead_letter_options("nowhere"))
    with pytest.raises(ConfigError, match="dead_letter_topic: 'nowhere' does not exist on"):
        stream.start()


@pytest.mark.parametrize("pattern", [False, True])
def test_dead_letter_topic_that_is_read_itself_is_refused(
    read_topic: ReadTopic, mixed: str, pattern: bool
) -> None:
    topic = f"^{mixed}$" if pattern else mixed
    stream = read_topic(topic, schema=NUMBERS, **dead_letter_options(mixed))
    with pytest.raises(ConfigError, match=f"dead_letter_topic: '{mixed}' is read by this stream"):
        stream.start()


# user functions


def refuse_sevens(batch: pa.RecordBatch) -> pa.RecordBatch:
    for n in batch["n"].to_pylist():
        if n is not None and n % 100 == 7:
            raise ValueError(f"payload {n}")
    return batch


SEVENS = [n for n in range(COUNT) if n % 100 == 7 and n % EVERY != 4]


def test_records_on_which_a_function_fails_become_dead_letters_too(
    read_topic: ReadTopic, broker: KafkaBroker, mixed: str, topic: str
) -> None:
    stream = read_topic(
        mixed, mixed, end="latest", schema=NUMBERS, batch_size=300, **dead_letter_options(topic)
    ).map(refuse_sevens)
    with stream.start() as run:
        batches = list(run)
        status = run.status()

    assert all(batch.schema.names == ["n"] for batch in batches)
    rows = [n for batch in batches for n in batch["n"].to_pylist()]
    assert sorted(rows) == [n for n in GOOD if n not in SEVENS]
    assert [n for n in rows if n % 2] == sorted(n for n in rows if n % 2)
    letters = {record.key: record for record in read_all(broker, topic)}
    assert letters.keys() == {b"k%d" % n for n in (*BAD, *SEVENS)}
    for n in SEVENS:
        record = letters[b"k%d" % n]
        assert record.value == value(n)
        assert header(record, "stage") == "TRANSFORMATION"
        assert header(record, "class.name") == "sabot_ray.runtime.operators.Map"
        assert header(record, "exception.class.name") == "ValueError"
        assert header(record, "exception.message") == (
            f"topic '{mixed}' partition {n % 2} offset {n // 2}: .map(refuse_sevens) raised "
            "ValueError"
        )
    assert status.decode_errors == len(BAD)
    assert status.skipped == status.dead_letters == len(BAD) + len(SEVENS)
    assert committed(broker, mixed) == COUNT


def test_skip_passes_over_the_records_on_which_a_function_fails(
    read_topic: ReadTopic, mixed: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = read_topic(
        mixed,
        end="latest",
        schema=NUMBERS,
        metadata=["_kafka_offset"],
        error_handling_policy="skip",
    ).filter(lambda b: pa.array([bool(1 // (n % 100 - 7) or 1) for n in b["n"].to_pylist()]))
    with stream.start() as run:
        rows = [row for batch in run for row in batch.to_pylist()]
        status = run.status()

    assert sorted(row["n"] for row in rows) == [n for n in GOOD if n not in SEVENS]
    assert all(row["_kafka_offset"] == row["n"] // 2 for row in rows)
    assert (status.skipped, status.dead_letters) == (len(BAD) + len(SEVENS), 0)
    assert "records were skipped so far because something failed on them, the latest: " in (
        caplog.text
    )


def test_function_that_returns_no_batch_fails_whatever_the_policy(
    read_topic: ReadTopic, broker: KafkaBroker, mixed: str, topic: str
) -> None:
    stream = read_topic(mixed, end="latest", schema=NUMBERS, **dead_letter_options(topic))
    with pytest.raises(ConfigError, match=r"expected a pyarrow\.RecordBatch"):
        list(stream.map(lambda b: None))


def test_retry_calls_a_function_again_that_cannot_connect(
    read_topic: ReadTopic, broker: KafkaBroker, topic: str, produce: Produce, tmp_path: Path
) -> None:
    produce(topic, [b'{"n":%d}' % n for n in range(10)])
    calls = tmp_path / "calls"

    def look_up(batch: pa.RecordBatch) -> pa.RecordBatch:
        made = len(calls.read_text()) if calls.exists() else 0
        calls.write_text("x" * (made + 1))
        if made < 2:
            raise ConnectionError("away")
        return batch

    stream = read_topic(
        topic,
        end="latest",
        schema=NUMBERS,
        error_handling_policy="retry",
        retry_backoff_seconds=0.01,
    )
    assert stream.map(look_up).collect()["n"].to_pylist() == list(range(10))


def test_retry_without_a_dead_letter_topic_fails_in_the_end(
    read_topic: ReadTopic, topic: str, produce: Produce
) -> None:
    produce(topic, [b'{"n":1}'])

    def look_up(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ConnectionError("away")

    stream = read_topic(
        topic,
        end="latest",
        schema=NUMBERS,
        error_handling_policy="retry",
        max_retry_attempts=1,
        retry_backoff_seconds=0.01,
    )
    with pytest.raises(ConnectionError, match="away"):
        stream.map(look_up).collect()


# writing


def test_rows_that_cannot_be_encoded_send_their_records_to_the_dead_letters(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, make_topic: MakeTopic,
    produce: Produce, topic: str,
) -> None:  # fmt: skip
    source, dead = make_topic(), make_topic()
    produce(source, [Record(b'{"x":%d}' % n, b"k%d" % n) for n in range(60)])
    stream = read_topic(
        source,
        source,
        schema={"x": "float64"},
        end="latest",
        batch_size=25,
        **dead_letter_options(dead),
    )
    # JSON has no infinity, and no record is older than the epoch.
    broken = stream.filter(lambda b: b["x"] >= 5.0).map(
        lambda b: b.append_column("y", pc.divide(1.0, pc.subtract(b["x"], 15.0))).append_column(
            "at", pc.abs(pc.subtract(b["x"], 40.0)).cast(pa.int64())
        )
    )
    output = broken.to_kafka(
        broker.bootstrap_servers, topic, use_cpp=backend == "native", columns=["x", "y"],
        timestamp="at",
    )  # fmt: skip

    numbers = [int(orjson.loads(found.value or b"")["x"]) for found in read_all(broker, topic)]
    assert numbers == [n for n in range(5, 60) if n not in (15, 40)]
    letters = read_all(broker, dead)
    assert [record.key for record in letters] == [b"k15", b"k40"]
    assert [record.value for record in letters] == [b'{"x":15}', b'{"x":40}']
    assert [header(record, "offset") for record in letters] == ["15", "40"]
    assert [header(record, "exception.message") for record in letters] == [
        f"topic '{source}' partition 0 offset 15: field $.y: not finite, for which JSON has no "
        "number",
        f"topic '{source}' partition 0 offset 40: field timestamp: not after 1970-01-01T00:00:00Z",
    ]
    assert (output.status().skipped, output.status().dead_letters) == (2, 2)
    assert committed(broker, source) == 60


@pytest.mark.parametrize("policy", ["dead_letter", "skip"])
def test_records_that_the_brokers_refuse_are_passed_over_and_their_neighbours_written(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, make_topic: MakeTopic,
    produce: Produce, policy: str, topic: str,
) -> None:  # fmt: skip
    source, small = make_topic(), make_topic(max_message_bytes=1000)
    sizes = [10, 20, 5000, 30, 40, 3000, 50]
    produce(source, [Record(b'{"t":"%s"}' % (b"x" * n), b"%d" % n) for n in sizes])
    options = {"error_handling_policy": "skip"} if policy == "skip" else dead_letter_options(topic)
    stream = read_topic(source, source, schema={"t": "string"}, end="latest", **options)
    output = stream.to_kafka(
        broker.bootstrap_servers, small, use_cpp=backend == "native", compression_type="none"
    )

    written = [len(orjson.loads(record.value or b"")["t"]) for record in read_all(broker, small)]
    assert sorted(written) == [10, 20, 30, 40, 50]
    letters = read_all(broker, topic)
    assert [record.key for record in letters] == ([] if policy == "skip" else [b"5000", b"3000"])
    for record in letters:
        assert header(record, "stage") == "KAFKA_PRODUCE"
        assert "large" in header(record, "exception.message").lower()
    assert output.status().skipped == 2
    assert committed(broker, source) == len(sizes)


def test_records_beyond_the_clients_limit_become_dead_letters(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, make_topic: MakeTopic,
    produce: Produce, topic: str,
) -> None:  # fmt: skip
    source, dead = make_topic(), make_topic()
    produce(source, [Record(b'{"t":"%s"}' % (b"x" * n), b"%d" % n) for n in (1, 5000, 2)])
    stream = read_topic(
        source, source, schema={"t": "string"}, end="latest", **dead_letter_options(dead)
    )
    stream.filter(lambda b: pc.utf8_length(b["t"]) > 1).to_kafka(
        broker.bootstrap_servers, topic, use_cpp=backend == "native", max_request_size=2000
    )
    assert [record.value for record in read_all(broker, topic)] == [b'{"t":"xx"}']
    assert [record.key for record in read_all(broker, dead)] == [b"5000"]
    assert committed(broker, source) == 3


def test_records_for_a_partition_that_does_not_exist_become_dead_letters(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, make_topic: MakeTopic,
    produce: Produce, topic: str,
) -> None:  # fmt: skip
    source, dead = make_topic(), make_topic()
    produce(source, [Record(b'{"n":%d}' % n) for n in (0, 7, 0)])
    stream = read_topic(source, end="latest", schema=NUMBERS, **dead_letter_options(dead))
    stream.to_kafka(
        broker.bootstrap_servers, topic, use_cpp=backend == "native", partition=pc.field("n")
    )
    assert written_numbers(broker, topic) == [0, 0]
    assert [record.value for record in read_all(broker, dead)] == [b'{"n":7}']


def written_numbers(broker: KafkaBroker, topic: str) -> list[int]:
    return [orjson.loads(record.value or b"")["n"] for record in read_all(broker, topic)]


def test_row_made_of_several_records_fails_whatever_the_policy(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, make_topic: MakeTopic,
    produce: Produce, topic: str,
) -> None:  # fmt: skip
    source = make_topic()
    produce(source, [Record(b'{"x":%d}' % n) for n in range(10)])
    stream = read_topic(
        source, schema={"x": "float64"}, end="latest", error_handling_policy="skip"
    ).map(lambda b: pa.record_batch({"mean": [pc.divide(pc.sum(b["x"]), 0.0).as_py()]}))
    with pytest.raises(EncodeError, match=r"\$\.mean") as caught:
        stream.to_kafka(broker.bootstrap_servers, topic, use_cpp=backend == "native")
    assert "make rows of several records together" in caught.value.__notes__[0]
