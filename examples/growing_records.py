"""Follow records whose fields become more: a new one is a new column from then on.

    python examples/growing_records.py [BOOTSTRAP_SERVERS]

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
        kafka = stack.enter_context(EmbeddedKafka())
        kafka.produce("signups", [{"id": n} for n in range(3)])
        kafka.produce("signups", [{"id": n, "plan": "team", "seats": n} for n in range(3, 5)])
        kafka.produce("signups", [{"id": 5}])
        servers = kafka.bootstrap_servers

    # With a group_id the grown schema is kept with the progress: a restart begins with it.
    signups = Stream.from_kafka(
        servers, "signups", schema={"id": "int64"}, unknown_fields="evolve", end="latest"
    )
    schema = None
    with signups.start() as run:
        for batch in run:
            # A batch has the columns that were known when it was read.
            if batch.schema != schema:
                schema = batch.schema
                print(", ".join(f"{field.name}: {field.type}" for field in schema))
            for row in batch.to_pylist():
                print(*row.values())
