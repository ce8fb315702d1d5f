"""``python -m bench``: run the contenders against each other; see `bench/README.md`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from bench import first_batch, latency, machine, raw, report, throughput
from bench.data import DEFAULT_SEED
from bench.job import Job
from bench.throughput import CONTENDERS, Round
from bench.topic import fill
from tests.servers import running_broker

_SHAPES = ("narrow", "wide", "nested")
_COMPRESSIONS = ("none", "lz4", "zstd", "gzip", "snappy")
_SUITES = ("throughput", "first-batch", "latency")
_NOT_LATENCY = {"raw", "ray", "ray_dataset", "confluent"}


def _split(known: tuple[str, ...]) -> click.types.FuncParamType:
    def split(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := set(names) - set(known):
            raise ValueError(f"{', '.join(unknown)}: known are {', '.join(known)}")
        return names

    split.__name__ = "names"
    return click.types.FuncParamType(split)


@click.command(context_settings={"show_default": True})
@click.option("--quick", is_flag=True, help="A small run that shows that everything works.")
@click.option("--suites", type=_split(_SUITES), default=",".join(_SUITES))
@click.option("--contenders", type=_split(tuple(CONTENDERS)), default=",".join(CONTENDERS))
@click.option("--shapes", type=_split(_SHAPES), default="narrow")
@click.option("--compressions", type=_split(_COMPRESSIONS), default="none,lz4")
@click.option("--rows", type=int, default=2_000_000, help="Records of the backlog.")
@click.option("--rounds", type=int, default=5, help="Timed rounds; one more warms up and checks.")
@click.option("--batch-rows", type=int, default=50_000, help="Most rows in a batch.")
@click.option(
    "--rate", "rates", type=int, multiple=True, default=(1000,), help="Records per second."
)
@click.option("--seconds", type=float, default=10.0, help="Length of a latency round.")
@click.option("--seed", type=int, default=DEFAULT_SEED)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Result file [build/bench/DATE.jsonl]"
)
def main(
    quick: bool,
    suites: tuple[str, ...],
    contenders: tuple[str, ...],
    shapes: tuple[str, ...],
    compressions: tuple[str, ...],
    rows: int,
    rounds: int,
    batch_rows: int,
    rates: tuple[int, ...],
    seconds: float,
    seed: int,
    output: Path | None,
) -> None:
    """Measure sabot_ray against raw librdkafka, ray.data, confluent-kafka and aiokafka."""
    if quick:
        rows, rounds, seconds, compressions = 100_000, 1, 2.0, compressions[:1]
    if output is None:
        output = Path("build/bench") / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.jsonl"
    console = Console(width=max(100, Console().width))
    facts = machine.facts()
    console.print(f"seed {seed}, commit {facts['commit']}, {facts['cores']} x {facts['cpu']}")
    results = report.ResultFile(output, {**facts, "seed": seed})
    found: list[Round] = []
    if "raw" in contenders and "throughput" in suites:
        raw.build()
    with running_broker() as broker, console.status("starting") as status:
        backlog = None
        if "throughput" in suites or "first-batch" in suites:
            for shape in shapes:
                for compression in compressions:
                    status.update(f"writing {rows:,} {shape} records, {compression}")
                    backlog = fill(broker, shape, compression, rows, seed)
                    if "throughput" in suites:
                        for one in throughput.compete(
                            broker, backlog, contenders, rounds, batch_rows, status.update
                        ):
                            found.append(one)
                            results.add("throughput", one)
        times: list[float] = []
        if "first-batch" in suites and backlog is not None:
            status.update("timing the first batch")
            job = Job(broker.bootstrap_servers, backlog.name, backlog.shape, rows, batch_rows)
            times = first_batch.times(job, rounds)
            results.add("first_batch", {"shape": backlog.shape, "seconds": times})
        latencies: list[latency.Latency] = []
        if "latency" in suites:
            readers = [name for name in contenders if name not in _NOT_LATENCY]
            for rate in rates:
                status.update(f"timing {rate} records/s")
                for figure in latency.compare(broker, readers, rate, seconds, rounds):
                    latencies.append(figure)
                    results.add("latency", figure)
    if found:
        report.show_throughput(console, found)
    if times:
        report.show_first_batch(console, times)
    if latencies:
        report.show_latency(console, latencies)
    console.print(f"figures: {output}")


if __name__ == "__main__":
    main(prog_name="python -m bench")
