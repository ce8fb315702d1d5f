"""Decode one busy partition on several cores, in batches as large as what comes after likes them.

    python examples/busy_partition.py [BOOTSTRAP_SERVERS]

Without an argument it runs against an embedded Kafka, which it fills first.
"""

import contextlib
import sys

import pyarrow as pa

from sabot_ray import Stream
from sabot_ray.testing import EmbeddedKafka

with contextlib.ExitStack() as stack:
    if len(sys.argv) > 1:
        servers = sys.argv[1]
    else:
        kafka = stack.enter_context(EmbeddedKafka())
        kafka.produce(
            "readings", ({"device": n % 7, "values": [n * 0.5] * 20} for n in range(20_000))
        )
        servers = kafka.bootstrap_servers

    # A partition is read by one actor; more cores help where decoding is what takes the time,
    # as with many or nested fields. The order of the records stays.
    readings = Stream.from_kafka(
        servers,
        "readings",
        schema={"device": "int64", "values": pa.list_(pa.float64())},
        end="latest",
        decode_threads=2,
        batch_size=5_000,
        # Waits so long for a full batch, where records come slowly.
        linger_s=0.2,
        metadata=["_kafka_offset"],
    )
    with readings.start() as run:
        next_offset = 0
        for batch in run:
            assert batch["_kafka_offset"][0].as_py() == next_offset
            next_offset += batch.num_rows
        print(f"{run.status().rows:,} rows in order")
