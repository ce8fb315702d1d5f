"""What a contender is asked to do, and what it answers; both travel as JSON between processes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from bench.data import SHAPES, Shape
from sabot_ray.kafka.config import KafkaConfig

#: Limit of what a client fetches ahead, for all; larger queues are slower, they leave the cache.
PREFETCH_BYTES = 64 << 20
#: What all producers compress with.
COMPRESSION = "lz4"


@dataclass(frozen=True)
class Job:
    """Read partition 0 of a topic from its beginning.

    Attributes:
        bootstrap_servers: The broker.
        topic: The topic.
        shape: Name of the records' shape.
        rows: How many records to read; None reads what is being written, and never ends.
        batch_rows: Most rows in a batch.
        check: Whether to check the rows; such a round is not timed.
    """

    bootstrap_servers: str
    topic: str
    shape: str
    rows: int | None
    batch_rows: int
    check: bool = False

    @property
    def records(self) -> Shape:
        """The records' shape."""
        return SHAPES[self.shape]

    @property
    def config(self) -> KafkaConfig:
        """How to reach the broker: sabot_ray's own settings, for every contender."""
        return KafkaConfig(self.bootstrap_servers)

    def librdkafka_settings(self) -> dict[str, str]:
        """Return the settings of a bare librdkafka client, prefetch limit included."""
        return {
            **self.config.librdkafka_settings(),
            "group.id": "bench",
            "queued.max.messages.kbytes": str(PREFETCH_BYTES >> 10),
            "queued.min.messages": "1000000",
        }

    def to_json(self) -> str:
        """Return the job as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class WriteJob(Job):
    """Write the records of a topic to another one.

    Attributes:
        target: Where to: an empty topic with as many partitions.
    """

    target: str = ""

    def producer_settings(self) -> dict[str, str]:
        """Return the settings of a bare librdkafka producer: those of sabot_ray's sink."""
        return {
            **self.config.librdkafka_settings("producer"),
            "compression.type": COMPRESSION,
        }


@dataclass(frozen=True)
class Outcome:
    """What a contender did. Times are in seconds.

    Attributes:
        rows: Rows of all batches.
        batches: Number of batches.
        steady_rows: Rows that came after the first batch; all of them where there is only one, or
            where a contender has no steady state, which is then counted from opening on.
        first_batch_s: From opening the client to the first batch.
        steady_s: From the first batch to the last, wall time.
        steady_cpu_s: User and system time of the driver and the readers, over the same.
        driver_cpu_s: The driver's part of it; None of a contender that has no other process.
        cpu_s: The same, from opening the client on.
        ray_cpu_s: Of Ray's own processes (raylet, GCS), over the steady state; not in the others.
        value_bytes: Bytes of the record values; None from a contender that does not see them.
        digest: `bench.data.Digest.result`, if the job asks for a check and there are batches.
    """

    rows: int
    batches: int
    steady_rows: int
    first_batch_s: float
    steady_s: float
    steady_cpu_s: float
    cpu_s: float
    ray_cpu_s: float = 0.0
    driver_cpu_s: float | None = None
    value_bytes: int | None = None
    digest: dict[str, int | str] = field(default_factory=dict)

    @property
    def rows_per_s(self) -> float:
        """Rows per second of wall time, in the steady state."""
        return self.steady_rows / self.steady_s

    @property
    def rows_per_cpu_s(self) -> float:
        """Rows per CPU second of the consuming processes, in the steady state."""
        return self.steady_rows / self.steady_cpu_s

    @property
    def cores_busy(self) -> float:
        """CPU seconds of the consuming processes per second of wall time."""
        return self.steady_cpu_s / self.steady_s

    def to_json(self) -> str:
        """Return the outcome as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class WriteOutcome:
    """What a contender that writes did, from the first record on until all were acknowledged.

    Attributes:
        rows: Records that it read, or had in memory.
        wall_s: Wall time, in seconds.
        cpu_s: User and system time of the driver and the readers.
        driver_cpu_s: The driver's part of it; None of a contender that has no other process.
        ray_cpu_s: Of Ray's own processes (raylet, GCS); not in the others.
    """

    rows: int
    wall_s: float
    cpu_s: float
    driver_cpu_s: float | None = None
    ray_cpu_s: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """Rows per second of wall time."""
        return self.rows / self.wall_s

    @property
    def rows_per_cpu_s(self) -> float:
        """Rows per CPU second."""
        return self.rows / self.cpu_s

    @property
    def cores_busy(self) -> float:
        """CPU seconds per second of wall time."""
        return self.cpu_s / self.wall_s

    def to_json(self) -> str:
        """Return the outcome as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WriteOutcome:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))
