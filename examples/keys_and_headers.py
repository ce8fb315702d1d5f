"""Read keys, headers and timestamps beside the values.

    python examples/keys_and_headers.py [BOOTSTRAP_SERVERS]

Without an argument it runs against an embedded Kafka, which it fills first.
"""

import contextlib
import sys

from sabot_ray import Stream
from sabot_ray.testing import EmbeddedKafka, Record

with contextlib.ExitStack() as stack:
    if len(sys.argv) > 1:
        servers = sys.argv[1]
    else:
        kafka = stack.enter_context(EmbeddedKafka())
        kafka.produce(
            "profiles",
            [
                Record(
                    b'{"name": "Ada"}',
                    key=b'{"tenant": "acme", "id": 1}',
                    headers=(("trace", b"4bf9"), ("source", b"web")),
                ),
                Record(b'{"name": "Grace"}', key=b'{"tenant": "acme", "id": 2}'),
                # A tombstone: the value is null, and so are its columns.
                Record(None, key=b'{"tenant": "acme", "id": 1}', headers=(("source", b"admin"),)),
            ],
        )
        servers = kafka.bootstrap_servers

    profiles = Stream.from_kafka(
        servers,
        "profiles",
        end="latest",
        key_codec="json",  # "string" and "bytes" are the others
        metadata=["_kafka_key", "_kafka_offset", "_kafka_headers"],
    )
    for row in profiles.to_pylist():
        key = row["_kafka_key"]
        headers = {header["key"]: header["value"].decode() for header in row["_kafka_headers"]}
        print(
            f"{row['_kafka_offset']}: {key['tenant']}/{key['id']}"
            f" {row['name'] or '(deleted)'} {headers or ''}"
        )
