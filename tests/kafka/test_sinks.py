"""`LibrdkafkaSink` and `AiokafkaSink` on a real broker: what a plain client finds in the topic."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import confluent_kafka
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray import (
    ConfigError,
    EncodeError,
    Interceptor,
    JsonCodec,
    KafkaError,
    SinkError,
    UnknownTopicOrPartition,
)
from sabot_ray.kafka.aiokafka_sink import AiokafkaSink
from sabot_ray.kafka.librdkafka_sink import LibrdkafkaSink
from sabot_ray.kafka.sink import COMPRESSIONS, KafkaSink
from sabot_ray.kafka.source import Backend
from sabot_ray.schema import METADATA_FIELDS
from sabot_ray.types import FailedRecord, WrittenRecords
from tests import servers
from tests.conftest import MakeTopic, OpenSource
from tests.kafka.reading import numbers_spec, read_all, read_to
from tests.servers import KafkaBroker, wait_until

ROWS = pa.RecordBatch.from_pylist(
    [{"id": n, "name": f"n{n}", "amount": n / 2} for n in range(6)],
    pa.schema([("id", pa.int64()), ("name", pa.string()), ("amount", pa.float64())]),
)

SINKS: dict[Backend, type[KafkaSink]] = {"native": LibrdkafkaSink, "aiokafka": AiokafkaSink}
MakeSink = Callable[..., KafkaSink]


@pytest.fixture
def make_sink(broker: KafkaBroker, backend: Backend) -> Iterator[MakeSink]:
    """Makes sinks of the backend, which end with the test."""
    sinks: list[KafkaSink] = []

    def make(topic: Any, *args: Any, **options: Any) -> KafkaSink:
        sinks.append(SINKS[backend](broker.bootstrap_servers, topic, *args, **options))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


def test_rows_become_json_records(broker: KafkaBroker, topic: str, make_sink: MakeSink) -> None:
    sink = make_sink(topic)
    before = int(time.time() * 1000)

    sink.send_batch(ROWS)
    sink.send_batch(ROWS.slice(1, 2))
    sink.flush()

    found = read_all(broker, topic)
    assert [record.value for record in found] == [
        b'{"id":%d,"name":"n%d","amount":%.1f}' % (n, n, n / 2) for n in (*range(6), 1, 2)
    ]
    assert {record.key for record in found} == {None}
    assert all(record.headers == [] for record in found)
    assert all(before - 1000 <= record.timestamp_ms <= before + 60_000 for record in found)


def test_key_headers_timestamp_and_partition_of_each_row(
    broker: KafkaBroker, make_topic: MakeTopic, make_sink: MakeSink
) -> None:
    topic = make_topic(partitions=3)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    batch = pa.record_batch(
        {
            "id": [0, 1, 2, 3],
            "key": ["a", None, "", "ü"],
            "to": [2, 0, 2, None],
            "at": pa.array(
                [noon + timedelta(milliseconds=n) for n in range(4)], pa.timestamp("us", "UTC")
            ),
            "tags": pa.array(
                [[("x", b"1"), ("x", None), ("y", b"")], [], None, [("ü", b"\xff")]],
                pa.map_(pa.string(), pa.binary()),
            ),
        }
    )
    sink = make_sink(
        topic,
        key="key",
        headers=pc.field("tags"),
        timestamp="at",
        partition="to",
        columns=["id"],
    )
    sink.send_batch(batch)
    sink.flush()

    found = {record.value: record for record in read_all(broker, topic)}
    noon_ms = int(noon.timestamp() * 1000)
    first, second, third, last = (found[b'{"id":%d}' % n] for n in range(4))
    assert first[:2] == (2, b"a")
    assert second[:2] == (0, None)
    assert third[:2] == (2, b"")
    assert last.key == "ü".encode()
    assert [r.timestamp_ms - noon_ms for r in (first, second, third, last)] == [0, 1, 2, 3]
    assert first.headers == [("x", b"1"), ("x", None), ("y", b"")]
    assert second.headers == third.headers == []
    assert last.headers == [("ü", b"\xff")]


def test_topic_of_each_row(broker: KafkaBroker, make_topic: MakeTopic, make_sink: MakeSink) -> None:
    topics = make_topic(), make_topic()
    batch = pa.record_batch({"n": [0, 1, 2, 3], "odd": [False, True, False, True]})
    to = pc.if_else(pc.field("odd"), topics[1], topics[0])
    sink = make_sink(to, columns=["n"])
    sink.send_batch(batch)
    sink.flush()

    values = [[record.value for record in read_all(broker, topic)] for topic in topics]
    assert values == [[b'{"n":0}', b'{"n":2}'], [b'{"n":1}', b'{"n":3}']]


def test_row_of_nulls_is_a_tombstone(broker: KafkaBroker, topic: str, make_sink: MakeSink) -> None:
    batch = pa.record_batch({"k": ["a", "b", "c"], "x": [1, None, None], "y": [None, None, "t"]})
    sink = make_sink(topic, key="k", columns=["x", "y"])
    sink.send_batch(batch)
    sink.flush()

    assert [(record.key, record.value) for record in read_all(broker, topic)] == [
        (b"a", b'{"x":1,"y":null}'),
        (b"b", None),
        (b"c", b'{"x":null,"y":"t"}'),
    ]


@pytest.mark.parametrize(
    ("codec", "column"),
    [("string", pa.array(["a", "", None, "ü"])), ("bytes", pa.array([b"a", b"", None, b"\xff"]))],
)
def test_text_and_bytes_are_written_as_they_are(
    broker: KafkaBroker, topic: str, make_sink: MakeSink, codec: str, column: pa.Array
) -> None:
    sink = make_sink(topic, codec)
    sink.send_batch(pa.record_batch({"v": column}))
    sink.flush()

    expected = [v.encode() if isinstance(v, str) else v for v in column.to_pylist()]
    assert [record.value for record in read_all(broker, topic)] == expected


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressions(
    broker: KafkaBroker, topic: str, make_sink: MakeSink, compression: str
) -> None:
    sink = make_sink(topic, compression_type=compression)
    batch = pa.record_batch({"text": ["abc" * 100] * 50})
    sink.send_batch(batch)
    sink.flush()

    assert [record.value for record in read_all(broker, topic)] == [
        b'{"text":"%s"}' % (b"abc" * 100)
    ] * 50


def test_partitions_are_those_of_other_clients(
    broker: KafkaBroker, make_topic: MakeTopic, make_sink: MakeSink
) -> None:
    topic, plain = make_topic(partitions=7), make_topic(partitions=7)
    generator = random.Random(3)
    keys = [generator.randbytes(generator.randrange(1, 30)) for _ in range(300)]
    sink = make_sink(topic, key="k", columns=["n"])
    sink.send_batch(pa.record_batch({"k": keys, "n": range(300)}))
    sink.flush()
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "partitioner": "murmur2_random"}
    )
    for key in keys:
        producer.produce(plain, b"", key)
    assert producer.flush(20) == 0

    ours, theirs = (
        {record.key: record.partition for record in read_all(broker, t)} for t in (topic, plain)
    )
    assert ours == theirs
    assert len(set(ours.values())) == 7


def test_partitions_are_those_of_javas_client(
    broker: KafkaBroker, make_topic: MakeTopic, make_sink: MakeSink
) -> None:
    topic, javas = make_topic(partitions=7), make_topic(partitions=7)
    generator = random.Random(5)
    # Every remainder of the hash's four bytes, in characters of one to four.
    lengths = [*range(40), *(generator.randrange(40, 400) for _ in range(60))] * 3
    texts = {"".join(generator.choices("aZ0 -äß€漢🙂", k=length)) for length in lengths}
    keys = sorted(texts)
    servers.run_tool(
        "org.apache.kafka.tools.ConsoleProducer",
        *("--bootstrap-server", broker.bootstrap_servers, "--topic", javas),
        *("--reader-property", "parse.key=true"),
        data="".join(f"{key}\tx\n" for key in keys),
    )
    sink = make_sink(topic, "string", key="k", columns=["v"])
    sink.send_batch(pa.record_batch({"k": keys, "v": ["x"] * len(keys)}))
    sink.flush()

    ours, theirs = (
        {record.key: record.partition for record in read_all(broker, t)} for t in (topic, javas)
    )
    assert ours == theirs
    assert ours.keys() == {key.encode() for key in keys}
    assert b"" in ours
    assert len(set(ours.values())) == 7


def test_records_without_a_key_are_spread(
    broker: KafkaBroker, make_topic: MakeTopic, make_sink: MakeSink
) -> None:
    topic = make_topic(partitions=3)
    sink = make_sink(topic, sticky_partitioning_linger_ms=0)
    for _ in range(4):
        sink.send_batch(pa.record_batch({"n": range(100)}))
        sink.flush()
    assert {record.partition for record in read_all(broker, topic)} == {0, 1, 2}


def test_partitioner_may_be_a_function(
    broker: KafkaBroker, make_topic: MakeTopic, make_sink: MakeSink
) -> None:
    topic = make_topic(partitions=4)
    sink = make_sink(
        topic, partitioner=lambda batch, count: pc.bit_wise_and(batch["id"], count - 1)
    )
    sink.send_batch(ROWS)
    sink.flush()
    assert [record.partition for record in read_all(broker, topic)] == [0, 0, 1, 1, 2, 3]


def test_key_extractor_is_given_rows(broker: KafkaBroker, topic: str, make_sink: MakeSink) -> None:
    sink = make_sink(topic, key_extractor=lambda row: row["name"].upper().encode())
    sink.send_batch(ROWS)
    sink.flush()
    assert [record.key for record in read_all(broker, topic)] == [b"N%d" % n for n in range(6)]


def test_what_was_read_is_written_as_it_was(
    broker: KafkaBroker, make_topic: MakeTopic, make_sink: MakeSink, open_source: OpenSource
) -> None:
    """The metadata columns of a source are options of a sink."""
    first, second = make_topic(partitions=2), make_topic(partitions=2)
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers})
    for n in range(20):
        value = None if n % 5 == 0 else b'{"n":%d}' % n
        producer.produce(first, value, b"%d" % n, n % 2, timestamp=1000 + n, headers=[("h", b"1")])
    assert producer.flush(20) == 0
    sink = make_sink(
        second,
        key="_kafka_key",
        headers="_kafka_headers",
        timestamp="_kafka_timestamp",
        partition="_kafka_partition",
    )
    spec = numbers_spec(broker, first, ["n", *METADATA_FIELDS])
    for partition in range(2):
        rows = read_to(open_source(spec, partition, 0, 10), 10)
        for batch in rows.to_batches():
            sink.send_batch(batch)
    sink.flush()
    assert read_all(broker, second) == read_all(broker, first)


def test_large_and_other_types_are_written_as_plain_ones(
    broker: KafkaBroker, topic: str, make_sink: MakeSink
) -> None:
    batch = pa.record_batch(
        {
            "a": pa.array(["x"], pa.large_string()),
            "b": pa.array([b"y"], pa.large_binary()),
            "c": pa.array([[1, 2]], pa.large_list(pa.int64())),
            "d": pa.array([None], pa.null()),
            "e": pa.array(["z"]).dictionary_encode(),
        }
    )
    sink = make_sink(topic)
    sink.send_batch(batch)
    sink.flush()
    assert read_all(broker, topic)[0].value == (b'{"a":"x","b":"eQ==","c":[1,2],"d":null,"e":"z"}')


# interceptors


class Auditor(Interceptor):
    """Takes names away before they are written, and notes what became of each batch."""

    def __init__(self) -> None:
        self.told: list[tuple[list[WrittenRecords], list[FailedRecord]]] = []

    def on_produce(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = pa.nulls(batch.num_rows, pa.string())
        return batch.set_column(batch.schema.get_field_index("name"), "name", names)

    def on_acknowledgement(
        self, written: Sequence[WrittenRecords], failed: Sequence[FailedRecord]
    ) -> None:
        self.told.append(([*written], [*failed]))


def test_interceptor_changes_batches_and_hears_once_of_each(
    broker: KafkaBroker, make_topic: MakeTopic, make_sink: MakeSink
) -> None:
    topic, auditor = make_topic(partitions=2), Auditor()
    sink = make_sink(topic, interceptors=[auditor], partition=pc.bit_wise_and(pc.field("id"), 1))
    delivery = sink.send(ROWS)
    assert delivery.wait(20.0)
    sink.tend()
    # A batch without rows is none.
    sink.send_batch(ROWS.slice(0, 0))
    sink.send_batch(ROWS.slice(5))
    sink.flush()
    sink.flush()

    size = len(b'{"id":0,"name":null,"amount":0.0}')
    (first, no_failures), (last, _) = auditor.told
    assert sorted(first) == [(topic, 0, 3, 3 * size, 0, 2), (topic, 1, 3, 3 * size, 0, 2)]
    assert last == [(topic, 1, 1, size, 3, 3)]
    assert no_failures == []
    values = [record.value for record in read_all(broker, topic)]
    assert values == [
        b'{"id":%d,"name":null,"amount":%.1f}' % (n, n / 2) for n in (0, 2, 4, 1, 3, 5, 5)
    ]


def test_interceptor_hears_of_records_that_were_refused(
    make_topic: MakeTopic, make_sink: MakeSink
) -> None:
    topic, auditor = make_topic(max_message_bytes=1000), Auditor()
    sink = make_sink(topic, compression_type="none", interceptors=[auditor])
    sink.send_batch(pa.record_batch({"name": ["x"], "t": ["y" * 5000]}))
    with pytest.raises(SinkError):
        sink.flush()
    ((written, (failed,)),) = auditor.told
    assert written == []
    assert (failed.row, failed.topic) == (0, topic)
    assert "LARGE" in str(failed.error).upper()


def test_interceptor_that_raises_before_a_batch_is_written_is_an_error(
    broker: KafkaBroker, topic: str, make_sink: MakeSink
) -> None:
    class Broken(Interceptor):
        def on_produce(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            raise ValueError("mine")

    sink = make_sink(topic, interceptors=[Auditor(), Broken()])
    with pytest.raises(ValueError, match="mine"):
        sink.send_batch(ROWS)
    sink.flush()
    assert read_all(broker, topic) == []


# errors


def test_row_that_cannot_be_encoded_is_an_error_and_nothing_of_its_batch_is_written(
    broker: KafkaBroker, topic: str, make_sink: MakeSink
) -> None:
    sink = make_sink(topic)
    with pytest.raises(EncodeError, match=r"row 1: field \$\.x: not finite") as caught:
        sink.send_batch(pa.record_batch({"x": [1.0, float("nan"), 2.0]}))
    assert (caught.value.row, caught.value.field) == (1, "$.x")
    sink.flush()
    assert read_all(broker, topic) == []


def test_row_that_cannot_be_encoded_is_left_out_by_policy(
    broker: KafkaBroker, topic: str, make_sink: MakeSink
) -> None:
    sink = make_sink(topic, error_handling_policy="skip")
    delivery = sink.send(pa.record_batch({"x": [1.0, float("nan"), 2.0]}))
    assert [(row.index, row.field) for row in delivery.rejected] == [(1, "$.x")]
    assert delivery.wait(20.0)
    assert [tuple(part) for part in delivery.written()] == [(topic, 0, 2, 18, 0, 1)]
    assert [record.value for record in read_all(broker, topic)] == [b'{"x":1.0}', b'{"x":2.0}']


def test_record_beyond_the_brokers_limit_is_an_error(
    broker: KafkaBroker, make_topic: MakeTopic, make_sink: MakeSink
) -> None:
    topic = make_topic(max_message_bytes=1000)
    sink = make_sink(topic, compression_type="none")
    sink.send_batch(pa.record_batch({"t": ["x"]}))
    sink.flush()
    sink.send_batch(pa.record_batch({"t": ["x" * 5000]}))
    with pytest.raises(
        SinkError, match=rf"topic '{topic}'.*row 0 was not written: (?i:.*large)"
    ) as caught:
        sink.flush()
    assert (caught.value.topic, caught.value.records) == (topic, 1)
    # The sink goes on.
    for _ in range(2):
        sink.send_batch(pa.record_batch({"t": ["x"]}))
        sink.flush()
    assert len(read_all(broker, topic)) == 3


def test_record_beyond_the_clients_limit_is_an_error(topic: str, make_sink: MakeSink) -> None:
    sink = make_sink(topic, max_request_size=2000)
    sink.send_batch(pa.record_batch({"t": ["x", "x" * 5000]}))
    with pytest.raises(SinkError, match=r"row 1 was not written: (?i:.*large)"):
        sink.flush()


def test_partition_that_does_not_exist_is_an_error(topic: str, make_sink: MakeSink) -> None:
    sink = make_sink(topic, partition="p", columns=["n"])
    delivery = sink.send(pa.record_batch({"n": [0, 1], "p": [0, 5]}))
    assert delivery.wait(30.0)
    (failed,) = delivery.failures()
    assert (failed.row, failed.topic, failed.partition) == (1, topic, 5)
    assert isinstance(failed.error, UnknownTopicOrPartition)


def test_missing_topic_is_an_error_at_once(make_sink: MakeSink) -> None:
    with pytest.raises(UnknownTopicOrPartition, match="'nowhere' does not exist"):
        make_sink("nowhere")


def test_missing_topic_of_rows_is_an_error_soon(topic: str, make_sink: MakeSink) -> None:
    sink = make_sink(pc.field("to"), columns=["n"])
    batch = pa.record_batch({"n": range(50), "to": [topic] + ["nowhere"] * 49})
    sink.send_batch(batch)
    with pytest.raises(SinkError, match=r"topic 'nowhere'.* row 1 \(and 48 more\) was not written"):
        sink.flush()


def test_closed_sink_is_an_error(topic: str, make_sink: MakeSink) -> None:
    sink = make_sink(topic)
    sink.close()
    sink.shutdown()
    with pytest.raises(KafkaError, match="the sink is closed"):
        sink.send_batch(ROWS)


def test_sink_as_a_context_flushes(broker: KafkaBroker, topic: str, make_sink: MakeSink) -> None:
    with make_sink(topic) as sink:
        sink.send_batch(ROWS)
    assert len(read_all(broker, topic)) == 6


def test_brokers_that_do_not_answer(backend: Backend) -> None:
    with servers.running_broker() as broker:
        broker.create_topic("t")
        auditor = Auditor()
        late = SINKS[backend](broker.bootstrap_servers, "t")
        given_up = SINKS[backend](broker.bootstrap_servers, "t", interceptors=[auditor])
        # Connections and producer ids are there.
        for sink in (late, given_up):
            sink.send_batch(ROWS)
            sink.flush()
        assert late.stalled_s() == 0.0
        broker.freeze()
        late.send_batch(ROWS)
        wait_until(lambda: late.tend() or late.stalled_s() > 0.5)
        with pytest.raises(SinkError, match=r"not all records were written within 0\.5 s"):
            late.flush(0.5)

        delivery = given_up.send(ROWS)
        began = time.monotonic()
        given_up.close()
        assert time.monotonic() - began < 5
        assert delivery.wait(1.0)
        assert len(delivery.failures()) == 6
        assert [len(failed) for _, failed in auditor.told] == [0, 6]

        broker.thaw()
        late.flush()
        assert late.stalled_s() == 0.0
        late.close()
        found = [record.value for record in read_all(broker, "t")]
        # Those that were given up may have been written all the same.
        assert len(found) in (18, 24)


def test_more_than_the_queue_holds_is_written_all_the_same(
    broker: KafkaBroker, topic: str, make_sink: MakeSink
) -> None:
    sink = make_sink(topic, queue_buffering_max_messages=100)
    sink.send_batch(pa.record_batch({"n": range(20_000)}))
    sink.flush()
    values = [record.value for record in read_all(broker, topic)]
    assert values == [b'{"n":%d}' % n for n in range(20_000)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec_type": "avro"}, "codec_type: 'avro' is not one of"),
        ({"compression_type": "brotli"}, "compression_type: 'brotli' is not one of none, gzip"),
        (
            {"partitioner": "round_robin"},
            "partitioner: 'round_robin' is not a function, nor one of",
        ),
        ({"key": 7}, "key: expected a column's name, or an expression .* found int"),
        ({"key": "a", "key_extractor": bytes}, "both give the key"),
        ({"partition": "p", "partitioner": max}, "both choose partitions"),
        ({"acks": 1}, "setting 'acks' is managed by sabot_ray"),
        ({"fetch_min_bytes": 1}, "a producer has nothing like it, only a consumer"),
        ({"linger": 1}, "unknown option or Kafka setting 'linger'"),
    ],
)
def test_options_that_cannot_work_are_refused(
    make_sink: MakeSink, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_sink("t", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "nmae"}, r"key: .*'nmae'.*did you mean 'name'"),
        ({"key": "id"}, "key: expected strings or bytes, found int64"),
        ({"headers": "id"}, "headers: expected list<.* found int64"),
        ({"timestamp": "name"}, "timestamp: expected timestamps, or integers"),
        ({"partition": "amount"}, "partition: expected integers, found double"),
        ({"columns": ["nmae"]}, "columns: .*'nmae'"),
        ({"codec_type": "string"}, r"writes one column; of \['id', 'name', 'amount'\] name one"),
        (
            {"codec_type": "bytes", "columns": ["id"]},
            "writes strings or bytes; column 'id' is int64",
        ),
        ({"codec_type": JsonCodec(pa.schema({"z": pa.int8()}))}, "the JsonCodec has the columns"),
        ({"partitioner": lambda batch, count: [0]}, "it gave 1 partitions for 6 rows"),
        ({"partitioner": lambda batch, count: batch["id"]}, "it gave partition 1 of a topic that"),
    ],
)
def test_columns_that_cannot_serve_are_refused(
    topic: str, make_sink: MakeSink, options: dict[str, Any], message: str
) -> None:
    sink = make_sink(topic, **options)
    with pytest.raises(ConfigError, match=message):
        sink.send_batch(ROWS)


@pytest.mark.parametrize(
    ("options", "column", "message"),
    [
        ({"timestamp": "c"}, [1, 0], "row 1: field timestamp: not after 1970"),
        (
            {"headers": "c"},
            pa.array([[], [None]], METADATA_FIELDS["_kafka_headers"].type),
            "row 1: field headers",
        ),
        ({"partition": "c"}, [1, -1], "row 1: field partition: -1 is no partition"),
        (
            {"headers": "c"},
            pa.array([[], [("a\0b", b"")]], pa.map_(pa.string(), pa.binary())),
            "row 1: field headers: a name that is null or has a NUL",
        ),
    ],
)
def test_values_that_cannot_serve_are_errors_of_their_row(
    topic: str, make_sink: MakeSink, options: dict[str, Any], column: Any, message: str
) -> None:
    sink = make_sink(topic, columns=["n"], **options)
    with pytest.raises(EncodeError, match=message):
        sink.send_batch(pa.record_batch({"n": [1, 2], "c": column}))


def test_slices_are_written_as_what_they_show(
    broker: KafkaBroker, topic: str, make_sink: MakeSink
) -> None:
    batch = pa.record_batch(
        {
            "n": [0, 1, 2, None],
            "k": pa.array(["a", "b", None, "d"]).dictionary_encode(),
            "maps": pa.array(
                [[("a\0", b"")], [("x", b"1")], None, [("y", None)]],
                pa.map_(pa.string(), pa.binary()),
            ),
        }
    )
    sink = make_sink(topic, key=pc.field("k"), headers="maps", columns=["n"])
    sink.send_batch(batch.slice(0, 0))
    sink.send_batch(batch.slice(1))
    sink.flush()
    found = [(record.key, record.value, record.headers) for record in read_all(broker, topic)]
    assert found == [
        (b"b", b'{"n":1}', [("x", b"1")]),
        (None, b'{"n":2}', []),
        (b"d", None, [("y", None)]),
    ]


def test_timestamps_are_instants(broker: KafkaBroker, topic: str, make_sink: MakeSink) -> None:
    # In Berlin this hour came twice.
    hour_s = 1_761_440_400
    berlin = pa.array([hour_s, hour_s + 3600], pa.timestamp("s", "Europe/Berlin"))
    sink = make_sink(topic, timestamp="at", columns=["n"])
    sink.send_batch(pa.record_batch({"n": [0, 1], "at": berlin}))
    sink.flush()
    times = [record.timestamp_ms for record in read_all(broker, topic)]
    assert times == [hour_s * 1000, (hour_s + 3600) * 1000]


def test_metadata_of_fields_is_not_mixed_up(
    broker: KafkaBroker, topic: str, make_sink: MakeSink
) -> None:
    sink = make_sink(topic)
    text = pa.field("t", pa.string(), metadata={"sabot_ray:json": "text"})
    for field in (pa.field("t", pa.string()), text):
        sink.send_batch(pa.record_batch([pa.array(["[1]"])], schema=pa.schema([field])))
    sink.flush()
    assert [r.value for r in read_all(broker, topic)] == [b'{"t":"[1]"}', b'{"t":[1]}']


def test_text_that_is_none_is_left_out_by_policy(
    broker: KafkaBroker, topic: str, make_sink: MakeSink
) -> None:
    sink = make_sink(topic, "string", error_handling_policy="skip")
    delivery = sink.send(pa.record_batch({"b": [b"a", b"\xff", b"c"]}))
    assert [(row.index, row.reason) for row in delivery.rejected] == [(1, "invalid UTF-8")]
    assert delivery.wait(20.0)
    assert [record.value for record in read_all(broker, topic)] == [b"a", b"c"]


def test_record_larger_than_the_queue_is_written(topic: str, make_sink: MakeSink) -> None:
    sink = make_sink(topic, queue_buffering_max_kbytes=1, compression_type="none")
    sink.send_batch(pa.record_batch({"t": ["x" * 100_000] * 3}))
    sink.flush()


def test_close_from_another_thread_ends_a_sender_that_waits_for_room(backend: Backend) -> None:
    with servers.running_broker() as broker:
        broker.create_topic("t")
        sink = SINKS[backend](broker.bootstrap_servers, "t", queue_buffering_max_messages=10)
        sink.send_batch(ROWS)
        sink.flush()
        broker.freeze()
        closing = threading.Timer(1.0, sink.close)
        closing.start()
        with pytest.raises(KafkaError, match="closed"):
            # More than may be under way.
            while True:
                sink.send_batch(pa.record_batch({"n": range(20_000)}))
        closing.join(10.0)
        assert not closing.is_alive()
        with pytest.raises(SinkError):
            sink.flush(1.0)


def test_column_that_json_cannot_hold_is_refused(topic: str, make_sink: MakeSink) -> None:
    sink = make_sink(topic)
    months = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    with pytest.raises(ConfigError, match=r"field \$\.m: .*month_day_nano"):
        sink.send_batch(pa.record_batch({"m": months}))
