"""How much memory a source takes for what it fetches ahead."""

from __future__ import annotations

import json
import subprocess
import sys

from bench.topic import fill_bytes
from sabot_ray.kafka.source import Backend
from tests.conftest import MakeTopic
from tests.servers import KafkaBroker

PREFETCH = 16 << 20

#: In a process of its own, whose heap has no free memory yet.
FETCH = """
import os, sys, time
from bench.data import SHAPES
from bench.memory import Memory
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.kafka.backend import connect_source_client
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.source import SourceSpec

bootstrap_servers, topic, backend, prefetch = sys.argv[1:]
config = KafkaConfig(bootstrap_servers)
schema = SHAPES["narrow"].schema
client = connect_source_client(backend, config, int(prefetch))
before = now = Memory.of(os.getpid()).own
source = client.open_source(SourceSpec(config, topic, JsonCodec(schema), ("id",)), 0, 0)
grew_at = time.monotonic()
# Until the prefetch is full: it grows no more.
while time.monotonic() - grew_at < 0.7 or not source.has_news():
    time.sleep(0.05)
    last, now = now, Memory.of(os.getpid()).own
    if now > last:
        grew_at = time.monotonic()
print(now - before)
client.close()
"""


def test_prefetch_of_small_records_stays_within_its_limit(
    broker: KafkaBroker, make_topic: MakeTopic, backend: Backend
) -> None:
    topic = make_topic()
    assert fill_bytes(broker, topic, "narrow", 1, 4 * PREFETCH) > 300_000
    arguments = (broker.bootstrap_servers, topic, backend, str(PREFETCH))
    done = subprocess.run(
        [sys.executable, "-c", FETCH, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    grown = json.loads(done.stdout)
    print(f"{backend}: {grown / 2**20:.1f} MiB")
    # What a fetch brings beyond the limit, and the client's own threads and buffers.
    assert PREFETCH / 4 < grown < PREFETCH + (10 << 20)
