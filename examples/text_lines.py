"""Read text that is no JSON: one column, `value`.

    python examples/text_lines.py [BOOTSTRAP_SERVERS]

Without an argument it runs against an embedded Kafka, which it fills first.
"""

import contextlib
import sys

import pyarrow.compute as pc

from sabot_ray import Stream
from sabot_ray.testing import EmbeddedKafka

with contextlib.ExitStack() as stack:
    if len(sys.argv) > 1:
        servers = sys.argv[1]
    else:
        kafka = stack.enter_context(EmbeddedKafka())
        kafka.produce("log", [b"INFO ready", b"ERROR disk full", b"INFO done", b"ERROR gone"])
        servers = kafka.bootstrap_servers

    # "bytes" takes everything as it is; "string" refuses what is not UTF-8.
    lines = Stream.from_kafka(servers, "log", codec_type="string", end="latest")
    # Arrow's own functions work on a traced column, too.
    errors = lines.filter(lambda b: pc.starts_with(b["value"], "ERROR"))
    for row in errors.to_pylist():
        print(row["value"])
