"""`Reader` without Ray, on a client whose brokers go out of reach."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pytest

from sabot_ray.codecs.json import JsonCodec
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.runtime import reader
from sabot_ray.runtime.reader import CUT_OFF_S, Assignment, BatchInfo, Reader, ReaderPlan
from sabot_ray.types import SourceStats, TopicPartition

SCHEMA = pa.schema([("n", pa.int64())])


class IdleSource:
    """A partition without records."""

    def poll(self, max_rows: int, *, timeout_s: float) -> pa.RecordBatch:
        time.sleep(timeout_s)
        return pa.RecordBatch.from_pylist([], schema=SCHEMA)

    def position(self) -> int:
        return 0

    def has_news(self) -> bool:
        return False

    def stats(self) -> SourceStats:
        return SourceStats()


class IdleClient:
    """A client of such partitions."""

    out_of_reach_s = 0.0

    def open_source(self, *_: object) -> IdleSource:
        return IdleSource()

    def news_count(self) -> int:
        return 0

    def wait_for_news(self, seen: int, timeout_s: float) -> None:
        time.sleep(timeout_s)

    def cut_off_s(self) -> float:
        return self.out_of_reach_s


@pytest.mark.parametrize("partitions", [1, 2])
def test_next_batch_ends_a_long_wait_when_brokers_go_out_of_reach_and_when_they_are_back(
    partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = IdleClient()
    monkeypatch.setattr(reader, "connect_source_client", lambda *_: client)
    # Longer than the test may take.
    monkeypatch.setattr(reader, "LONG_POLL_S", 600.0)
    monkeypatch.setattr(reader, "LONGEST_POLL_S", 600.0)
    spec = SourceSpec(KafkaConfig("localhost:9092"), "t", JsonCodec(SCHEMA), ("n",))
    idle = Reader()
    plan = ReaderPlan("native", spec, (), 1000, shares_readers=partitions > 1)
    opened = idle.open(
        plan, [Assignment(TopicPartition("t", number), 0, None) for number in range(partitions)]
    )
    assert opened is None

    def answer_after(out_of_reach_s: float) -> BatchInfo:
        def change() -> None:
            client.out_of_reach_s = out_of_reach_s

        later = threading.Timer(0.2, change)
        later.start()
        batch, info = idle.next_batch()
        later.join()
        assert batch == b""
        told = pickle.loads(info)
        assert (told.start_offset, told.next_offset, told.rows) == (0, 0, 0)
        return told

    assert answer_after(CUT_OFF_S + 1).is_cut_off
    assert not answer_after(0.0).is_cut_off


class BusySource(IdleSource):
    """A partition that always has a record of a gigabyte."""

    polls = 0

    def poll(self, max_rows: int, *, timeout_s: float) -> pa.RecordBatch:
        self.polls += 1
        return pa.RecordBatch.from_pylist([{"n": self.polls}], schema=SCHEMA)

    def position(self) -> int:
        return self.polls

    def has_news(self) -> bool:
        return True

    def stats(self) -> SourceStats:
        return SourceStats(bytes=self.polls << 30)


class BusyClient(IdleClient):
    """A client of such partitions."""

    def open_source(self, *_: object) -> IdleSource:
        return BusySource()


def test_partition_that_was_alone_takes_turns_with_one_that_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "connect_source_client", lambda *_: BusyClient())
    spec = SourceSpec(KafkaConfig("localhost:9092"), "t", JsonCodec(SCHEMA), ("n",))
    busy = Reader()
    busy.open(ReaderPlan("native", spec, (), 1000), [Assignment(TopicPartition("t", 0), 0, None)])

    def partitions(calls: int) -> list[int]:
        return [pickle.loads(busy.next_batch()[1]).partition.partition for _ in range(calls)]

    assert partitions(20) == [0] * 20
    busy.assign([Assignment(TopicPartition("t", 1), 0, None)])
    assert sorted(partitions(20)) == [0] * 10 + [1] * 10


def test_reader_starts_without_pandas() -> None:
    # Half a second and 40 MB of every reader.
    script = "import sys, sabot_ray.runtime.reader; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
