"""`Reader` without Ray, on a client whose brokers go out of reach."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pyarrow as pa
import pytest

from sabot_ray.codecs.json import JsonCodec
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.runtime import reader
from sabot_ray.runtime.reader import CUT_OFF_S, Reader, read_inline
from sabot_ray.runtime.reader_messages import Assignment, BatchInfo, Caution, Failure, ReaderPlan
from sabot_ray.types import SourceStats, TopicPartition

SCHEMA = pa.schema([("n", pa.int64())])


class IdleSource:
    """A partition without records."""

    def poll(self, max_rows: int, *, timeout_s: float) -> pa.RecordBatch:
        time.sleep(timeout_s)
        return pa.RecordBatch.from_pylist([], schema=SCHEMA)

    def position(self) -> int:
        return 0

    def leader_epoch(self) -> int:
        return -1

    def has_news(self) -> bool:
        return False

    def backlog(self) -> int:
        return 0

    def stats(self) -> SourceStats:
        return SourceStats()


class IdleClient:
    """A client of such partitions."""

    out_of_reach_s = 0.0

    def wake(self) -> None:
        pass

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
    monkeypatch.setattr(reader, "connect_source_client", lambda *_, **__: client)
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
        (told,) = pickle.loads(info)
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
    monkeypatch.setattr(reader, "connect_source_client", lambda *_, **__: BusyClient())
    spec = SourceSpec(KafkaConfig("localhost:9092"), "t", JsonCodec(SCHEMA), ("n",))
    busy = Reader()
    busy.open(ReaderPlan("native", spec, (), 1000), [Assignment(TopicPartition("t", 0), 0, None)])

    def partitions(calls: int) -> list[int]:
        infos = (info for _ in range(calls) for info in pickle.loads(busy.next_batch()[1]))
        return [info.partition.partition for info in infos]

    assert partitions(20) == [0] * 20
    busy.assign([Assignment(TopicPartition("t", 1), 0, None)])
    # They share answers.
    assert sorted(partitions(10)) == [0] * 10 + [1] * 10


@pytest.mark.parametrize(
    "module",
    ["pandas", "aiokafka", "confluent_kafka", "rich", "sabot_ray.runtime.plan"],
)
def test_native_reader_starts_without(module: str) -> None:
    # Every reader is a process, and a replacement keeps its partitions waiting until it runs:
    # pandas alone takes 0.6 s of CPU and 40 MB.
    script = f"import sys, sabot_ray.runtime.reader; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


class PiecedSource(IdleSource):
    """A partition that gives numbered rows in pieces, for which nobody has to wait."""

    def __init__(self, pieces: Sequence[int | Exception]) -> None:
        self._pieces = list(pieces)
        self._offset = 0

    def poll(self, max_rows: int, *, timeout_s: float) -> pa.RecordBatch:
        piece = self._pieces[0] if self._pieces else 0
        if isinstance(piece, Exception):
            raise piece
        count = min(piece, max_rows)
        if count == piece:
            del self._pieces[:1]
        else:
            self._pieces[0] = piece - count
        rows = [{"n": self._offset + number} for number in range(count)]
        self._offset += count
        return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)

    def add(self, piece: int) -> None:
        self._pieces.append(piece)

    def position(self) -> int:
        return self._offset

    def has_news(self) -> bool:
        # What has been raised once is no news.
        return bool(self._pieces) and not isinstance(self._pieces[0], Exception)

    def backlog(self) -> int:
        return sum(10_000 if isinstance(piece, Exception) else piece for piece in self._pieces)

    def stats(self) -> SourceStats:
        return SourceStats(records=self._offset, bytes=self._offset * 8)


def shared_reader(
    monkeypatch: pytest.MonkeyPatch,
    sources: Sequence[IdleSource],
    schema: pa.Schema = SCHEMA,
    *,
    ends: Sequence[int] | None = None,
    linger_s: float = 0.0,
) -> Reader:
    """Return a reader of a partition for each source, which may get others."""

    class Client(IdleClient):
        def open_source(self, spec: SourceSpec, partition: int, *_: object) -> IdleSource:
            return sources[partition]

    monkeypatch.setattr(reader, "connect_source_client", lambda *_, **__: Client())
    spec = SourceSpec(
        KafkaConfig("localhost:9092"), "t", JsonCodec(schema), ("n",), linger_s=linger_s
    )
    plan = ReaderPlan("native", spec, (), 10_000, shares_readers=True)
    assignments = [
        Assignment(TopicPartition("t", p), 0, ends[p] if ends else None)
        for p in range(len(sources))
    ]
    sharing = Reader()
    assert sharing.open(plan, assignments) is None
    return sharing


def answers(
    monkeypatch: pytest.MonkeyPatch,
    pieces: Sequence[Sequence[int | Exception]],
    calls: int,
    schema: pa.Schema = SCHEMA,
    *,
    ends: Sequence[int] | None = None,
) -> list[tuple[int, int, int] | str]:
    """Read partitions that give such pieces; return partition, first and next row of each batch."""
    monkeypatch.setattr(reader, "LONG_POLL_S", 0.0)
    sharing = shared_reader(monkeypatch, list(map(PiecedSource, pieces)), schema, ends=ends)
    found: list[tuple[int, int, int] | str] = []
    for _ in range(calls):
        batch, pickled = sharing.next_batch()
        told = pickle.loads(pickled)
        if isinstance(told, Failure):
            found.append(told.summary)
            continue
        for info in told:
            rows = batch if info.inline is None else read_inline(info.inline)
            numbers = rows.column("n").to_pylist()
            assert numbers == list(range(info.start_offset, info.next_offset))
            found.append((info.partition.partition, info.start_offset, info.next_offset))
    return found


def test_partitions_far_behind_give_full_batches_once_all_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = [[4000] * 6, [4000] * 6]
    assert answers(monkeypatch, pieces, 5) == [
        # Nobody knows yet of partition 1.
        (0, 0, 4000),
        (1, 0, 10_000),
        (0, 4000, 14_000),
        (1, 10_000, 20_000),
        (0, 14_000, 24_000),
    ]


def test_partition_far_behind_does_not_wait_for_more_beside_one_that_has_caught_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = [[4000] * 3, [1] * 3]
    assert answers(monkeypatch, pieces, 3) == [
        (0, 0, 4000),
        (1, 0, 1),
        (0, 4000, 8000),
        (1, 1, 2),
        (0, 8000, 12_000),
    ]


def told(sharing: Reader) -> list[tuple[int, int]] | str:
    """Return partition and next offset of each range in the next answer, or its error."""
    found = pickle.loads(sharing.next_batch()[1])
    if isinstance(found, Failure):
        return found.summary
    return [(info.partition.partition, info.next_offset) for info in found]


def test_small_batches_of_several_partitions_share_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The third is as many as bear no company.
    sharing = shared_reader(monkeypatch, [PiecedSource([n, 1]) for n in (2, 3, 4000, 5)])

    assert told(sharing) == [(0, 2), (1, 3), (2, 4000)]
    assert told(sharing) == [(3, 5), (0, 3), (1, 4), (2, 4001)]
    assert told(sharing) == [(3, 6)]


def test_small_batches_before_an_error_go_out_and_the_error_comes_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class FailingSource(PiecedSource):
        def has_news(self) -> bool:
            return True

    sources = [PiecedSource([2]), PiecedSource([3]), FailingSource([ValueError("bad record")])]
    sharing = shared_reader(monkeypatch, sources)

    assert told(sharing) == [(0, 2), (1, 3)]
    assert [told(sharing), told(sharing)] == ["ValueError: bad record"] * 2


def test_partition_that_catches_up_while_more_is_gathered_hands_over_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = [[4000, 4000, 10], [4000] * 6]
    assert answers(monkeypatch, pieces, 4) == [
        (0, 0, 4000),
        (1, 0, 10_000),
        (0, 4000, 8000),
        # Partition 0 may have something new any time now.
        (1, 10_000, 12_000),
    ]


def test_small_fetches_before_an_end_are_put_into_one_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = [[4000, 10, 4000, 10], [10, 4000, 10]]
    assert answers(monkeypatch, pieces, 3, ends=[8020, 4020]) == [
        (0, 0, 4000),
        (1, 0, 4020),
        (0, 4000, 8020),
    ]


def test_error_behind_gathered_rows_is_raised_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [[4000, 4000, ValueError("bad record")], [4000] * 9]
    found = answers(monkeypatch, pieces, 6)
    assert found[2] == (0, 4000, 8000)
    assert found[-1] == "ValueError: bad record"


class BlockedSource(PiecedSource):
    """A partition whose log goes on, but nothing of that can be read: a transaction is open."""

    fruitless_polls = 0

    def poll(self, max_rows: int, *, timeout_s: float) -> pa.RecordBatch:
        self.fruitless_polls += not self._pieces
        return super().poll(max_rows, timeout_s=timeout_s)

    def backlog(self) -> int:
        return super().backlog() + 5000


def test_records_before_an_open_transaction_wait_once_for_what_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = BlockedSource([4000, 10, 10])
    sharing = shared_reader(monkeypatch, [source])

    def next_offset() -> int:
        told: list[BatchInfo] = pickle.loads(sharing.next_batch()[1])
        return told[-1].next_offset

    assert [next_offset(), next_offset()] == [4000, 4020]
    waits = source.fruitless_polls
    for number in range(1, 4):
        source.add(10)
        assert next_offset() == 4020 + 10 * number
    assert waits > 0
    assert source.fruitless_polls == waits
    # The transaction has ended, and more than it held is far behind again.
    source.add(4000)
    assert next_offset() == 8050
    assert source.fruitless_polls > waits


def test_linger_holds_for_a_reader_that_may_get_other_partitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sharing = shared_reader(monkeypatch, [PiecedSource([1])], linger_s=0.3)
    began = time.monotonic()
    assert pickle.loads(sharing.next_batch()[1])[0].rows == 1
    assert time.monotonic() - began >= 0.3


def test_dictionary_columns_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = SCHEMA.append(pa.field("d", pa.dictionary(pa.int32(), pa.string())))
    found = answers(monkeypatch, [[4000] * 2, [4000] * 2], 4, schema)
    assert found == [(0, 0, 4000), (1, 0, 4000), (0, 4000, 8000), (1, 4000, 8000)]


def test_reader_that_was_closed_is_opened_again_with_another_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clients: list[ClosableClient] = []

    class ClosableClient(BusyClient):
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

    def connect(*_: object, **__: object) -> ClosableClient:
        clients.append(ClosableClient())
        return clients[-1]

    monkeypatch.setattr(reader, "connect_source_client", connect)
    spec = SourceSpec(KafkaConfig("localhost:9092"), "t", JsonCodec(SCHEMA), ("n",))
    busy = Reader()

    def read_from(partition: TopicPartition) -> BatchInfo:
        assert (
            busy.open(ReaderPlan("native", spec, (), 1000), [Assignment(partition, 0, None)])
            is None
        )
        told: list[BatchInfo] = pickle.loads(busy.next_batch()[1])
        return told[0]

    first = read_from(TopicPartition("t", 0))
    busy.close()
    second = read_from(TopicPartition("t", 1))

    assert (first.partition.partition, second.partition.partition) == (0, 1)
    assert (first.next_offset, second.start_offset) == (second.next_offset, 0)
    assert [client.is_closed for client in clients] == [True, False]


# caution


def read_carefully(
    monkeypatch: pytest.MonkeyPatch, *sources: IdleSource, suspect: int | None = None
) -> Reader:
    """Return a reader whose partitions, a source each, begin with three records one by one."""

    class Client(IdleClient):
        def open_source(self, spec: SourceSpec, partition: int, *_: object) -> IdleSource:
            return sources[partition]

    monkeypatch.setattr(reader, "connect_source_client", lambda *_, **__: Client())
    spec = SourceSpec(KafkaConfig("localhost:9092"), "t", JsonCodec(SCHEMA), ("n",))
    careful = Reader()
    assignments = [
        Assignment(
            TopicPartition("t", number),
            0,
            None,
            caution=Caution(1, 3),
            is_suspect=number == suspect,
        )
        for number in range(len(sources))
    ]
    careful.open(ReaderPlan("native", spec, (), 40, shares_readers=True), assignments)
    return careful


def next_info(careful: Reader) -> BatchInfo:
    """Return the one range that the reader tells of."""
    info: BatchInfo
    (info,) = pickle.loads(careful.next_batch()[1])
    return info


def test_records_that_may_end_the_process_are_announced_and_go_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    careful = read_carefully(monkeypatch, PiecedSource([]), PiecedSource([100]))

    def told() -> tuple[int, int, int, bool]:
        info = next_info(careful)
        return info.partition.partition, info.next_offset, info.rows, info.is_announcement

    # The other partition has nothing to announce.
    for offset in range(3):
        assert told() == (1, offset, 0, True)
        assert told() == (1, offset + 1, 1, False)
    assert told() == (1, 43, 40, False)


def test_record_under_suspicion_goes_before_those_of_other_partitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class LateSource(PiecedSource):
        looks = 0

        def has_news(self) -> bool:
            self.looks += 1
            return self.looks > 5

    monkeypatch.setattr(reader, "_LOOK_INTERVAL_S", 0.01)
    sources = PiecedSource([100]), PiecedSource([100]), LateSource([100])
    careful = read_carefully(monkeypatch, *sources, suspect=2)
    told = [next_info(careful).partition.partition for _ in range(8)]
    assert told[:2] == [2, 2]
    # It is like the others from there on.
    assert set(told[2:]) == {0, 1, 2}


def test_others_do_not_wait_for_ever_for_a_record_under_suspicion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "_SUSPECT_WAIT_S", 0.05)
    monkeypatch.setattr(reader, "_LOOK_INTERVAL_S", 0.01)
    careful = read_carefully(monkeypatch, PiecedSource([]), PiecedSource([100]), suspect=0)
    assert next_info(careful).partition == TopicPartition("t", 1)


def test_caution_in_batches_is_over_after_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client(IdleClient):
        def open_source(self, *_: object) -> IdleSource:
            return PiecedSource([100])

    monkeypatch.setattr(reader, "connect_source_client", lambda *_, **__: Client())
    spec = SourceSpec(KafkaConfig("localhost:9092"), "t", JsonCodec(SCHEMA), ("n",))
    careful = Reader()
    assignment = Assignment(TopicPartition("t", 0), 0, None, caution=Caution(5, 12))
    careful.open(ReaderPlan("native", spec, (), 40), [assignment])
    rows = [pickle.loads(careful.next_batch()[1])[0].rows for _ in range(5)]
    assert rows == [5, 5, 5, 40, 40]
