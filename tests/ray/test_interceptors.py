"""Interceptors of streams, in the readers and in the driver."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray import ConfigError, Interceptor, Stream
from sabot_ray.kafka.source import Backend
from sabot_ray.testing import Record
from sabot_ray.types import FailedRecord, TopicPartition, WrittenRecords
from tests.conftest import MakeTopic, Produce
from tests.kafka.reading import read_all
from tests.ray.conftest import ReadTopic, committed
from tests.servers import KafkaBroker

SCHEMA = {"n": "int64", "name": "string"}


@pytest.fixture
def people(make_topic: MakeTopic, produce: Produce) -> str:
    """A topic of two partitions with 40 records."""
    topic = make_topic(partitions=2)
    produce(topic, [Record(b'{"n":%d,"name":"n%d"}' % (n, n), partition=n % 2) for n in range(40)])
    return topic


class Journal(Interceptor):
    """Hides names, and writes into a file what it sees: a line for each call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.consumed = 0

    def _note(self, method: str, told: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps([method, told]) + "\n")

    def lines(self, method: str) -> list[Any]:
        lines = map(json.loads, self.path.read_text().splitlines())
        return [told for name, told in lines if name == method]

    def on_consume(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        self.consumed += batch.num_rows
        self._note("consume", batch.schema.names)
        hidden = pc.utf8_replace_slice(batch["name"], 0, 1, "*")
        return batch.set_column(batch.schema.get_field_index("name"), "name", hidden)

    def on_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._note("commit", [[p.partition, offset] for p, offset in offsets.items()])

    def on_produce(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        # As many as this very instance has seen on the way in.
        self._note("produce", [self.consumed, batch.num_rows])
        return batch.set_column(0, "n", pc.add(batch["n"], 1000))

    def on_acknowledgement(
        self, written: Sequence[WrittenRecords], failed: Sequence[FailedRecord]
    ) -> None:
        self._note("acknowledgement", [sum(part.records for part in written), len(failed)])


class Broken(Interceptor):
    def on_consume(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ValueError(f"broken at {batch['n'][0]}")


class Forgetful(Interceptor):
    def on_consume(self, batch: pa.RecordBatch) -> Any:
        return None


def test_operators_see_what_the_interceptor_returns(
    read_topic: ReadTopic, people: str, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    stream = read_topic(people, end="latest", schema=SCHEMA, interceptors=[journal])
    names = stream.filter(lambda b: b["name"] == "*7").select("name")
    assert names.to_pylist() == [{"name": "*7"}]
    # All columns, whatever the operators want.
    seen = journal.lines("consume")
    assert seen == [["n", "name"]] * len(seen)
    assert stream.count() == 40
    assert len(journal.lines("consume")) > len(seen) > 0


def test_driver_hears_of_what_is_committed(
    read_topic: ReadTopic, broker: KafkaBroker, people: str, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    stream = read_topic(people, people, end="latest", schema=SCHEMA, interceptors=[journal])
    with stream.start() as run:
        next(iter(run))
        run.commit()
        first = dict(journal.lines("commit")[-1])
        assert sum(first.values()) == committed(broker, people) > 0
    for _ in stream:
        pass
    newest = {p: offset for told in journal.lines("commit") for p, offset in told}
    assert newest == {0: 20, 1: 20}


def test_output_calls_the_same_instance_on_both_sides(
    read_topic: ReadTopic, backend: Backend, broker: KafkaBroker, people: str, topic: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    journal = Journal(tmp_path / "journal")
    stream = read_topic(people, people, end="latest", schema=SCHEMA, interceptors=[journal])
    stream.filter(lambda b: b["n"] < 30).to_kafka(
        broker.bootstrap_servers, topic, use_cpp=backend == "native", interceptors=[journal]
    )
    found = sorted(record.value for record in read_all(broker, topic))
    assert found == sorted(b'{"n":%d,"name":"*%d"}' % (1000 + n, n) for n in range(30))
    # Each reader's copy has seen the rows of its partition, and writes those that were left.
    assert max(consumed for consumed, _ in journal.lines("produce")) == 20
    assert sum(rows for _, rows in journal.lines("produce")) == 30
    assert sum(records for records, _ in journal.lines("acknowledgement")) == 30
    newest = {p: offset for told in journal.lines("commit") for p, offset in told}
    assert newest == {0: 20, 1: 20}
    # Nothing is committed before they have heard of it.
    methods = [json.loads(line)[0] for line in journal.path.read_text().splitlines()]
    assert methods.index("commit") > methods.index("acknowledgement")


def test_output_in_transactions_calls_them_as_well(
    broker: KafkaBroker, people: str, topic: str, ray_session: None, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    stream = Stream.from_kafka(
        broker.bootstrap_servers, people, people, backend="native", end="latest", schema=SCHEMA,
        interceptors=[journal],
    )  # fmt: skip
    stream.to_kafka(
        broker.bootstrap_servers, topic, delivery="exactly_once", interval_s=0.2,
        interceptors=[journal],
    )  # fmt: skip
    assert sum(rows for _, rows in journal.lines("produce")) == 40
    assert sum(records for records, _ in journal.lines("acknowledgement")) == 40
    newest = {p: offset for told in journal.lines("commit") for p, offset in told}
    assert newest == {0: 20, 1: 20}


@pytest.mark.parametrize(
    ("interceptor", "error", "message"),
    [
        (Broken(), ValueError, "broken at "),
        (Forgetful(), ConfigError, r"Forgetful\.on_consume returned a NoneType"),
    ],
)
def test_interceptor_that_fails_ends_the_stream_with_its_error(
    read_topic: ReadTopic, broker: KafkaBroker, people: str, interceptor: Interceptor,
    error: type[Exception], message: str,
) -> None:  # fmt: skip
    stream = read_topic(people, people, end="latest", schema=SCHEMA, interceptors=[interceptor])
    with pytest.raises(error, match=message) as raised:
        list(stream)
    if error is ValueError:
        (note,) = raised.value.__notes__
        assert note.startswith(f"In .on_consume(Broken) on topic '{people}' partition ")
    assert committed(broker, people) == 0
