"""Contenders against each other: alternating rounds, a process each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from bench import own_process, raw
from bench.cpu import process_cpu_s
from bench.job import Job, Outcome
from bench.topic import Backlog
from tests.servers import KafkaBroker

#: Name of a contender -> its module in `bench.contenders`. The raw one is a C++ program.
CONTENDERS = {
    "raw": None,
    "native": "native",
    "native_threads": "native_threads",
    "sabot_ray": "sabot_ray",
    "aiokafka": "aiokafka",
    "confluent": "confluent",
    "ray": "ray_data",
    "ray_dataset": "ray_dataset",
}

#: Those that decode in Python read a shorter backlog: their rates show as well in it, and the rest
#: of the run would be waiting for them.
SLOW = frozenset({"aiokafka", "confluent", "ray", "ray_dataset"})
#: Those that only run when they are asked for.
EXTRA = frozenset({"native_threads"})

#: Longest time for one contender in one round, in seconds.
TIMEOUT_S = 900

ContenderT = TypeVar("ContenderT")
OutcomeT = TypeVar("OutcomeT")


@dataclass(frozen=True)
class Round(Generic[OutcomeT]):
    """What one contender did in one round.

    Attributes:
        contender: Its name.
        shape: The records' shape.
        compression: Their compression.
        number: The round, from 1.
        outcome: What it did.
        broker_cpu_s: What the broker used meanwhile, the contender's start-up included.
    """

    contender: str
    shape: str
    compression: str
    number: int
    outcome: OutcomeT
    broker_cpu_s: float


def run_contender(contender: str, job: Job) -> Outcome:
    """Run a contender in a process of its own.

    Raises:
        RuntimeError: It failed; the message holds what it printed.
    """
    module = CONTENDERS[contender]
    command = raw.command(job) if module is None else own_process.module("bench.contender", module)
    lines = own_process.run(f"contender '{contender}'", command, job.to_json(), TIMEOUT_S)
    return Outcome.from_json(lines[-1])


def check(contender: str, outcome: Outcome, backlog: Backlog) -> None:
    """Compare what a contender read with what was written.

    Raises:
        RuntimeError: It differs.
    """
    wrong = []
    if outcome.rows != backlog.rows:
        wrong.append(f"{outcome.rows} rows instead of {backlog.rows}")
    if outcome.value_bytes not in (None, backlog.value_bytes):
        wrong.append(f"{outcome.value_bytes} bytes instead of {backlog.value_bytes}")
    if outcome.value_bytes is None and outcome.digest != backlog.digest:
        wrong.append(f"{outcome.digest} instead of {backlog.digest}")
    if wrong:
        raise RuntimeError(f"contender '{contender}' read {'; '.join(wrong)}")


def compete(
    broker: KafkaBroker,
    backlogs: tuple[Backlog, Backlog],
    contenders: Sequence[str],
    rounds: int,
    batch_rows: int,
    say: Callable[[str], None],
) -> Iterator[Round[Outcome]]:
    """Let the contenders read a backlog, in turn, round after round.

    The first round checks what they read, warms the page cache, and is not timed.

    Args:
        broker: Where the backlogs are.
        backlogs: Of the fast contenders, and of the `SLOW` ones; otherwise the same.
        contenders: Who takes part.
        rounds: How many rounds are timed.
        batch_rows: Most rows in a batch.
        say: Is told what happens.
    """
    long, short = backlogs
    read = {name: short if name in SLOW else long for name in contenders}
    jobs = {
        name: Job(broker.bootstrap_servers, mine.name, mine.shape, mine.rows, batch_rows)
        for name, mine in read.items()
    }
    what = f"{long.shape}, {long.compression}"
    for contender in contenders:
        say(f"{what}: checking {contender}")
        outcome = run_contender(contender, replace(jobs[contender], check=True))
        check(contender, outcome, read[contender])
    turns = in_turn(
        broker,
        contenders,
        rounds,
        lambda contender, _: run_contender(contender, jobs[contender]),
        lambda text: say(f"{what}: {text}"),
    )
    for number, contender, outcome, used in turns:
        yield Round(contender, long.shape, long.compression, number, outcome, used)


def in_turn(
    broker: KafkaBroker,
    contenders: Sequence[ContenderT],
    rounds: int,
    run: Callable[[ContenderT, int], OutcomeT],
    say: Callable[[str], None],
) -> Iterator[tuple[int, ContenderT, OutcomeT, float]]:
    """Run contenders in turn, round after round.

    Args:
        broker: Whose CPU time is looked at.
        contenders: Who takes part.
        rounds: How many rounds there are.
        run: Runs a contender, in the round with this number, from 1.
        say: Is told what happens.

    Yields:
        The round; the contender; what it did; and the broker's CPU seconds meanwhile.
    """
    for number in range(1, rounds + 1):
        for contender in contenders:
            say(f"round {number} of {rounds}, {contender}")
            assert broker.pid is not None
            before = process_cpu_s(broker.pid)
            outcome = run(contender, number)
            yield number, contender, outcome, process_cpu_s(broker.pid) - before
