"""What the fault tests share."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
import ray
from rich.console import Console
from rich.table import Table

from tests.conftest import MakeTopic
from tests.faults.processes import Drivers
from tests.servers import KafkaBroker


class Report(Protocol):
    """Keeps what a storm did, for the table at the end."""

    def __call__(
        self, what: str, records: int, lost: int, doubled: int, stall_s: float, seed: int
    ) -> None: ...


_STORMS = pytest.StashKey[list[tuple[str, ...]]]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Says what a storm did: at once, and in the table at the end."""
    storms = request.config.stash.setdefault(_STORMS, [])

    def note(what: str, records: int, lost: int, doubled: int, stall_s: float, seed: int) -> None:
        storms.append(
            (what, f"{records:,}", f"{lost:,}", f"{doubled:,}", f"{stall_s:.1f} s", str(seed))
        )
        print(*storms[-1])

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the storms."""
    storms = config.stash.get(_STORMS, [])
    if not storms:
        return
    table = Table("storm", *("records", "lost", "doubled", "longest stall", "seed"))
    for row in storms:
        table.add_row(*row)
    terminalreporter.write_sep("=", "storms")
    Console(file=terminalreporter._tw._file, width=110).print(table)


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
