"""Compute columns in the readers, and iterate without blocking an event loop.

    python examples/columns.py [BOOTSTRAP_SERVERS]

Without an argument it runs against an embedded Kafka, which it fills first.
"""

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray import Stream
from sabot_ray.testing import EmbeddedKafka


def by_currency(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Give the rows of one currency after the other."""
    for currency in sorted(pc.unique(batch["currency"]).to_pylist()):
        yield batch.filter(pc.equal(batch["currency"], currency))


async def show(stream: Stream) -> None:
    """Print the batches; other tasks go on meanwhile."""
    async for batch in stream:
        for row in batch.to_pylist():
            print(f"{row['currency']} {row['net']:>6.2f}")


with contextlib.ExitStack() as stack:
    if len(sys.argv) > 1:
        servers = sys.argv[1]
    else:
        kafka = stack.enter_context(EmbeddedKafka())
        kafka.produce(
            "payments",
            [
                {"id": n, "amount": 10.0 * n, "fee": 0.5, "currency": ("USD", "EUR")[n % 2]}
                for n in range(6)
            ],
        )
        servers = kafka.bootstrap_servers

    payments = (
        Stream.from_kafka(servers, "payments", end="latest")
        # An expression, checked against the schema before anything is read.
        .with_columns(net=lambda b: b["amount"] - b["fee"])
        .filter(lambda b: b["net"] > 0)
        .select("currency", "net")
        # Any Python: several batches for one.
        .flat_map(by_currency)
    )
    asyncio.run(show(payments))
