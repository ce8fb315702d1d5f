"""`Stream.to_kafka` with `delivery="exactly_once"`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from bench.job import WriteJob
from bench.writers import to_kafka


def prepare(job: WriteJob) -> AbstractContextManager[Callable[[], None]]:
    """Do the same as `to_kafka` does at least once, in transactions."""
    return to_kafka.prepare(job, "exactly_once")
