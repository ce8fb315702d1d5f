"""What the fault tests share."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.conftest import MakeTopic
from tests.faults.processes import Drivers
from tests.servers import KafkaBroker


@pytest.fixture
def seed() -> int:
    """The seed of the test's random numbers; printed, and shown where the test fails."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return seed


@pytest.fixture
def drivers(
    broker: KafkaBroker, make_topic: MakeTopic, ray_session: None, tmp_path: Path
) -> Iterator[Drivers]:
    """Starts drivers on the tests' Ray: a topic of two partitions, and a group of the same name."""
    address = ray.get_runtime_context().gcs_address
    topic = make_topic(partitions=2)
    with Drivers(
        tmp_path,
        address,
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        group=topic,
    ) as drivers:
        yield drivers
