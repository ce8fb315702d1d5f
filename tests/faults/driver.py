"""A driver for the fault tests: reads numbered records, and notes in a file what it has done.

Runs as a script, with its options as JSON. A note is one line, written in one piece, so what stands
in the file was done even if the process was killed in the next moment.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import pyarrow.compute as pc
import ray

from sabot_ray import BatchLost, SabotRayError, Stream
from sabot_ray.runtime.branch import BatchRef
from sabot_ray.runtime.run import StreamRun
from tests.faults.ledger import SCHEMA, runs_of


class Notes:
    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, what: str, **details: Any) -> None:
        note = {"what": what, "at": time.monotonic(), **details}
        os.write(self._file, json.dumps(note).encode() + b"\n")


def committed(run: StreamRun) -> dict[int, int | None]:
    return {part.partition: part.committed_offset for part in run.status().partitions}


def iterate(run: StreamRun, notes: Notes, options: dict[str, Any]) -> None:
    for number, batch in enumerate(run):
        known = committed(run)
        notes.write("body", number=number)
        time.sleep(options.get("body_s", 0.0))
        if number == options.get("long_body_at"):
            # In slices: a signal that comes just before a sleep begins is seen only after it.
            for _ in range(1200):
                time.sleep(0.05)
        for done in runs_of(batch):
            notes.write(
                "batch",
                partition=done.partition,
                start=done.start,
                stop=done.stop,
                committed=known.get(done.partition),
            )


def hold_references(run: StreamRun, notes: Notes, options: dict[str, Any]) -> None:
    """Take references, wait for the test, and acknowledge those whose batch is still there."""
    references = run.refs()
    held: list[BatchRef] = []
    partitions = len(run.status().partitions)
    # From every partition, so that whichever node is lost takes some of them along.
    while len(held) < options["references"] or len({one.partition for one in held}) < partitions:
        held.append(next(references))
    notes.write("held", count=len(held), bytes=min(reference.bytes for reference in held))
    sys.stdin.readline()
    for reference in held:
        try:
            batch = reference.get()
        except BatchLost as error:
            notes.write("lost", partition=reference.partition, message=str(error))
            continue
        for done in runs_of(batch):
            notes.write("batch", partition=done.partition, start=done.start, stop=done.stop)
        reference.ack()
    run.close()


def main() -> None:
    options = json.loads(sys.argv[1])
    notes = Notes(options["notes"])
    # For a test that wants to know where it hangs.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    ray.init(
        address=options["address"],
        log_to_driver=False,
        logging_level="warning",
        configure_logging=False,
    )
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stream = Stream.from_kafka(
        options["bootstrap_servers"],
        options["topic"],
        options["group"],
        schema=SCHEMA,
        **options.get("stream", {}),
    )
    try:
        if "target" in options:
            partition = pc.field("partition")
            servers, target, sink = (options[n] for n in ("bootstrap_servers", "target", "sink"))
            stream.to_kafka(servers, target, partition=partition, **sink)
            notes.write("finished")
            return
        with stream.start() as run:
            starts = {part.partition: part.position for part in run.status().partitions}
            notes.write("started", positions=starts, committed=committed(run))
            read = hold_references if "references" in options else iterate
            read(run, notes, options)
        notes.write("finished")
    except SabotRayError as error:
        notes.write("failed", error=type(error).__name__, message=str(error))
    except (KeyboardInterrupt, SystemExit) as stop:
        notes.write("interrupted", error=type(stop).__name__)
        raise
    finally:
        now = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        notes.write("ended", handlers_restored=now == handlers)


if __name__ == "__main__":
    main()
