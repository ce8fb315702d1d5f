"""`Stream.to_kafka` as users run it: read, decoded, encoded and written by readers on Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from bench.gate import gated_readers
from bench.job import COMPRESSION, WriteJob
from bench.local_ray import await_rest, local_ray
from sabot_ray.runtime.coordinator import Coordinator
from sabot_ray.stream import Stream


@contextmanager
def prepare(
    job: WriteJob,
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once",
    plan: Callable[[Stream], Stream] = lambda stream: stream,
) -> Iterator[Callable[[], None]]:
    """Copy, with the progress in a consumer group.

    Args:
        job: What to copy.
        delivery: The guarantee.
        plan: Adds the operators.
    """
    stream = Stream.from_kafka(
        job.bootstrap_servers,
        job.topic,
        # One of its own: the target is.
        f"copies-to-{job.target}",
        backend="native",
        schema=job.records.schema,
        start="earliest",
        end="latest",
        batch_size=job.batch_rows,
    )
    with local_ray(), gated_readers() as gate:
        output = plan(stream).to_kafka(
            job.bootstrap_servers,
            job.target,
            compression_type=COMPRESSION,
            delivery=delivery,
            interval_s=1.0,
            wait=False,
        )
        run = output._run
        assert run is not None
        [branch] = run._branches
        gate.wait_for(len(branch.coordinator._readers))
        await_rest()
        with output, _kept_alive(branch.coordinator) as ended:

            def write() -> None:
                gate.open()
                ended.wait()
                if not all(part.position == part.end_offset for part in output.status().partitions):
                    raise RuntimeError("the run failed, or a reader was replaced")

            yield write


@contextmanager
def _kept_alive(coordinator: Coordinator) -> Iterator[threading.Event]:
    """Keep readers that have done their work: one that is killed takes its CPU time with it.

    Yields:
        Is set when all is written, or the run has failed.
    """
    ended, may_go = threading.Event(), threading.Event()
    kill = coordinator._kill

    def held(reader: Any) -> None:
        ended.set()
        may_go.wait()
        kill(reader)

    coordinator._kill = held  # type: ignore[method-assign]
    try:
        yield ended
    finally:
        may_go.set()
