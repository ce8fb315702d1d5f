"""References that nobody acknowledges: how much memory they can take."""

from __future__ import annotations

import threading

import pytest

from sabot_ray import BatchRef, Stream
from sabot_ray.kafka.source import Backend
from tests.conftest import MakeTopic
from tests.faults.ledger import SCHEMA, Ledger, fill
from tests.servers import KafkaBroker, wait_until

BUDGET = 2 << 20
RECORDS = 200_000


@pytest.mark.timeout(120)
def test_references_without_acknowledgement_stop_reading_until_it_comes(
    broker: KafkaBroker,
    make_topic: MakeTopic,
    ray_session: None,
    backend: Backend,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = make_topic(partitions=2)
    fill(broker.bootstrap_servers, topic, 2, RECORDS)
    stream = Stream.from_kafka(
        broker.bootstrap_servers,
        topic,
        backend=backend,
        schema=SCHEMA,
        end="latest",
        batch_size=2000,
        max_in_flight_bytes=BUDGET,
    )
    held: list[BatchRef] = []
    taken: list[BatchRef] = []
    releases = threading.Event()

    def is_held_up() -> bool:
        return "reading waits until ack() is called" in caplog.text

    with stream.start() as run:

        def take() -> None:
            for reference in run.refs():
                taken.append(reference)
                if not releases.is_set():
                    held.append(reference)
                    continue
                # A run belongs to one thread, and so do its acknowledgements.
                for waiting in (*held, reference):
                    waiting.ack()
                held.clear()

        def release() -> None:
            wait_until(is_held_up, 60.0)
            count = len(taken)
            try:
                with pytest.raises(TimeoutError):
                    wait_until(lambda: len(taken) > count, 2.0)
            finally:
                run_is_full.append(sum(reference.bytes for reference in held))
                releases.set()
                held[0].ack()

        run_is_full: list[int] = []
        other = threading.Thread(target=release)
        other.start()
        take()
        other.join()

    print(f"held {run_is_full[0] / 2**20:.2f} MiB of {BUDGET / 2**20:.0f} MiB")
    assert BUDGET / 2 < run_is_full[0] <= BUDGET
    assert caplog.text.count("reading waits until ack() is called") == 1
    ledger = Ledger()
    for reference in taken:
        ledger.note(reference.get())
    ledger.assert_whole([RECORDS // 2] * 2)
