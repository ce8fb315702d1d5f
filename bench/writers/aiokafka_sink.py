"""sabot_ray's fallback sink, in process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from bench.job import WriteJob
from bench.writers import sink


def prepare(job: WriteJob) -> AbstractContextManager[Callable[[], None]]:
    """Do the same as the native sink, on the other backend."""
    return sink.prepare(job, "aiokafka")
