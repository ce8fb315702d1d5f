"""`WritingReader` without Ray and Kafka: which ranges it tells, and when."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from sabot_ray.codecs.codec import Rejected
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import BrokerUnavailable, KafkaError
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.outgoing import RecordLayout
from sabot_ray.kafka.sink import SinkSpec
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.runtime import reader, writing_reader
from sabot_ray.runtime.reader_messages import (
    Assignment,
    Caution,
    Drained,
    Failure,
    ReaderPlan,
    SinkPlan,
)
from sabot_ray.runtime.writing_reader import WritingReader
from sabot_ray.types import FailedRecord, TopicPartition, WrittenRecords
from tests.servers import wait_until
from tests.unit.test_reader import SCHEMA, IdleClient, IdleSource, PiecedSource


class FakeDelivery:
    """A delivery whose fate the test decides."""

    rejected: Sequence[Rejected] = ()

    def __init__(self) -> None:
        self._settled = threading.Event()
        self._failures: list[FailedRecord] = []

    def settle(self, *failures: FailedRecord) -> None:
        self._failures = list(failures)
        self._settled.set()

    def outstanding(self) -> int:
        return 0 if self.is_settled() else 1

    def is_settled(self) -> bool:
        return self._settled.is_set()

    def wait(self, timeout_s: float) -> bool:
        return self._settled.wait(timeout_s)

    def failures(self) -> list[FailedRecord]:
        return self._failures

    def written(self) -> list[WrittenRecords]:
        return []


class FakeSink:
    """A sink that writes what the test tells it to."""

    def __init__(self, *, settles: bool = False) -> None:
        self.deliveries: list[FakeDelivery] = []
        self.stalled = 0.0
        self._settles = settles

    def send(self, batch: pa.RecordBatch) -> FakeDelivery:
        self.deliveries.append(FakeDelivery())
        if self._settles:
            self.deliveries[-1].settle()
        return self.deliveries[-1]

    def tend(self) -> None:
        pass

    def stalled_s(self) -> float:
        return self.stalled

    def close(self) -> None:
        pass


def once_sent(sink: FakeSink, count: int, act: Callable[[], object]) -> None:
    """Do something in another thread once so many batches were handed over."""

    def run() -> None:
        wait_until(lambda: len(sink.deliveries) >= count)
        act()

    threading.Thread(target=run, daemon=True).start()


REFUSED = FailedRecord(2, "target", 0, KafkaError("too large"))


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> FakeSink:
    sink = FakeSink()
    monkeypatch.setattr(writing_reader, "connect_sink", lambda *_: sink)
    return sink


def open_reader(
    monkeypatch: pytest.MonkeyPatch,
    pieces: Sequence[Sequence[int | Exception]],
    caution: Caution | None = None,
) -> WritingReader:
    """Return a reader of a partition for each list of pieces."""
    sources = list(map(PiecedSource, pieces))

    class Client(IdleClient):
        def open_source(self, spec: SourceSpec, partition: int, *_: object) -> IdleSource:
            return sources[partition]

    monkeypatch.setattr(reader, "connect_source_client", lambda *_, **__: Client())
    monkeypatch.setattr(reader, "LONG_POLL_S", 0.0)
    config = KafkaConfig("localhost:9092")
    plan = ReaderPlan(
        "native",
        SourceSpec(config, "t", JsonCodec(SCHEMA), ("n",)),
        (),
        1000,
        counts_only=True,
        shares_readers=True,
        sink=SinkPlan("native", SinkSpec(config, RecordLayout("target"))),
    )
    writing = WritingReader()
    assignments = [
        Assignment(TopicPartition("t", p), 0, None, caution=caution) for p in range(len(sources))
    ]
    assert writing.open(plan, assignments) is None
    return writing


def told(writing: WritingReader) -> list[tuple[int, int]] | str:
    """Return partition and next offset of each range that is told, or the error."""
    found = pickle.loads(writing.next_batch()[1])
    if isinstance(found, Failure):
        return found.summary
    return [(info.partition.partition, info.next_offset) for info in found]


def drained(writing: WritingReader) -> tuple[list[tuple[int, int]], bool, str | None]:
    found: Drained = pickle.loads(writing.drain(0.01))
    infos = [(info.partition.partition, info.next_offset) for info in found.infos]
    return infos, found.is_done, found.failure.summary if found.failure else None


def test_ranges_are_told_once_written_in_the_order_of_their_partition(
    monkeypatch: pytest.MonkeyPatch, sink: FakeSink
) -> None:
    writing = open_reader(monkeypatch, [[2, 3], [4]])

    def settle() -> None:
        sink.deliveries[2].settle()
        sink.deliveries[1].settle()

    once_sent(sink, 3, settle)

    # The third is partition 0's second, and waits for its first.
    assert told(writing) == [(1, 4)]
    assert len(sink.deliveries) == 3
    sink.deliveries[0].settle()
    assert told(writing) == [(0, 2), (0, 5)]


def test_what_is_written_is_told_soon_though_there_is_more_and_the_target_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class SlowSink(FakeSink):
        def send(self, batch: pa.RecordBatch) -> FakeDelivery:
            time.sleep(0.05)
            return super().send(batch)

    slow = SlowSink(settles=True)
    monkeypatch.setattr(writing_reader, "connect_sink", lambda *_: slow)
    writing = open_reader(monkeypatch, [[1] * 30])
    began = time.monotonic()
    first = told(writing)
    assert time.monotonic() - began < 1.0
    assert 1 <= len(first) < 20
    assert told(writing)[0] == (0, len(first) + 1)


def test_record_that_was_announced_and_waits_for_the_target_is_no_suspect_any_more(
    monkeypatch: pytest.MonkeyPatch, sink: FakeSink
) -> None:
    writing = open_reader(monkeypatch, [[1, 1]], Caution(step=1, records=2))
    (announcement,) = pickle.loads(writing.next_batch()[1])
    assert announcement.is_announcement

    # An answer without a range, at once: the driver forgets what was announced.
    assert told(writing) == []
    assert len(sink.deliveries) == 1
    sink.deliveries[0].settle()
    assert told(writing) == [(0, 1)]


def test_refused_record_ends_its_partition_and_the_others_are_told_first(
    monkeypatch: pytest.MonkeyPatch, sink: FakeSink
) -> None:
    writing = open_reader(monkeypatch, [[3, 1], [4]])

    def settle() -> None:
        sink.deliveries[2].settle()
        sink.deliveries[0].settle(REFUSED)
        sink.deliveries[1].settle()

    once_sent(sink, 3, settle)
    assert told(writing) == [(1, 4)]
    expected = (
        "SinkError: read from t[0], offsets 0 to 2: topic 'target' partition 0: row 2 was not "
        "written: too large"
    )
    assert [told(writing), told(writing)] == [expected] * 2


def test_what_was_read_before_an_error_is_told_before_it(
    monkeypatch: pytest.MonkeyPatch, sink: FakeSink
) -> None:
    class FailingSource(PiecedSource):
        def has_news(self) -> bool:
            return True

    writing = open_reader(monkeypatch, [[2]])
    writing._partitions[0].source = FailingSource([2, ValueError("bad record")])
    once_sent(sink, 1, lambda: sink.deliveries[0].settle())

    assert told(writing) == [(0, 2)]
    assert told(writing) == "ValueError: bad record"


def test_drain_tells_what_is_written_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, sink: FakeSink
) -> None:
    writing = open_reader(monkeypatch, [[2], [3], [4, 9]])
    once_sent(sink, 4, lambda: sink.deliveries[0].settle())
    assert told(writing) == [(0, 2)]
    writing.stop_reading()

    assert drained(writing) == ([], False, None)
    sink.deliveries[2].settle()
    assert drained(writing) == ([(2, 4)], False, None)
    sink.deliveries[1].settle()
    sink.deliveries[3].settle(REFUSED)
    assert drained(writing) == ([(1, 3)], False, None)
    infos, is_done, failure = drained(writing)
    assert (infos, is_done) == ([], True)
    assert failure is not None
    assert "read from t[2], offsets 4 to 12" in failure


def test_drain_of_a_reader_with_nothing_under_way_is_done(
    monkeypatch: pytest.MonkeyPatch, sink: FakeSink
) -> None:
    writing = open_reader(monkeypatch, [[]])
    writing.stop_reading()
    assert told(writing) == []
    assert drained(writing) == ([], True, None)


def test_reader_that_opens_waits_for_brokers_that_are_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts: list[FakeSink | Exception] = [BrokerUnavailable("away"), FakeSink(settles=True)]

    def connect(*_: object) -> FakeSink:
        found = attempts.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(writing_reader, "connect_sink", connect)
    assert told(open_reader(monkeypatch, [[2]])) == [(0, 2)]
    assert not attempts


def test_target_that_does_not_answer_is_told_and_so_is_its_return(
    monkeypatch: pytest.MonkeyPatch, sink: FakeSink
) -> None:
    writing = open_reader(monkeypatch, [[2, 3]])
    assert not writing.status().is_cut_off

    def stall() -> None:
        sink.stalled = reader.CUT_OFF_S + 1.0
        # The driver asks while the answer is late.
        assert writing.status().is_cut_off
        sink.deliveries[0].settle()

    once_sent(sink, 2, stall)
    infos = pickle.loads(writing.next_batch()[1])
    assert [(info.next_offset, info.is_cut_off) for info in infos] == [(2, True)]

    sink.stalled = 0.0
    sink.deliveries[1].settle()
    # As it is now, not as it was when the range was read.
    infos = pickle.loads(writing.next_batch()[1])
    assert [(info.next_offset, info.is_cut_off) for info in infos] == [(5, False)]
    assert not writing.status().is_cut_off
