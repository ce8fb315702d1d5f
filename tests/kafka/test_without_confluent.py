"""Everything the fallback needs works where confluent-kafka cannot be imported at all."""

from __future__ import annotations

import subprocess
import sys

from tests.kafka.reading import number

_SCRIPT = """
import sys


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "confluent_kafka":
            raise ImportError(f"{name} is blocked")


sys.meta_path.insert(0, Blocked())

from sabot_ray.errors import BackendUnavailable
from sabot_ray.kafka.aiokafka_source import AiokafkaSource
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.backend import choose_backend
from sabot_ray.offsets import open_kafka_group
from sabot_ray.types import OffsetAndMetadata, TopicPartition

servers, topic = sys.argv[1:]
try:
    choose_backend(backend="native")
except BackendUnavailable as error:
    assert "confluent" in str(error), error
else:
    raise AssertionError("the native backend needs confluent-kafka")
assert choose_backend() == "aiokafka"
owned = [TopicPartition(topic, 0)]
store = open_kafka_group(KafkaConfig(servers), "g-" + topic, "stream", owned)
assert store.acquire() == {}
store.commit({TopicPartition(topic, 0): OffsetAndMetadata(1, "")}, timeout_s=10)
store.close()
source = AiokafkaSource(servers, topic, "g-" + topic, schema={"n": "int64"}, end="latest")
assert source.poll(10, timeout_s=10).to_pylist() == [{"n": 1}, {"n": 2}]
source.close()
"""


def test_fallback_without_confluent_kafka_reads_and_commits(broker, topic, produce):
    produce(topic, map(number, range(3)), linger_ms=100)
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", _SCRIPT, broker.bootstrap_servers, topic],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # The one warning that says why.
    (warning,) = finished.stderr.splitlines()
    assert "aiokafka is used instead: confluent_kafka is blocked" in warning
    assert finished.returncode == 0
