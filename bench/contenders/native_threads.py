"""sabot_ray's native source, in process, decoding on two threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import pyarrow as pa

from bench.contenders import native
from bench.job import Job


def contend(job: Job) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
    """Read as `native` does, but for the threads."""
    return native.contend(job, decode_threads=2)
