"""`Stream.to_kafka` behind a filter, all of it in the readers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pyarrow.compute as pc

from bench.job import WriteJob
from bench.writers import to_kafka

#: Nine of ten narrow records pass.
PREDICATE = pc.field("amount") > 1000.0


def prepare(job: WriteJob) -> AbstractContextManager[Callable[[], None]]:
    """Copy the rows that pass."""
    return to_kafka.prepare(job, plan=lambda stream: stream.filter(PREDICATE))
