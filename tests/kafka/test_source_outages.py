"""What a client says of brokers that are out of reach, where its sources only look idle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sabot_ray.kafka.backend import connect_source_client
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.source import Backend
from tests.kafka.reading import numbers_spec
from tests.servers import KafkaBroker, running_broker, wait_until


@pytest.fixture
def own_broker(broker: KafkaBroker) -> Iterator[KafkaBroker]:
    # Depends on the shared one for its skip where servers are missing.
    with running_broker() as own:
        own.create_topic("numbers")
        yield own


def test_cut_off_s_counts_while_the_broker_is_dead_or_frozen(
    own_broker: KafkaBroker, backend: Backend
) -> None:
    client = connect_source_client(backend, KafkaConfig(own_broker.bootstrap_servers), 1 << 20)
    source = client.open_source(numbers_spec(own_broker, "numbers"), 0, 0)

    def is_in_reach() -> bool:
        assert source.poll(10, timeout_s=0.1).num_rows == 0
        return client.cut_off_s() == 0

    try:
        own_broker.kill()
        wait_until(lambda: client.cut_off_s() > 2.0, 10.0)
        own_broker.start()
        wait_until(is_in_reach, 10.0)

        own_broker.freeze()
        wait_until(lambda: client.cut_off_s() > 2.0, 10.0)
        own_broker.thaw()
        wait_until(is_in_reach, 15.0)
    finally:
        own_broker.thaw()
        client.close()
