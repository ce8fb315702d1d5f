"""Read topics of two Kafka clusters as one stream, each with its own progress.

    python examples/union.py [BOOTSTRAP_SERVERS BOOTSTRAP_SERVERS]

Without arguments it runs against two embedded Kafkas, which it fills first.
"""

import contextlib
import sys

from sabot_ray import Stream
from sabot_ray.testing import EmbeddedKafka

with contextlib.ExitStack() as stack:
    if len(sys.argv) > 2:
        clusters = sys.argv[1:3]
    else:
        clusters = []
        for region in ("eu", "us"):
            kafka = stack.enter_context(EmbeddedKafka(partitions=2))
            kafka.produce("orders", [{"id": n, "region": region, "cents": n} for n in range(50)])
            clusters.append(kafka.bootstrap_servers)

    # Each has its readers, its group and its commits. Here the groups are on different clusters,
    # so they may have the same name.
    europe, america = (
        Stream.from_kafka(servers, "orders", "billing", end="latest") for servers in clusters
    )

    # An operator before the union belongs to one, an operator behind it to both.
    orders = europe.filter(lambda b: b["cents"] >= 25).union(america)
    amounts = orders.with_columns(amount=lambda b: b["cents"] / 100.0).select("region", "amount")

    with amounts.start() as run:
        totals: dict[str, float] = {}
        for batch in run:
            for row in batch.to_pylist():
                totals[row["region"]] = totals.get(row["region"], 0.0) + row["amount"]
        groups = run.status().group_id

    for region, total in sorted(totals.items()):
        print(f"{region}: {total:.2f}")
    print(f"committed to the groups {groups}")
