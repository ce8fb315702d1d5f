"""Readers that wait for each other with everything imported: the start of processes not counted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.expressions import evaluate
from sabot_ray.kafka import librdkafka
from sabot_ray.runtime import coordinator
from sabot_ray.runtime.reader import Reader
from sabot_ray.runtime.reader_messages import ReaderPlan
from tests.servers import wait_until

#: Longest time that readers wait, and are waited for, in seconds.
_TIMEOUT_S = 120


class Gate:
    """Where readers wait.

    Args:
        directory: Each that has come has a file there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def wait_for(self, readers: int) -> None:
        """Wait until so many readers are there."""
        wait_until(lambda: len(list(self._directory.iterdir())) == readers, _TIMEOUT_S)

    def open(self) -> None:
        """Let them go on."""
        (self._directory / "open").touch()

    def pass_through(self) -> None:
        """Say that this reader has come, and wait."""
        (self._directory / str(os.getpid())).touch()
        wait_until((self._directory / "open").exists, _TIMEOUT_S)


class _Gated:
    gate: Gate

    def open(self, plan: ReaderPlan, *more: Any) -> Any:
        """See `Reader.open`, and those of the readers that write."""
        # Imports what reading and writing need.
        if error := librdkafka.load_error():
            raise RuntimeError(error)
        if plan.sink is not None:
            import sabot_ray.kafka.librdkafka_sink  # noqa: F401
        if plan.operators:
            # The first expression loads what evaluates it, and pandas: a third of a second.
            evaluate({"loaded": pc.scalar(True)}, pa.table({"n": [0]}))
        self.gate.pass_through()
        return super().open(plan, *more)  # type: ignore[misc]


@contextmanager
def gated_readers() -> Iterator[Gate]:
    """Let readers that are made in the block wait at a gate, before they connect."""
    with tempfile.TemporaryDirectory(prefix="bench-gate-") as directory:
        gate = Gate(Path(directory))
        # The coordinator makes actors of the classes that it finds there.
        kinds = {
            name: kind
            for name, kind in vars(coordinator).items()
            if isinstance(kind, type) and issubclass(kind, Reader)
        }
        for name, kind in kinds.items():
            setattr(coordinator, name, type(name, (_Gated, kind), {"gate": gate}))
        try:
            yield gate
        finally:
            for name, kind in kinds.items():
                setattr(coordinator, name, kind)
