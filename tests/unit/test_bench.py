"""What the benchmark's figures rest on: its data, its checks, its ratios."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pyarrow as pa
import pytest

from bench import chart, report
from bench.cpu import CpuTime, descendants, process_cpu_s
from bench.data import SHAPES, Digest, encode
from bench.job import Job, Outcome, WriteJob, WriteOutcome
from bench.latency import BARE, Latency
from bench.memory import Memory, ReaderMemory
from bench.partitions import PartitionsRun
from bench.report import Bar, Verdict, ratio
from bench.throughput import Round, check
from bench.topic import Backlog
from bench.writing import WriteRound
from sabot_ray.codecs.json import JsonCodec
from tests.servers import wait_until


@pytest.mark.parametrize("shape", ["narrow", "wide", "nested"])
def test_rows_of_a_seed_are_always_the_same(shape):
    values = [list(map(encode, SHAPES[shape].rows(50, seed))) for seed in (1, 1, 2)]
    assert values[0] == values[1]
    assert values[0] != values[2]
    assert [row["id"] for row in SHAPES[shape].rows(50, 1)] == list(range(50))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_rows_have_the_fields_and_types_of_the_schema(shape):
    rows = list(shape.rows(200, 1))
    assert {tuple(row) for row in rows} == {tuple(shape.schema.names)}
    batch = pa.RecordBatch.from_pylist(rows, schema=shape.schema)
    assert batch.to_pylist() == rows


@pytest.mark.parametrize("shape", ["narrow", "nested"])
def test_values_are_the_bytes_that_sabot_ray_writes(shape):
    # Or the raw producer, which writes these, would write others than the sinks.
    schema = SHAPES[shape].schema
    rows = list(SHAPES[shape].rows(200, 1))
    encoded = JsonCodec(schema).encoder().encode(pa.RecordBatch.from_pylist(rows, schema=schema))
    assert encoded.values.to_pylist() == list(map(encode, rows))


def digest_of(*parts: pa.RecordBatch) -> dict[str, int | str]:
    digest = Digest(SHAPES["narrow"])
    for part in parts:
        digest.add_batch(part)
    return digest.result()


def test_digest_notices_lost_doubled_and_swapped_rows_but_not_batch_limits():
    narrow = SHAPES["narrow"]
    batch = pa.RecordBatch.from_pylist(list(narrow.rows(10, 1)), schema=narrow.schema)
    whole = digest_of(batch)
    assert digest_of(batch[:3], batch[3:]) == whole
    assert digest_of(batch[:9]) != whole
    assert digest_of(batch, batch[9:]) != whole
    assert digest_of(batch[5:], batch[:5]) != whole


def test_digest_with_another_schema_raises():
    narrow = SHAPES["narrow"]
    batch = pa.RecordBatch.from_pylist(list(narrow.rows(1, 1)), schema=narrow.schema)
    with pytest.raises(ValueError, match="expected the schema"):
        digest_of(batch.drop_columns(["amount"]))


def test_job_survives_its_journey():
    job = Job("localhost:9092", "topic", "wide", None, 50_000, check=True)
    assert Job.from_json(job.to_json()) == job


def test_job_of_writing_survives_its_journey():
    job = WriteJob("localhost:9092", "topic", "narrow", 10, 50_000, target="to")
    assert WriteJob.from_json(job.to_json()) == job


def test_bare_producers_have_the_settings_of_the_sink():
    job = WriteJob("localhost:9092", "topic", "narrow", 10, 50_000, target="to")
    settings = job.producer_settings()
    assert settings["bootstrap.servers"] == "localhost:9092"
    assert (
        settings.items()
        >= {
            "acks": "all",
            "enable.idempotence": "true",
            "compression.type": "lz4",
            "linger.ms": "5",
        }.items()
    )


def outcome(rows: int = 100, steady_s: float = 1.0, cpu_s: float = 1.0) -> Outcome:
    digest = {"rows": rows, "id_sum": 1, "text": "a"}
    return Outcome(rows, 2, rows, 0.1, steady_s, cpu_s, cpu_s, digest=digest)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (outcome(), None),
        (outcome(99), "99 rows instead of 100"),
        (Outcome(100, 1, 100, 0.1, 1, 1, 1, value_bytes=1000), None),
        (Outcome(100, 1, 100, 0.1, 1, 1, 1, value_bytes=999), "999 bytes instead of 1000"),
        (Outcome(100, 1, 100, 0.1, 1, 1, 1, digest={"rows": 100}), "instead of"),
    ],
)
def test_check_of_a_wrong_result_raises(found, reason):
    backlog = Backlog("topic", "narrow", "none", 100, 1000, outcome().digest)
    if reason is None:
        check("contender", found, backlog)
    else:
        with pytest.raises(RuntimeError, match=reason):
            check("contender", found, backlog)


def test_ratio_compares_neighbours_in_time():
    # The machine was ten times slower in the second round, and somebody disturbed the third.
    seconds = {"a": (1.0, 10.0, 1.0), "b": (2.0, 20.0, 30.0)}
    rounds = [
        Round(name, "narrow", "none", number, outcome(steady_s=steady_s), 0.0)
        for name, times in seconds.items()
        for number, steady_s in enumerate(times, 1)
    ]
    assert ratio(rounds, "a", "b", "wall") == 2.0
    assert ratio(rounds, "a", "b", "CPU") == 1.0


def test_process_cpu_counts_a_child_of_a_child():
    burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with subprocess.Popen([sys.executable, "-c", burn], start_new_session=True) as child:
        try:
            [burning] = wait_until(
                lambda: [pid for pid in descendants(child.pid) if process_cpu_s(pid) > 0.1], 20.0
            )
            assert burning in descendants(os.getpid())
            assert process_cpu_s(child.pid) > 0
        finally:
            os.killpg(child.pid, signal.SIGKILL)


def test_process_cpu_of_a_process_that_is_gone_is_zero():
    with subprocess.Popen(["true"]) as gone:
        pass
    assert process_cpu_s(gone.pid) == 0.0


def test_cpu_time_leaves_out_what_a_worker_used_while_it_started():
    before = CpuTime(1.0, {10: 5.0}, {1: 2.0, 11: 0.9})
    # Process 11 has become a worker meanwhile, 12 is new.
    used = CpuTime(1.5, {10: 6.0, 11: 1.0, 12: 0.25}, {1: 2.5}).since(before)
    assert used.driver == 0.5
    assert used.consuming == pytest.approx(0.5 + 1.0 + 0.1 + 0.25)
    assert used.of_ray == 0.5


def test_memory_of_this_process_has_heap_and_files_and_none_of_a_gone_one():
    held = Memory.of(os.getpid())
    assert held.own > 1 << 20
    assert held.files > 1 << 20
    assert held.resident == held.own + held.shared + held.files
    assert Memory.of(2**22 + 1) == Memory()


@pytest.mark.parametrize(
    ("found", "at_least", "reached", "aimed"),
    [
        (7.9, True, False, False),
        (8.0, True, True, False),
        (12.0, True, True, True),
        (12.1, False, False, False),
        (12.0, False, False, False),
        (8.0, False, True, False),
    ],
)
def test_verdict_knows_which_side_of_its_bar_is_the_good_one(found, at_least, reached, aimed):
    aim = 12.0 if at_least else 4.0
    verdict = Verdict("what", "case", found, 8.0, aim, at_least=at_least)
    assert (verdict.is_reached, verdict.is_aimed) == (reached, aimed)


def test_partitions_are_judged_by_the_cpu_time_of_the_same_round():
    runs = [
        PartitionsRun(count, 1, number, 1000, 1.0, 1.0, cpu_s, 0.1, 0.1, 10)
        for number, cpu in enumerate([(1.0, 1.04), (10.0, 10.6), (1.0, 9.0)], 1)
        for count, cpu_s in zip((1, 64), cpu, strict=True)
    ]
    [verdict] = report.judge_partitions(runs)
    assert (verdict.case, verdict.found) == ("64 partitions", pytest.approx(1.06))
    assert verdict.is_reached
    assert not verdict.is_aimed


def write_round(contender: str, number: int, cpu_s: float, **more: int) -> WriteRound:
    found = WriteOutcome(1000, wall_s=2 * cpu_s, cpu_s=cpu_s, driver_cpu_s=cpu_s / 20)
    return WriteRound(contender, "narrow", "lz4", number, found, 0.0, **more)


def test_contenders_that_write_are_judged_by_the_bars_of_those_present():
    rounds = [
        write_round(name, number, cpu_s)
        for number, slowness in enumerate((1.0, 10.0, 1.0), 1)
        for name, cpu_s in (("sink", slowness), ("raw", 0.7 * slowness))
    ]
    bars = [Bar("sink", "raw", "wall", 0.6, 0.8), Bar("sink", "ray", "CPU", 8, 12)]
    [verdict] = report.judge_contenders(rounds, bars)
    assert (verdict.what, verdict.case) == ("sink / raw, wall", "narrow, lz4")
    assert verdict.found == pytest.approx(0.7)
    assert verdict.is_reached
    assert not verdict.is_aimed


def test_fused_chain_is_judged_by_its_rate_per_cpu_and_by_the_drivers_part():
    rounds = [
        write_round("fused", number, cpu_s, partitions=partitions)
        for number, cpu in enumerate([(1.0, 1.1), (10.0, 12.5), (1.0, 1.4)], 1)
        for partitions, cpu_s in zip((1, 16), cpu, strict=True)
    ]
    rate, *drivers = report.judge_fused(rounds)
    assert (rate.case, rate.found) == ("16 partitions", pytest.approx(0.8))
    assert not rate.is_reached
    assert [verdict.case for verdict in drivers] == ["1 partitions", "16 partitions"]
    assert [verdict.found for verdict in drivers] == [pytest.approx(5.0)] * 2


def test_latency_is_judged_over_the_bare_consumer_of_the_same_round():
    rounds = [(5.0, 6.0), (50.0, 53.0), (5.0, 9.5)]
    figures = [
        Latency(reader, 1000, number, 100, 10, p99 / 2, p99, p99)
        for number, pair in enumerate(rounds, 1)
        for reader, p99 in zip((BARE, "sabot_ray"), pair, strict=True)
    ]
    p50, p99 = report.judge_latency(figures)
    assert (p50.found, p99.found) == (1.5, 3.0)
    assert p50.is_reached
    assert p99.is_reached


def test_memory_is_judged_over_an_idle_worker():
    peak, idle = Memory(100_000_000, 70_000_000, 90_000_000), Memory(20_000_000, 0, 80_000_000)
    figure = ReaderMemory("native", "narrow", "none", peak, idle, 50_000_000, 30_000_000)
    [verdict] = report.judge_memory([figure])
    assert (verdict.found, verdict.bar) == (160.0, 160.0)
    assert verdict.is_reached


def test_chart_is_drawn_where_matplotlib_is_and_left_out_where_not(tmp_path, monkeypatch):
    verdicts = [
        Verdict("sabot_ray / ray, CPU", "narrow, lz4", 6.8, 8.0, 12.0),
        # Below the bare consumer's, and so no ratio at all.
        Verdict("latency over bare, p50", "1000/s", -0.2, 2.0, 2.0, "ms", at_least=False),
    ]
    picture = tmp_path / "figures.png"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not chart.draw(verdicts, "title", picture)
    assert not picture.exists()
    monkeypatch.delitem(sys.modules, "matplotlib")
    pytest.importorskip("matplotlib")
    assert chart.draw(verdicts, "title", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
