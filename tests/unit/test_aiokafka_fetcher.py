"""The fetch loop against a leader that answers by script, and record batches made by hand."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import SimpleNamespace

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from sabot_ray.errors import (
    AuthorizationFailed,
    BrokerUnavailable,
    KafkaError,
    OffsetOutOfRange,
    UnknownTopicOrPartition,
)
from sabot_ray.kafka import aiokafka_fetcher
from sabot_ray.kafka.aiokafka_fetcher import Fetched, PartitionFetcher, unpack
from sabot_ray.kafka.aiokafka_loop import EventLoopThread
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.types import TopicPartition

GZIP, LZ4 = 1, 3
ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"


def record_batch(
    base_offset: int,
    values: list[bytes],
    *,
    producer_id: int = -1,
    marker: bytes | None = None,
    compression: int = 0,
    header: str = "name",
) -> bytes:
    """Return a batch as a broker stores it."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=int(producer_id >= 0),
        producer_id=producer_id,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1 << 20,
    )
    for index, value in enumerate(values):
        builder.append(index, timestamp=0, key=marker, value=value, headers=[(header, None)])
    data = bytearray(builder.build())
    data[:8] = base_offset.to_bytes(8, "big")
    if marker is not None:
        data[22] |= 0x20
    return bytes(data)


def fetched(*batches: bytes, aborted: list[tuple[int, int]] | None = None) -> Fetched:
    parsed = [DefaultRecordBatch(batch) for batch in batches]
    return Fetched(parsed, aborted or [], parsed[-1].next_offset, sum(map(len, batches)))


def unpacked(answer: Fetched, **options: bool) -> list[tuple[list[bytes], int]]:
    options = {"read_committed": True, "check_crcs": False, **options}
    return [
        ([record.value for record in records], next_offset)
        for records, next_offset in unpack(answer, "topic 't' partition 0", **options)
    ]


def test_unpack_leaves_out_aborted_and_control_batches():
    answer = fetched(
        record_batch(0, [b"a", b"b"], producer_id=7),
        record_batch(2, [b"c"], producer_id=8),
        record_batch(3, [b""], producer_id=7, marker=ABORT),
        record_batch(4, [b"d"], producer_id=7),
        record_batch(5, [b""], producer_id=8, marker=COMMIT),
        aborted=[(7, 0)],
    )
    assert unpacked(answer) == [([], 2), ([b"c"], 3), ([], 4), ([b"d"], 5), ([], 6), ([], 6)]


def test_unpack_uncommitted_leaves_out_control_batches_only():
    answer = fetched(
        record_batch(0, [b"a"], producer_id=7),
        record_batch(1, [b""], producer_id=7, marker=ABORT),
        aborted=[(7, 0)],
    )
    assert unpacked(answer, read_committed=False) == [([b"a"], 1), ([], 2), ([], 2)]


@pytest.mark.parametrize("count", [256, 600])
def test_unpack_long_batch_comes_in_short_runs(count):
    values = [b"%d" % number for number in range(count)]
    runs = unpacked(fetched(record_batch(5, values, compression=LZ4)), check_crcs=True)
    assert [value for found, _ in runs for value in found] == values
    assert max(len(found) for found, _ in runs) == 256
    read = 5
    for found, next_offset in runs:
        read += len(found)
        assert next_offset == read


def test_unpack_record_that_breaks_in_a_later_run_is_an_error_after_the_records_before_it():
    data = bytearray(record_batch(0, [b"a"] * 300))
    last = data.rindex(b"name")
    data[last : last + 4] = b"\xff\xfe\xfd\xfc"
    runs = unpack(fetched(bytes(data)), "here", read_committed=True, check_crcs=False)
    found = [(len(records), next_offset) for records, next_offset in (next(runs), next(runs))]
    assert found == [(256, 256), (43, 299)]
    with pytest.raises(KafkaError, match="here offset 299: 'utf-8' codec can't decode"):
        next(runs)


def test_unpack_compacted_batch_ends_at_the_offset_after_it():
    data = bytearray(record_batch(0, [b"a", b"b"]))
    data[23:27] = (9).to_bytes(4, "big")
    assert unpacked(fetched(bytes(data))) == [([b"a", b"b"], 10), ([], 10)]


def test_unpack_corrupt_batch_is_an_error_after_the_batches_before_it():
    good, bad = record_batch(0, [b"a"]), bytearray(record_batch(1, [b"bbbb"]))
    bad[-3] ^= 1
    records = unpack(fetched(good, bytes(bad)), "here", read_committed=True, check_crcs=True)
    assert [record.value for record in next(records)[0]] == [b"a"]
    with pytest.raises(KafkaError, match="here offset 1: the checksum is wrong") as raised:
        next(records)
    assert (raised.value.code, raised.value.retriable) == (2, False)


def test_unpack_header_name_that_is_no_utf_8_is_an_error_after_the_records_before_it():
    data = bytearray(record_batch(4, [b"a", b"b", b"c"]))
    last = data.rindex(b"name")
    data[last : last + 4] = b"\xff\xfe\xfd\xfc"
    records = unpack(fetched(bytes(data)), "here", read_committed=True, check_crcs=False)
    found, next_offset = next(records)
    assert ([record.value for record in found], next_offset) == ([b"a", b"b"], 6)
    with pytest.raises(KafkaError, match="here offset 6: 'utf-8' codec can't decode"):
        next(records)


@pytest.mark.parametrize("compression", [GZIP, LZ4])
def test_unpack_garbage_for_a_codec_is_an_error(compression):
    data = bytearray(record_batch(3, [b"a" * 100], compression=compression))
    data[61:] = b"\xee" * (len(data) - 61)
    with pytest.raises(KafkaError, match="here offset 3") as raised:
        list(unpack(fetched(bytes(data)), "here", read_committed=True, check_crcs=False))
    assert raised.value.code == 2


class ScriptedLeader:
    """Stands in for `Brokers`: every connection leads to this leader, whose answers are given."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    @contextlib.asynccontextmanager
    async def connected_to_leader(self, topic, partition):
        yield self

    async def send(self, request):
        await asyncio.sleep(0)
        offset = request.topics[0][1][0][1]
        self.asked.append(offset)
        # The last answer is repeated for ever.
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def answer(
    data: bytes = b"", *, high: int = 0, stable: int = 0, code: int = 0, throttled_ms: int = 0
) -> SimpleNamespace:
    partition = (0, code, high, stable, 0, [], -1, data)
    return SimpleNamespace(
        API_VERSION=11, throttle_time_ms=throttled_ms, topics=[("t", [partition])]
    )


@pytest.fixture
def start_fetcher():
    loop = EventLoopThread()
    fetchers = []

    def start(leader, offset=0, end_offset=None, prefetch_bytes=1 << 20, **config):
        fetcher = PartitionFetcher(
            loop,
            leader,
            KafkaConfig("localhost:9092", retry_backoff_ms=1, **config),
            TopicPartition("t", 0),
            end_offset,
            prefetch_bytes,
        )
        fetchers.append(fetcher)
        fetcher.start(offset)
        return fetcher

    yield start
    for fetcher in fetchers:
        fetcher.close()
    loop.close()


def test_fetch_empty_answer_below_the_last_stable_offset_moves_past_the_gap(start_fetcher):
    leader = ScriptedLeader(answer(high=9, stable=8))
    taken = start_fetcher(leader, offset=3, end_offset=8).take(5)
    assert (taken.batches, taken.next_offset) == ([], 8)
    assert leader.asked == [3]


def test_fetch_uncommitted_moves_past_the_gap_to_the_high_watermark(start_fetcher):
    leader = ScriptedLeader(answer(high=9, stable=-1))
    config = {"isolation_level": "read_uncommitted"}
    assert start_fetcher(leader, offset=3, end_offset=9, **config).take(5).next_offset == 9


def test_fetch_throttled_answer_moves_nothing(start_fetcher):
    leader = ScriptedLeader(
        answer(high=9, stable=9, throttled_ms=50), answer(record_batch(3, [b"a"]), high=9, stable=9)
    )
    assert start_fetcher(leader, offset=3, end_offset=4).take(5).next_offset == 4
    assert leader.asked == [3, 3]


def test_fetch_stops_at_the_end(start_fetcher):
    leader = ScriptedLeader(answer(record_batch(0, [b"a", b"b"]), high=9, stable=9))
    fetcher = start_fetcher(leader, end_offset=1)
    assert fetcher.take(5).next_offset == 2
    assert fetcher.take(0.1) is None
    assert leader.asked == [0]


def test_fetch_partial_batch_is_an_error_that_says_what_to_raise(start_fetcher):
    data = record_batch(0, [b"a" * 100])[:50]
    fetcher = start_fetcher(ScriptedLeader(answer(data, high=1, stable=1)))
    for _ in range(2):
        with pytest.raises(KafkaError, match="raise max_partition_fetch_bytes") as raised:
            fetcher.take(5)
        assert raised.value.code == 10


@pytest.mark.parametrize(
    ("code", "expected"),
    [(1, OffsetOutOfRange), (29, AuthorizationFailed), (2, KafkaError), (35, KafkaError)],
)
def test_fetch_hopeless_answer_is_raised_at_every_take(start_fetcher, code, expected):
    leader = ScriptedLeader(answer(code=code))
    fetcher = start_fetcher(leader, offset=5)
    for _ in range(2):
        with pytest.raises(expected, match="topic 't' partition 0 offset 5") as raised:
            fetcher.take(5)
        assert raised.value.code == code
    assert leader.asked == [5]


@pytest.mark.parametrize(
    "trouble",
    [
        answer(code=6),
        answer(code=9),
        answer(code=56),
        answer(code=74),
        answer(code=78),
        answer(code=-1),
        BrokerUnavailable("broker a:1: connection refused", retriable=True),
    ],
)
def test_fetch_passing_trouble_is_retried_from_the_same_offset(start_fetcher, trouble):
    leader = ScriptedLeader(trouble, trouble, answer(record_batch(5, [b"a"]), high=6, stable=6))
    assert start_fetcher(leader, offset=5, end_offset=6).take(5).next_offset == 6
    assert leader.asked == [5, 5, 5]


def test_fetch_unknown_topic_is_an_error_after_a_while(start_fetcher, monkeypatch):
    monkeypatch.setattr(aiokafka_fetcher, "_UNKNOWN_GRACE_S", 0.05)
    leader = ScriptedLeader(answer(code=3))
    with pytest.raises(UnknownTopicOrPartition):
        start_fetcher(leader).take(5)
    assert len(leader.asked) > 1


def test_fetch_topic_known_again_in_time_is_no_error(start_fetcher):
    leader = ScriptedLeader(answer(code=3), answer(record_batch(0, [b"a"]), high=1, stable=1))
    assert start_fetcher(leader, end_offset=1).take(5).next_offset == 1


def test_fetch_defect_is_an_error_and_not_an_idle_topic(start_fetcher):
    with pytest.raises(KafkaError, match=r"fetching failed: ZeroDivisionError\('defect'\)"):
        start_fetcher(ScriptedLeader(ZeroDivisionError("defect"))).take(5)


def test_fetch_waits_while_the_prefetch_limit_is_reached(start_fetcher, wait_until):
    batches = [record_batch(offset, [b"a" * 250]) for offset in range(8)]
    leader = ScriptedLeader(*[answer(batch, high=9, stable=9) for batch in batches])
    # Each fetch may bring 250 bytes, so the fourth has to wait.
    fetcher = start_fetcher(leader, prefetch_bytes=1000)
    wait_until(lambda: len(leader.asked) == 3)
    for offset in range(5):
        assert fetcher.take(5).next_offset == offset + 1
        # What was taken counts until the next one is taken.
        assert len(leader.asked) <= offset + 3


def test_cut_off_s_counts_over_all_attempts_until_one_is_answered(start_fetcher, wait_until):
    leader = ScriptedLeader(answer(code=6))
    fetcher = start_fetcher(leader, fetch_max_wait_ms=1)
    wait_until(lambda: fetcher.cut_off_s() > 0.1)
    leader.answers = [answer(high=0)]
    wait_until(lambda: fetcher.cut_off_s() < 0.1)


def test_cut_off_s_with_nothing_to_ask_for_is_zero(start_fetcher, wait_until):
    full = ScriptedLeader(answer(record_batch(0, [b"a" * 250]), high=9, stable=9))
    failed = ScriptedLeader(answer(code=1))
    ended = ScriptedLeader(answer(record_batch(0, [b"a"]), high=9, stable=9))
    for leader, options in (
        (full, {"prefetch_bytes": 300}),
        (failed, {}),
        (ended, {"end_offset": 1}),
    ):
        fetcher = start_fetcher(leader, fetch_max_wait_ms=1, **options)
        wait_until(fetcher.has_news)
        with pytest.raises(TimeoutError):
            wait_until(lambda fetcher=fetcher: fetcher.cut_off_s() > 0, 0.2)


def test_start_again_drops_what_was_fetched(start_fetcher):
    leader = ScriptedLeader(
        answer(record_batch(0, [b"a"]), high=9, stable=9),
        answer(record_batch(1, [b"a"]), high=9, stable=9),
        answer(record_batch(7, [b"b"]), high=9, stable=9),
    )
    fetcher = start_fetcher(leader, end_offset=2)
    assert fetcher.take(5).next_offset == 1
    fetcher.start(1)
    assert fetcher.take(5).next_offset == 8


def test_close_wakes_a_blocked_take(start_fetcher):
    fetcher = start_fetcher(ScriptedLeader(answer()))
    closer = threading.Timer(0.1, fetcher.close)
    closer.start()
    assert fetcher.take(60) is None
    assert fetcher.take(60) is None
    closer.join()
