"""What the benchmark's figures rest on: its data, its checks, its ratios."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pyarrow as pa
import pytest

from bench.cpu import descendants, process_cpu_s
from bench.data import SHAPES, Digest, encode
from bench.job import Job, Outcome
from bench.report import ratio
from bench.throughput import Round, check
from bench.topic import Backlog
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
