"""Write the rows that a filter leaves to another topic.

    python examples/flagged.py [BOOTSTRAP_SERVERS]

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
        kafka.produce("transactions", [{"id": n, "amount": 250.0 * n} for n in range(10)])
        kafka.create_topic("flagged")
        servers = kafka.bootstrap_servers

    stream = Stream.from_kafka(servers, "transactions", "processor", end="latest")
    flagged = stream.filter(lambda b: b["amount"] > 1000.0)

    # The readers write, and this returns when they are through. Without end="latest" it would run
    # until Ctrl-C; wait=False lets it run in the background.
    output = flagged.to_kafka(servers, "flagged", columns=["id", "amount"])
    print(f"written: {output.status().rows} rows")

    for row in Stream.from_kafka(servers, "flagged", end="latest").to_pylist():
        print(row)
