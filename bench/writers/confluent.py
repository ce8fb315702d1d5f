"""confluent-kafka and orjson by hand: what one writes without a library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import confluent_kafka
import orjson

from bench.job import WriteJob
from bench.writers.in_memory import read_all


@contextmanager
def prepare(job: WriteJob) -> Iterator[Callable[[], None]]:
    """Write batches in memory with `Producer.produce`; every delivery is checked."""
    batches = read_all(job)
    failed: list[str] = []

    def note(error: confluent_kafka.KafkaError | None, _: object) -> None:
        if error is not None:
            failed.append(error.str())

    settings = {**job.producer_settings(), "delivery.report.only.error": True, "on_delivery": note}
    producer = confluent_kafka.Producer(settings)

    def write() -> None:
        for batch in batches:
            for row in batch.to_pylist():
                value = orjson.dumps(row)
                while True:
                    try:
                        producer.produce(job.target, value)
                        break
                    except BufferError:
                        producer.poll(0.05)
            producer.poll(0)
        if producer.flush(60) or failed:
            raise RuntimeError(f"not all records were written: {failed[:3]}")

    yield write
