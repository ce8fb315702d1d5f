"""Read a Kafka topic as typed Arrow record batches, on Ray actors.

    python examples/quickstart.py [BOOTSTRAP_SERVERS]

Without an argument it runs against an embedded Kafka, which it fills first.
"""

import contextlib
import sys

from sabot_ray import Stream
from sabot_ray.testing import EmbeddedKafka

with contextlib.ExitStack() as stack:
    if len(sys.argv) > 1:
        servers = sys.argv[1]
    else:
        kafka = stack.enter_context(EmbeddedKafka(partitions=2))
        kafka.produce(
            "transactions",
            [{"id": n, "amount": 250.0 * n, "currency": "EUR"} for n in range(10)],
        )
        servers = kafka.bootstrap_servers

    # Lazy: nothing connects yet. Without end="latest" the stream would go on for ever.
    stream = Stream.from_kafka(servers, "transactions", "processor", end="latest")

    # Runs inside Arrow, in the actors; only `id` and `amount` are decoded.
    flagged = stream.filter(lambda b: b["amount"] > 1000.0).select("id", "amount")

    for batch in flagged:  # a pyarrow.RecordBatch; asking for the next one acknowledges it
        print(f"{batch.num_rows} rows: {batch.to_pylist()}")

    # The group has committed everything, so a second run finds nothing new.
    print(f"left for a second run: {flagged.count()} rows")
