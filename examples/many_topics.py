"""Read several topics as one stream, with fewer readers than partitions.

    python examples/many_topics.py [BOOTSTRAP_SERVERS]

Without an argument it runs against an embedded Kafka, which it fills first.
"""

import contextlib
import json
import sys

from sabot_ray import Stream
from sabot_ray.testing import EmbeddedKafka, Record

with contextlib.ExitStack() as stack:
    if len(sys.argv) > 1:
        servers = sys.argv[1]
    else:
        kafka = stack.enter_context(EmbeddedKafka(partitions=3))
        for region in ("eu", "us"):
            rows = [{"id": n, "region": region} for n in range(60)]
            kafka.produce(
                f"orders-{region}",
                [Record(json.dumps(row).encode(), partition=row["id"] % 3) for row in rows],
            )
        servers = kafka.bootstrap_servers

    # A list of topics, or a pattern: "^orders-". Two actors read the six partitions, in turns.
    orders = Stream.from_kafka(
        servers,
        ["orders-eu", "orders-us"],
        end="latest",
        readers=2,
        metadata=["_kafka_topic", "_kafka_partition"],
    )

    table = orders.collect()  # a pyarrow.Table
    counts = table.group_by("_kafka_topic").aggregate([("id", "count")]).sort_by("_kafka_topic")
    for row in counts.to_pylist():
        print(f"{row['_kafka_topic']}: {row['id_count']} rows")

    # Only some partitions, and only from an offset on.
    late = Stream.from_kafka(
        servers, "orders-eu", partitions=[0], start={"orders-eu": {0: 5}}, end="latest"
    )
    print(f"orders-eu partition 0 from offset 5: {late.count()} rows")
