"""From the driver's call to its first batch: the reader actor runs, the start offset is known.

``python -m bench.first_batch`` reads a job on stdin and prints one time in seconds per line.
"""

from __future__ import annotations

import pickle
import sys
import time

import pyarrow as pa
import ray

from bench import own_process
from bench.job import PREFETCH_BYTES, Job
from bench.local_ray import local_ray
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.runtime.reader import ACTOR_OPTIONS, Reader, read_inline
from sabot_ray.runtime.reader_messages import Assignment, BatchInfo, Failure, ReaderPlan
from sabot_ray.types import TopicPartition


def times(job: Job, rounds: int) -> list[float]:
    """Measure in a process of its own.

    Raises:
        RuntimeError: It failed; the message holds what it printed.
    """
    command = own_process.module("bench.first_batch", rounds)
    return list(map(float, own_process.run("first batch:", command, job.to_json(), 300)))


def _measure(job: Job, rounds: int) -> None:
    schema = job.records.schema
    spec = SourceSpec(
        job.config,
        job.topic,
        JsonCodec(schema),
        tuple(schema.names),
        prefetch_bytes=PREFETCH_BYTES,
    )
    plan = ray.put(ReaderPlan("native", spec, (), job.batch_rows))
    assignment = Assignment(TopicPartition(job.topic, 0), 0, job.rows)
    actor_class = ray.remote(**ACTOR_OPTIONS)(Reader)
    # The first round warms up.
    for number in range(rounds + 1):
        reader = actor_class.remote()
        ray.get(reader.status.options(concurrency_group="control").remote())
        start = time.perf_counter()
        opening = reader.open.options(concurrency_group="data").remote(plan, [assignment])
        answer = reader.next_batch.options(num_returns=2, concurrency_group="data").remote()
        batch, pickled = ray.get(answer)
        told: list[BatchInfo] | Failure = pickle.loads(pickled)
        if isinstance(told, list) and told[0].inline is not None:
            batch = read_inline(told[0].inline)
        elapsed = time.perf_counter() - start
        ray.get(opening)
        if not isinstance(batch, pa.RecordBatch):
            raise RuntimeError(f"first batch: there is none: {told}")
        if number:
            print(elapsed, flush=True)
        ray.get(reader.close.options(concurrency_group="control").remote())
        ray.kill(reader)


if __name__ == "__main__":
    with local_ray():
        _measure(Job.from_json(sys.stdin.read()), int(sys.argv[1]))
