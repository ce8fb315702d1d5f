"""The records of a job in memory, for contenders that only write."""

from __future__ import annotations

import pyarrow as pa

from bench.contenders import native
from bench.job import WriteJob


def read_all(job: WriteJob) -> list[pa.RecordBatch]:
    """Return the records of the source topic as batches."""
    with native.contend(job) as batches:
        return [batch for batch in batches if batch.num_rows]
