"""``python -m bench``: run the contenders against each other; see `bench/README.md`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from bench import (
    chart,
    driver_cost,
    first_batch,
    latency,
    machine,
    memory,
    partitions,
    raw,
    report,
    throughput,
    writing,
)
from bench.data import DEFAULT_SEED
from bench.job import COMPRESSION, Job
from bench.report import ResultFile, Verdict
from bench.throughput import CONTENDERS, EXTRA
from bench.topic import Backlog, fill
from bench.writing import WRITERS
from tests.servers import COMPILE_FULLY, KafkaBroker, running_broker

#: The shapes, and how many times larger than a narrow one a record is.
_SHAPES = {"narrow": 1, "wide": 6, "nested": 3}
_COMPRESSIONS = ("none", "lz4", "zstd", "gzip", "snappy")
_USUAL = [name for name in CONTENDERS if name not in EXTRA]
_NOT_LATENCY = {"raw", "ray", "ray_dataset", "confluent"}
#: Which part of the records that are read is written; and of the slow contenders' records, which
#: have no start-up that a longer run would hide.
_WRITTEN_PART = 2
_SLOWLY_WRITTEN_PART = 4
#: A chain that writes is not compared over more partitions than these.
_MOST_FUSED = 16


@dataclass
class _Bench:
    """A run: what was asked for, where it runs, and what was found."""

    broker: KafkaBroker
    results: ResultFile
    console: Console
    say: Callable[[str], None]
    contenders: tuple[str, ...]
    writers: tuple[str, ...]
    shapes: tuple[str, ...]
    compressions: tuple[str, ...]
    rows: int
    slow_rows: int
    rounds: int
    batch_rows: int
    partitions: tuple[int, ...]
    rates: tuple[int, ...]
    latency_readers: tuple[str, ...]
    seconds: float
    seed: int
    verdicts: list[Verdict] = field(default_factory=list)

    def backlog(self, shape: str, compression: str, rows: int, count: int = 1) -> Backlog:
        """Return a topic with so many records of the size of narrow ones, or as many bytes."""
        return self._filled(shape, compression, rows // _SHAPES[shape], count)

    @functools.cached_property
    def _filled(self) -> Callable[[str, str, int, int], Backlog]:
        def write(shape: str, compression: str, rows: int, count: int) -> Backlog:
            self.say(f"writing {rows:,} {shape} records, {compression}, {count} partitions")
            return fill(self.broker, shape, compression, rows, self.seed, count)

        return functools.cache(write)

    def judge(self, *verdicts: Verdict) -> None:
        self.verdicts += verdicts
        for verdict in verdicts:
            self.results.add("verdict", verdict)


def _throughput(bench: _Bench) -> None:
    if "raw" in bench.contenders:
        raw.build()
    found = []
    for shape in bench.shapes:
        for compression in bench.compressions:
            long = bench.backlog(shape, compression, bench.rows)
            short = bench.backlog(shape, compression, bench.slow_rows)
            for one in throughput.compete(
                bench.broker,
                (long, short),
                bench.contenders,
                bench.rounds,
                bench.batch_rows,
                bench.say,
            ):
                found.append(one)
                bench.results.add("throughput", one)
    report.show_throughput(bench.console, found)
    bench.judge(*report.judge_contenders(found, report.BARS))


def _first_batch(bench: _Bench) -> None:
    backlog = bench.backlog(bench.shapes[0], bench.compressions[0], bench.slow_rows)
    job = Job(
        bench.broker.bootstrap_servers, backlog.name, backlog.shape, backlog.rows, bench.batch_rows
    )
    bench.say("timing the first batch")
    times = first_batch.times(job, bench.rounds)
    bench.results.add("first_batch", {"shape": backlog.shape, "seconds": times})
    bench.judge(report.judge_first_batch(f"{backlog.shape}, {backlog.compression}", times))


def _partitions(bench: _Bench) -> None:
    backlogs = [
        bench.backlog("narrow", bench.compressions[0], bench.rows, count)
        for count in bench.partitions
    ]
    bench.say(f"reading over {', '.join(map(str, bench.partitions))} partitions")
    runs = partitions.measure(bench.broker, backlogs, bench.rounds)
    for run in runs:
        bench.results.add("partitions", run)
    report.show_partitions(bench.console, runs)
    bench.judge(*report.judge_partitions(runs))


def _writing(bench: _Bench) -> None:
    if writing.RAW.keys() & set(bench.writers):
        raw.build()
    found = []
    for shape in bench.shapes:
        long = bench.backlog(shape, COMPRESSION, bench.rows // _WRITTEN_PART)
        short = bench.backlog(shape, COMPRESSION, bench.slow_rows // _SLOWLY_WRITTEN_PART)
        for one in writing.compete(
            bench.broker,
            (long, short),
            bench.writers,
            bench.rounds,
            bench.batch_rows,
            bench.say,
        ):
            found.append(one)
            bench.results.add("writing", one)
    report.show_writing(bench.console, found)
    bench.judge(*report.judge_contenders(found, report.WRITING_BARS))


def _fused(bench: _Bench) -> None:
    counts = [count for count in bench.partitions if count <= _MOST_FUSED]
    backlogs = [bench.backlog("narrow", COMPRESSION, bench.rows, count) for count in counts]
    found = []
    for one in writing.fuse(bench.broker, backlogs, bench.rounds, bench.batch_rows, bench.say):
        found.append(one)
        bench.results.add("fused", one)
    report.show_writing(bench.console, found)
    bench.judge(*report.judge_fused(found))


def _memory(bench: _Bench) -> None:
    figures = []
    for shape in bench.shapes:
        for compression in bench.compressions:
            for backend in ("native", "aiokafka"):
                backlog = bench.backlog(shape, compression, bench.slow_rows)
                bench.say(f"{backlog}: memory of a {backend} reader")
                figures.append(memory.measure(bench.broker, backlog, backend, bench.seconds))
                bench.results.add("memory", figures[-1])
    report.show_memory(bench.console, figures)
    bench.judge(*report.judge_memory(figures))


def _latency(bench: _Bench) -> None:
    figures = []
    for rate in bench.rates:
        bench.say(f"timing {rate} records/s")
        for figure in latency.compare(
            bench.broker, bench.latency_readers, rate, bench.seconds, bench.rounds
        ):
            figures.append(figure)
            bench.results.add("latency", figure)
    report.show_latency(bench.console, figures)
    bench.judge(*report.judge_latency(figures))


def _driver(bench: _Bench) -> None:
    backlog = bench.backlog("narrow", bench.compressions[0], bench.slow_rows)
    bench.say("what a batch costs the driver")
    costs = driver_cost.measure(bench.broker, backlog, bench.rounds)
    for cost in costs:
        bench.results.add("driver", cost)
    report.show_driver_cost(bench.console, costs)


_SUITES = {
    "throughput": _throughput,
    "first-batch": _first_batch,
    "latency": _latency,
    "partitions": _partitions,
    "memory": _memory,
    "driver": _driver,
    "writing": _writing,
    "fused": _fused,
}


def _split(*known: str) -> click.types.FuncParamType:
    def split(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := set(names) - set(known):
            raise ValueError(f"{', '.join(unknown)}: known are {', '.join(known)}")
        return names

    split.__name__ = "names"
    return click.types.FuncParamType(split)


@click.command(context_settings={"show_default": True})
@click.option("--quick", is_flag=True, help="A small run that shows that everything works.")
@click.option("--full", is_flag=True, help="All shapes, and every reader's latency: takes hours.")
@click.option("--suites", type=_split(*_SUITES), default=",".join(_SUITES))
@click.option("--contenders", type=_split(*CONTENDERS), default=",".join(_USUAL))
@click.option("--writers", type=_split(*WRITERS), default=",".join(WRITERS))
@click.option("--shapes", type=_split(*_SHAPES), default="narrow")
@click.option("--compressions", type=_split(*_COMPRESSIONS), default="none,lz4")
@click.option(
    "--rows",
    type=int,
    default=6_000_000,
    help="Narrow records of the backlog; of the larger ones as many bytes.",
)
@click.option(
    "--slow-rows", type=int, default=2_000_000, help="The same, of those that decode in Python."
)
@click.option("--rounds", type=int, default=5, help="Timed rounds; one more warms up and checks.")
@click.option("--batch-rows", type=int, default=50_000, help="Most rows in a batch.")
@click.option("--partitions", type=int, multiple=True, default=(1, 4, 16, 64), help="How many.")
@click.option(
    "--rate", "rates", type=int, multiple=True, default=(1000, 5000), help="Records per second."
)
@click.option("--seconds", type=float, default=10.0, help="Length of a latency or memory round.")
@click.option("--seed", type=int, default=DEFAULT_SEED)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Result file [build/bench/DATE.jsonl]"
)
def main(
    quick: bool,
    full: bool,
    suites: tuple[str, ...],
    contenders: tuple[str, ...],
    writers: tuple[str, ...],
    shapes: tuple[str, ...],
    compressions: tuple[str, ...],
    rows: int,
    slow_rows: int,
    rounds: int,
    batch_rows: int,
    partitions: tuple[int, ...],
    rates: tuple[int, ...],
    seconds: float,
    seed: int,
    output: Path | None,
) -> None:
    """Measure sabot_ray against raw librdkafka, ray.data, confluent-kafka and aiokafka."""
    if full:
        shapes = tuple(_SHAPES)
    if quick:
        rows, slow_rows, rounds, seconds = 200_000, 100_000, 1, 2.0
        compressions = compressions[:1]
    latency_readers = tuple(name for name in contenders if name not in _NOT_LATENCY)
    if "sabot_ray" in latency_readers and not full:
        latency_readers = ("sabot_ray",)
    if output is None:
        output = Path("build/bench") / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.jsonl"
    console = Console(width=max(100, Console().width))
    facts = machine.facts()
    console.print(f"seed {seed}, commit {facts['commit']}, {facts['cores']} x {facts['cpu']}")
    results = ResultFile(output, {**facts, "seed": seed})
    with (
        running_broker(java_options=COMPILE_FULLY) as broker,
        console.status("starting") as status,
    ):
        bench = _Bench(
            broker,
            results,
            console,
            status.update,
            contenders,
            writers,
            shapes,
            compressions,
            rows,
            slow_rows,
            rounds,
            batch_rows,
            partitions,
            rates,
            latency_readers,
            seconds,
            seed,
        )
        for name in suites:
            _SUITES[name](bench)
    if bench.verdicts:
        report.show_verdicts(console, bench.verdicts)
        picture = output.with_suffix(".png")
        if chart.draw(bench.verdicts, chart.describe(facts), picture):
            console.print(f"chart: {picture}")
    console.print(f"figures: {output}")


if __name__ == "__main__":
    main(prog_name="python -m bench")
