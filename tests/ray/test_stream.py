"""`Stream` on real Ray actors and a real broker: what the operators and terminals give."""

from __future__ import annotations

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray import ConfigError, DecodeError, Stream
from sabot_ray.testing import Record
from tests.conftest import MakeTopic, Produce
from tests.ray.conftest import ReadTopic
from tests.servers import KafkaBroker

SCHEMA = pa.schema([("id", pa.int64()), ("amount", pa.float64()), ("currency", pa.string())])
ROWS = [{"id": n, "amount": 100.5 * n, "currency": ("EUR", "USD", None)[n % 3]} for n in range(30)]


@pytest.fixture
def transactions(make_topic: MakeTopic, produce: Produce) -> str:
    """A topic with `ROWS` over two partitions."""
    topic = make_topic(partitions=2)
    # Spread by hand: the client's partitioner keeps to one partition for a while.
    produce(topic, [Record(orjson.dumps(row), partition=row["id"] % 2) for row in ROWS])
    return topic


def by_id(table: pa.Table) -> list[dict[str, object]]:
    return sorted(table.to_pylist(), key=lambda row: row["id"])


@pytest.mark.parametrize("use_cpp", [True, False])
def test_seed_example_gives_the_rows_over_the_threshold(
    broker: KafkaBroker, transactions: str, ray_session: None, use_cpp: bool
) -> None:
    stream = Stream.from_kafka(
        bootstrap_servers=broker.bootstrap_servers,
        topic=transactions,
        group_id=f"processor-{transactions}",
        use_cpp=use_cpp,
        end="latest",
    )
    flagged = stream.filter(lambda b: b["amount"] > 1000.0)

    rows = by_id(pa.Table.from_batches(list(flagged)))

    assert stream.backend == ("native" if use_cpp else "aiokafka")
    assert rows == [row for row in ROWS if row["amount"] > 1000.0]


def test_select_behind_a_filter_decodes_only_what_both_need(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic()
    # The currency of the second does not fit the schema: decoding it would fail.
    produce(topic, [{"id": 1, "amount": 2000.0}, {"id": 2, "amount": 3000.0, "currency": 7}])
    stream = read_topic(topic, end="latest", schema=SCHEMA)
    selected = stream.filter(lambda b: b["amount"] > 1000.0).select("id")

    with selected.start() as run:
        rows = [row for batch in run for row in batch.to_pylist()]
        columns = run.status().columns

    assert rows == [{"id": 1}, {"id": 2}]
    assert columns == ("id", "amount")
    with pytest.raises(DecodeError, match=r"field \$\.currency: expected a string, found a number"):
        stream.collect()


def test_schema_is_inferred_and_every_batch_has_it(
    read_topic: ReadTopic, transactions: str
) -> None:
    stream = read_topic(transactions, end="latest")

    assert stream.schema() == SCHEMA
    assert all(batch.schema == SCHEMA for batch in stream)


def test_declared_schema_may_be_a_mapping(read_topic: ReadTopic, transactions: str) -> None:
    stream = read_topic(transactions, end="latest", schema={"id": "int32", "amount": "float32"})

    assert stream.collect().schema == pa.schema([("id", pa.int32()), ("amount", pa.float32())])


def test_metadata_columns_tell_where_a_row_comes_from(
    read_topic: ReadTopic, transactions: str
) -> None:
    stream = read_topic(transactions, end="latest", metadata=["_kafka_offset", "_kafka_partition"])
    table = stream.select("_kafka_partition", "_kafka_offset").collect()

    for partition in range(2):
        offsets = table.filter(pc.field("_kafka_partition") == partition)["_kafka_offset"]
        assert offsets.to_pylist() == list(range(len(offsets)))


def test_filter_function_sees_real_batches(read_topic: ReadTopic, transactions: str) -> None:
    stream = read_topic(transactions, end="latest")

    kept = stream.filter(lambda b: pc.equal(b.column("currency"), "EUR")).collect()

    assert by_id(kept) == [row for row in ROWS if row["currency"] == "EUR"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda b: b.num_rows > 0, "returned the single value True"),
        (lambda b: pa.array([True] * (b.num_rows + 1)), r"returned \d+ values for a batch of"),
        (lambda b: b.column("id"), "returned an array of int64; expected booleans"),
    ],
)
def test_filter_function_with_a_wrong_result_is_an_error(
    read_topic: ReadTopic, transactions: str, function: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_topic(transactions, end="latest").filter(function).collect()


def test_map_replaces_the_batches(read_topic: ReadTopic, transactions: str) -> None:
    def double(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch({"twice": pc.multiply(batch["id"], 2)})

    stream = read_topic(transactions, end="latest").map(double).filter(lambda b: b["twice"] > 10)

    assert sorted(stream.collect()["twice"].to_pylist()) == list(range(12, 60, 2))


def test_map_with_another_schema_in_a_later_batch_is_an_error(
    read_topic: ReadTopic, transactions: str
) -> None:
    def drifting(batch: pa.RecordBatch) -> pa.RecordBatch:
        odd = batch["_kafka_partition"][0].as_py() % 2
        return batch.select(["id"]) if odd else batch.select(["amount"])

    stream = read_topic(transactions, end="latest", metadata=["_kafka_partition"])
    with pytest.raises(ConfigError, match="must give the same schema for every batch"):
        stream.map(drifting).collect()


def test_map_that_returns_no_batch_is_an_error(read_topic: ReadTopic, transactions: str) -> None:
    with pytest.raises(ConfigError, match=r"returned a dict; expected a pyarrow\.RecordBatch"):
        read_topic(transactions, end="latest").map(lambda b: b.to_pydict()).collect()


def test_error_of_a_users_function_keeps_its_type_and_tells_where(
    read_topic: ReadTopic, topic: str, produce: Produce
) -> None:
    produce(topic, ROWS)

    def broken(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise LookupError("no such rate")

    stream = read_topic(topic, end="latest", batch_size=10)
    with pytest.raises(LookupError, match="no such rate") as caught:
        # The batches before are emptied, and belong to the same range.
        stream.filter(lambda b: b["id"] >= 20).map(broken).collect()

    (note,) = caught.value.__notes__
    lines = note.splitlines()
    assert lines[0] == f"In .map(broken) on topic '{topic}' partition 0, offsets 20 to 29"
    assert [line for line in lines if line.startswith("  File ")] == [lines[2]]
    assert lines[2].endswith("in broken")


def test_filter_takes_an_expression(read_topic: ReadTopic, transactions: str) -> None:
    stream = read_topic(transactions, end="latest").filter(pc.field("amount") > 1000.0)

    assert by_id(stream.collect()) == [row for row in ROWS if row["amount"] > 1000.0]


def test_filter_with_numpy_runs_on_real_batches(read_topic: ReadTopic, transactions: str) -> None:
    stream = read_topic(transactions, end="latest")

    kept = stream.filter(lambda b: np.asarray(b["amount"]) > 1000.0).collect()

    assert by_id(kept) == [row for row in ROWS if row["amount"] > 1000.0]


def test_unknown_column_is_an_error_that_names_the_near_ones(
    read_topic: ReadTopic, transactions: str
) -> None:
    stream = read_topic(transactions, end="latest")

    with pytest.raises(ConfigError, match="no column 'amonut'; did you mean 'amount'"):
        stream.filter(lambda b: b["amonut"] > 1).collect()
    with pytest.raises(ConfigError, match="select: there is no column 'ID'"):
        stream.select("ID").collect()


def test_looking_methods_agree_with_each_other(read_topic: ReadTopic, transactions: str) -> None:
    stream = read_topic(transactions, end="latest").filter(lambda b: b["id"] >= 10)

    assert stream.count() == 20
    assert read_topic(transactions, end="latest").count() == 30
    assert by_id(stream.collect()) == ROWS[10:]
    assert sorted(row["id"] for row in stream.to_pylist()) == list(range(10, 30))
    assert len(stream.take(7)) == 7
    assert stream.take_batch(1000).num_rows == 20


def test_take_on_a_continuous_stream_returns_when_it_has_its_rows(
    read_topic: ReadTopic, transactions: str
) -> None:
    assert len(read_topic(transactions).take(30)) == 30


def test_empty_range_gives_a_typed_empty_table(
    read_topic: ReadTopic, make_topic: MakeTopic
) -> None:
    stream = read_topic(make_topic(), end="latest", schema=SCHEMA)

    assert stream.collect().equals(SCHEMA.empty_table())
    assert stream.take_batch(3).num_rows == 0
    assert stream.count() == 0
    assert list(stream) == []


def test_filter_that_keeps_nothing_delivers_no_batch(
    read_topic: ReadTopic, transactions: str
) -> None:
    stream = read_topic(transactions, end="latest").filter(lambda b: b["id"] < 0)

    with stream.start() as run:
        assert list(run) == []
        assert all(part.position == part.end_offset for part in run.status().partitions)


def test_skipped_records_are_counted_and_the_rest_is_delivered(
    read_topic: ReadTopic, topic: str, produce: Produce, caplog: pytest.LogCaptureFixture
) -> None:
    produce(topic, [b'{"id": 1}', b"{broken", b'{"id": "x"}', b'{"id": 4, "new": 1}'])
    stream = read_topic(topic, end="latest", schema={"id": "int64"}, error_handling_policy="skip")

    with stream.start() as run:
        rows = [row for batch in run for row in batch.to_pylist()]
        status = run.status()

    assert rows == [{"id": 1}, {"id": 4}]
    assert status.decode_errors == 2
    assert "2 records were skipped so far because they do not decode" in caplog.text
    assert caplog.text.count("field $.new is not in the schema") == 1


def test_record_that_does_not_decode_fails_after_the_rows_before_it(
    read_topic: ReadTopic, topic: str, produce: Produce
) -> None:
    produce(topic, [b'{"id": 1}', b'{"id": 2}', b'{"id": 2.5}', b'{"id": 4}'])
    rows = []

    with pytest.raises(DecodeError) as caught:
        for batch in read_topic(topic, end="latest", schema={"id": "int64"}):
            rows += batch.to_pylist()

    assert rows == [{"id": 1}, {"id": 2}]
    assert str(caught.value) == (
        f"topic '{topic}' partition 0 offset 2: field $.id: expected an integer, found a number "
        "with a fraction or an exponent"
    )
    assert (caught.value.offset, caught.value.field) == (2, "$.id")


def test_plan_may_be_branched_and_run_again(read_topic: ReadTopic, transactions: str) -> None:
    stream = read_topic(transactions, end="latest")
    low, high = stream.filter(lambda b: b["id"] < 10), stream.filter(lambda b: b["id"] >= 10)

    assert (low.count(), high.count(), low.count(), stream.count()) == (10, 20, 10, 30)


def test_end_beyond_the_log_is_clamped_with_a_warning(
    read_topic: ReadTopic, topic: str, produce: Produce, caplog: pytest.LogCaptureFixture
) -> None:
    produce(topic, [b'{"id": 1}', b'{"id": 2}'])

    assert read_topic(topic, start=1, end=1000).collect().to_pylist() == [{"id": 2}]
    assert "end 1000 is beyond the last stable offset 2 and was clamped to it" in caplog.text


def test_batch_size_limits_the_rows(read_topic: ReadTopic, topic: str, produce: Produce) -> None:
    produce(topic, [{"id": n} for n in range(100)])

    sizes = [batch.num_rows for batch in read_topic(topic, end="latest", batch_size=7)]

    assert max(sizes) == 7
    assert sum(sizes) == 100


@pytest.mark.parametrize("method", ["collect", "count", "to_pylist"])
def test_collecting_a_continuous_stream_is_an_error_with_the_remedy(
    read_topic: ReadTopic, transactions: str, method: str
) -> None:
    with pytest.raises(ConfigError, match="pass end='latest'"):
        getattr(read_topic(transactions), method)()
