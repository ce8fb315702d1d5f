"""Declare what is expected, and go on where records are different.

    python examples/messy_records.py [BOOTSTRAP_SERVERS]

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
            "invoices",
            [
                {"id": 1, "total": "19.90", "day": "2026-01-31", "lines": ["pen", "ink"]},
                {"id": 2, "total": 5, "day": "2026-02-01", "vat": {"rate": 0.2}},
                {"id": "three", "total": "1.00", "day": "2026-02-02"},
                b"no JSON at all",
                {"id": 5, "total": "0.50", "day": None},
            ],
        )
        servers = kafka.bootstrap_servers

    invoices = Stream.from_kafka(
        servers,
        "invoices",
        end="latest",
        # Read strictly: a decimal never goes through a float.
        schema={
            "id": "int64",
            "total": "decimal128(10, 2)",
            "day": "date32",
            "lines": pa.list_(pa.string()),
        },
        # Fields that the schema lacks are kept as JSON text, by path; "fail" refuses them.
        unknown_fields="rescue",
        # Records that do not fit are dropped, counted and logged; "fail" stops with the first one.
        error_handling_policy="skip",
    )
    with invoices.start() as run:
        for batch in run:
            for row in batch.to_pylist():
                print(row["id"], row["total"], row["day"], row["lines"], row["_rescued"])
        print(f"skipped: {run.status().decode_errors}")
