"""Ctrl-C and SIGTERM at a driver, each in a process of its own: what is kept and how it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.conftest import MakeTopic
from tests.faults.ledger import Ledger, fill
from tests.faults.processes import Driver, Drivers
from tests.servers import KafkaBroker

RECORDS = 2000


@pytest.fixture
def drivers(
    broker: KafkaBroker, make_topic: MakeTopic, ray_session: None, tmp_path: Path
) -> Iterator[Drivers]:
    """Starts drivers on the tests' Ray; they read `RECORDS` in batches of ten."""
    topic = make_topic()
    fill(broker.bootstrap_servers, topic, 1, RECORDS)
    with Drivers(
        tmp_path,
        ray.get_runtime_context().gcs_address,
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        group=topic,
        # Nothing is committed but at the end.
        stream={"batch_size": 10, "end": "latest", "auto_commit_interval_ms": 600_000},
    ) as drivers:
        yield drivers


def assert_resumed_without_a_double(drivers: Drivers, stopped: Driver) -> None:
    resumed = drivers.start()
    resumed.await_note("finished")
    ledger = Ledger()
    stopped.add_to(ledger)
    resumed.add_to(ledger)
    ledger.assert_whole([RECORDS])


@pytest.mark.parametrize(
    ("number", "error", "exit_code"),
    [
        (signal.SIGTERM, "SystemExit", 143),
        # Ray's own excepthook makes a 1 of it.
        (signal.SIGINT, "KeyboardInterrupt", 1),
    ],
    ids=["SIGTERM", "SIGINT"],
)
def test_signalled_driver_finishes_its_body_and_commits_it(
    drivers: Drivers, number: signal.Signals, error: str, exit_code: int
) -> None:
    driver = drivers.start(body_s=0.3)
    driver.await_note("body", 3)
    driver.send(number)

    assert driver.wait() == exit_code
    assert driver.noted("interrupted")[0]["error"] == error
    assert driver.noted("ended")[0]["handlers_restored"]
    # The third body was begun when the signal came, and no fourth.
    assert (len(driver.noted("body")), len(driver.batches)) == (3, 3)
    assert_resumed_without_a_double(drivers, driver)


def test_signalled_driver_interrupts_a_long_body_and_leaves_its_batch(drivers: Drivers) -> None:
    driver = drivers.start(long_body_at=2)
    begun = driver.await_note("body", 3)
    driver.send(signal.SIGTERM)

    assert driver.wait() == 143
    took = driver.noted("interrupted")[0]["at"] - begun["at"]
    assert 2.4 < took < 5.0
    assert driver.noted("ended")[0]["handlers_restored"]
    assert (len(driver.noted("body")), len(driver.batches)) == (3, 2)
    assert_resumed_without_a_double(drivers, driver)


def test_second_signal_ends_the_driver_at_once(drivers: Drivers) -> None:
    driver = drivers.start(long_body_at=2)
    begun = driver.await_note("body", 3)
    driver.send(signal.SIGTERM)
    driver.send(signal.SIGINT)

    # Two signals that wait at the same time are handled in the order of their numbers.
    assert driver.wait() in (143, 1)
    assert driver.noted("interrupted")[0]["at"] - begun["at"] < 2.4
    assert driver.noted("ended")[0]["handlers_restored"]
    assert_resumed_without_a_double(drivers, driver)


def test_handlers_are_restored_after_a_run_that_ends_by_itself(drivers: Drivers) -> None:
    driver = drivers.start()

    driver.await_note("finished")

    assert driver.await_note("ended")["handlers_restored"]
    assert driver.wait() == 0
