"""Contenders that write against each other: alternating rounds, a process and a topic each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from bench import own_process, raw
from bench.data import SHAPES
from bench.job import COMPRESSION, WriteJob, WriteOutcome
from bench.read_back import digest_of
from bench.throughput import TIMEOUT_S, Round, in_turn
from bench.topic import Backlog
from bench.writers.fused import PREDICATE
from tests.servers import KafkaBroker

#: Name of a contender -> its module in `bench.writers`. The raw ones are a C++ program.
WRITERS = {
    "raw": None,
    "raw_copy": None,
    "sink": "sink",
    "to_kafka": "to_kafka",
    "exactly_once": "exactly_once",
    "aiokafka_sink": "aiokafka_sink",
    "confluent": "confluent",
    "ray": "ray_data",
    "ray_dataset": "ray_dataset",
    "ray_copy": "ray_copy",
}
#: Where the values of the raw ones are.
RAW: dict[str, Literal["memory", "copy"]] = {"raw": "memory", "raw_copy": "copy"}
#: Those that encode in Python write fewer records: their rates show as well in it.
SLOW = frozenset({"aiokafka_sink", "confluent", "ray", "ray_dataset", "ray_copy"})
#: Those that write with several tasks at once, and so in no order.
_UNORDERED = frozenset({"ray_dataset", "ray_copy"})
#: The chain of suite `fused`.
FUSED = "fused"


@dataclass(frozen=True)
class WriteRound(Round[WriteOutcome]):
    """What one contender that writes did in one round.

    Attributes:
        partitions: How many its topics have.
    """

    partitions: int = 1


@dataclass(frozen=True)
class _Course:
    """Who writes what."""

    contender: str
    backlog: Backlog

    def __str__(self) -> str:
        return f"{self.contender}, {self.backlog}"


def compete(
    broker: KafkaBroker,
    backlogs: tuple[Backlog, Backlog],
    contenders: Sequence[str],
    rounds: int,
    batch_rows: int,
    say: Callable[[str], None],
) -> Iterator[WriteRound]:
    """Let the contenders write the records of a backlog, in turn, round after round.

    The first round checks what they wrote, and is not timed.

    Args:
        broker: Where the backlogs are, and the targets.
        backlogs: Of the fast contenders, and of the `SLOW` ones; otherwise the same.
        contenders: Who takes part.
        rounds: How many rounds are timed.
        batch_rows: Most rows in a batch.
        say: Is told what happens.
    """
    long, short = backlogs
    courses = [_Course(name, short if name in SLOW else long) for name in contenders]
    return _run(broker, courses, rounds, batch_rows, say)


def fuse(
    broker: KafkaBroker,
    backlogs: Sequence[Backlog],
    rounds: int,
    batch_rows: int,
    say: Callable[[str], None],
) -> Iterator[WriteRound]:
    """Let `to_kafka` behind a filter write each backlog, in turn, round after round."""
    courses = [_Course(FUSED, backlog) for backlog in backlogs]
    return _run(broker, courses, rounds, batch_rows, say)


def _run(
    broker: KafkaBroker,
    courses: Sequence[_Course],
    rounds: int,
    batch_rows: int,
    say: Callable[[str], None],
) -> Iterator[WriteRound]:
    def run(course: _Course, number: int) -> WriteOutcome:
        with _target(broker, course, number) as target:
            return _write(broker, course, target, batch_rows)

    for course in courses:
        say(f"checking {course}")
        with _target(broker, course, 0) as target:
            _write(broker, course, target, batch_rows)
            _check(broker, course, target)
    for number, course, outcome, used in in_turn(broker, courses, rounds, run, say):
        shape, partitions = course.backlog.shape, course.backlog.partitions
        yield WriteRound(
            course.contender, shape, COMPRESSION, number, outcome, used, partitions=partitions
        )


@contextmanager
def _target(broker: KafkaBroker, course: _Course, number: int) -> Iterator[str]:
    """Make an empty topic for what is written, and delete it after."""
    name = f"{course.backlog.name}-{course.contender}-{number}"
    # The disk is wanted back before the next ones are written.
    broker.create_topic(name, course.backlog.partitions, file_delete_delay_ms=1000)
    try:
        yield name
    finally:
        broker.delete_topic(name)


def _write(broker: KafkaBroker, course: _Course, target: str, batch_rows: int) -> WriteOutcome:
    """Run a contender in a process of its own.

    Raises:
        RuntimeError: It failed; the message holds what it printed.
    """
    name, backlog = course.contender, course.backlog
    job = WriteJob(
        broker.bootstrap_servers,
        backlog.name,
        backlog.shape,
        backlog.rows,
        batch_rows,
        target=target,
    )
    if name in RAW:
        command = raw.writer_command(job, RAW[name])
    else:
        command = own_process.module("bench.writer", FUSED if name == FUSED else WRITERS[name])
    lines = own_process.run(f"contender '{name}'", command, job.to_json(), TIMEOUT_S)
    return WriteOutcome.from_json(lines[-1])


def _check(broker: KafkaBroker, course: _Course, target: str) -> None:
    """Compare what a contender wrote with what it should have.

    Raises:
        RuntimeError: It differs.
    """
    backlog, shape = course.backlog, SHAPES[course.backlog.shape]
    servers = broker.bootstrap_servers
    expected = backlog.digest
    if course.contender == FUSED:
        expected = digest_of(servers, backlog.name, shape, keep=PREDICATE)
    # Several partitions, or tasks, give no order.
    is_sorted = course.contender in _UNORDERED or backlog.partitions > 1
    found = digest_of(servers, target, shape, is_sorted=is_sorted)
    if found != expected:
        raise RuntimeError(f"contender '{course.contender}' wrote {found} instead of {expected}")
