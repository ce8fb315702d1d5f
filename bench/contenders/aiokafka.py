"""sabot_ray's fallback, in process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import pyarrow as pa

from bench.contenders import native
from bench.job import Job


def contend(job: Job) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
    """Do the same as the native contender, on the other backend."""
    return native.contend(job, "aiokafka")
