"""Result files (JSON lines), the verdicts on the bars, and the tables that are made of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.table import Table

from bench.driver_cost import DriverCost
from bench.job import Outcome, WriteOutcome
from bench.latency import BARE, Latency
from bench.memory import ReaderMemory
from bench.partitions import PartitionsRun
from bench.throughput import Round
from bench.writing import WriteRound

RoundT = TypeVar("RoundT", bound=Round[Any])


@dataclass(frozen=True)
class Verdict:
    """A figure against its bar.

    Attributes:
        what: What was measured.
        case: On what.
        found: The figure.
        bar: What it must reach.
        aim: What is wanted.
        unit: Of all three; empty for a ratio.
        at_least: Whether more is better.
    """

    what: str
    case: str
    found: float
    bar: float
    aim: float
    unit: str = ""
    at_least: bool = True

    @property
    def is_reached(self) -> bool:
        """Whether the bar is reached."""
        return self.found >= self.bar if self.at_least else self.found <= self.bar

    @property
    def is_aimed(self) -> bool:
        """Whether the aim is reached."""
        return self.found >= self.aim if self.at_least else self.found <= self.aim

    def text(self, value: float) -> str:
        """Format a value like this one."""
        return f"{value:.3g}{f' {self.unit}' if self.unit else ''}"

    @property
    def bar_text(self) -> str:
        """What the bar asks for."""
        return f"{'>=' if self.at_least else '<='} {self.text(self.bar)}"


@dataclass(frozen=True)
class Bar:
    """What one contender must reach against another.

    Attributes:
        contender: Who.
        against: Against whom.
        measure: ``"wall"`` or ``"CPU"``: rows per second of which time, in the steady state.
        bar: The least ratio.
        aim: The ratio that is wanted.
    """

    contender: str
    against: str
    measure: str
    bar: float
    aim: float


BARS = (
    Bar("native", "raw", "wall", 0.65, 0.9),
    Bar("sabot_ray", "raw", "wall", 0.55, 0.8),
    Bar("sabot_ray", "ray", "wall", 8, 12),
    Bar("sabot_ray", "ray", "CPU", 8, 12),
    Bar("aiokafka", "ray", "CPU", 1.5, 2),
)
#: The same, of those that write. Exactly-once has no aim of its own.
WRITING_BARS = (
    Bar("to_kafka", "ray", "CPU", 8, 12),
    Bar("to_kafka", "raw", "wall", 0.6, 0.8),
    Bar("to_kafka", "raw_copy", "wall", 0.6, 0.8),
    Bar("sink", "raw", "wall", 0.6, 0.8),
    Bar("sink", "raw", "CPU", 0.6, 0.8),
    Bar("exactly_once", "to_kafka", "wall", 0.75, 0.75),
)

#: Longest time to the first batch on the driver, in seconds: bar and aim.
FIRST_BATCH_S = (0.1, 0.03)
#: How much later than a bare consumer's a row may arrive, in milliseconds...
LATENCY_OVER_BARE_MS = {"p50": 2.0, "p99": 4.0}
#: ...and how late at all, if it is to be good.
LATENCY_AIM_P99_MS = 5.0
#: CPU for each record, over that with one partition: bar and aim.
PARTITIONS_CPU = (1.1, 1.05)
#: Rows per CPU second of the fused chain, over those with the fewest partitions.
FUSED_RATE = 0.85
#: The driver's part of its CPU time.
FUSED_DRIVER_PERCENT = 5.0


class _Rates(Protocol):
    """What `Outcome` and `WriteOutcome` share."""

    @property
    def rows_per_s(self) -> float: ...
    @property
    def rows_per_cpu_s(self) -> float: ...


_RATES: dict[str, Callable[[_Rates], float]] = {
    "wall": lambda outcome: outcome.rows_per_s,
    "CPU": lambda outcome: outcome.rows_per_cpu_s,
}


class ResultFile:
    """A file of JSON lines: first where and with what it was made, then a line for each figure."""

    def __init__(self, path: Path, facts: dict[str, object]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts) + "\n")

    def add(self, kind: str, figure: Any) -> None:
        """Append a figure, given as a dataclass or a dictionary."""
        values = dataclasses.asdict(figure) if dataclasses.is_dataclass(figure) else figure
        with self.path.open("a") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")


def ratio(rounds: Iterable[Round[Any]], contender: str, against: str, measure: str) -> float:
    """Return the median of the rounds' ratios: neighbours in time are compared, whatever drifts."""
    rate = _RATES[measure]
    rates: dict[int, dict[str, float]] = {}
    for one in rounds:
        rates.setdefault(one.number, {})[one.contender] = rate(one.outcome)
    return median(found[contender] / found[against] for found in rates.values())


def judge_contenders(rounds: Sequence[Round[Any]], bars: Iterable[Bar]) -> Iterator[Verdict]:
    """Hold the contenders of each backlog against each other."""
    for case, part in _by_backlog(rounds):
        present = {one.contender for one in part}
        for bar in bars:
            if {bar.contender, bar.against} <= present:
                found = ratio(part, bar.contender, bar.against, bar.measure)
                what = f"{bar.contender} / {bar.against}, {bar.measure}"
                yield Verdict(what, case, found, bar.bar, bar.aim)


def judge_first_batch(case: str, times: Sequence[float]) -> Verdict:
    """Judge the times to the first batch."""
    bar, aim = FIRST_BATCH_S
    return Verdict("first batch, reader running", case, median(times), bar, aim, "s", False)


def judge_latency(figures: Sequence[Latency]) -> Iterator[Verdict]:
    """Hold the latency of sabot_ray against the bare consumer's; the others have no bar."""
    for rate, reader, pairs in _latency_pairs(figures):
        if reader == "sabot_ray":
            for name, bar in LATENCY_OVER_BARE_MS.items():
                over = median(getattr(o, name) - getattr(b, name) for b, o in pairs)
                case = f"{rate}/s"
                yield Verdict(f"latency over bare, {name}", case, over, bar, bar, "ms", False)


def judge_partitions(runs: Sequence[PartitionsRun]) -> Iterator[Verdict]:
    """Hold the CPU time with many partitions against that with the fewest."""
    rounds: dict[int, dict[int, float]] = {}
    for run in runs:
        rounds.setdefault(run.number, {})[run.partitions] = run.cpu_s / run.rows
    counts = sorted({run.partitions for run in runs})
    bar, aim = PARTITIONS_CPU
    for count in counts[1:]:
        found = median(cost[count] / cost[counts[0]] for cost in rounds.values())
        what = f"CPU per record / {counts[0]} partition"
        yield Verdict(what, f"{count} partitions", found, bar, aim, at_least=False)


def judge_fused(rounds: Sequence[WriteRound]) -> Iterator[Verdict]:
    """Hold the fused chain with many partitions against that with the fewest."""
    rates: dict[int, dict[int, float]] = {}
    for one in rounds:
        rates.setdefault(one.number, {})[one.partitions] = one.outcome.rows_per_cpu_s
    fewest, *others = sorted({one.partitions for one in rounds})
    for count in others:
        found = median(rate[count] / rate[fewest] for rate in rates.values())
        what = f"fused, rate per CPU / {fewest} partition"
        yield Verdict(what, f"{count} partitions", found, FUSED_RATE, FUSED_RATE)
    for count in (fewest, *others):
        mine = [one.outcome for one in rounds if one.partitions == count]
        found = median(_driver_percent(outcome) for outcome in mine)
        bar = FUSED_DRIVER_PERCENT
        yield Verdict("fused, driver's CPU", f"{count} partitions", found, bar, bar, "%", False)


def _driver_percent(outcome: WriteOutcome) -> float:
    return 100 * (outcome.driver_cpu_s or 0.0) / outcome.cpu_s


def judge_memory(figures: Sequence[ReaderMemory]) -> Iterator[Verdict]:
    """Hold what readers held against what they may hold."""
    for figure in figures:
        found, limit = figure.over_idle / 1e6, figure.limit / 1e6
        case = f"{figure.backend}, {figure.shape}, {figure.compression}"
        yield Verdict("reader's memory over idle", case, found, limit, limit, "MB", False)


def _by_backlog(rounds: Sequence[RoundT]) -> Iterator[tuple[str, list[RoundT]]]:
    for shape, compression in dict.fromkeys((one.shape, one.compression) for one in rounds):
        part = [one for one in rounds if (one.shape, one.compression) == (shape, compression)]
        yield f"{shape}, {compression}", part


def _latency_pairs(
    figures: Sequence[Latency],
) -> Iterator[tuple[int, str, list[tuple[Latency, Latency]]]]:
    """Yield rate, reader, and its rounds, each with the bare consumer's beside it."""
    pairs = list(zip(figures[::2], figures[1::2], strict=True))
    for rate, reader in dict.fromkeys((other.rate, other.reader) for _, other in pairs):
        yield rate, reader, [(b, o) for b, o in pairs if (o.rate, o.reader) == (rate, reader)]


def _table(title: str, *columns: str, left: int = 1) -> Table:
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < left else "right")
    return table


def show_throughput(console: Console, rounds: Sequence[Round[Outcome]]) -> None:
    """Print a table of the contenders for each backlog."""
    columns = ("rows", "M/s", "M/CPU s", "cores", "broker CPU s", "first s", "rows/batch")
    for case, part in _by_backlog(rounds):
        table = _table(f"{case}: median of {part[-1].number}", "contender", *columns)
        for contender in dict.fromkeys(one.contender for one in part):
            mine = [one for one in part if one.contender == contender]
            outcomes = [one.outcome for one in mine]
            table.add_row(
                contender,
                f"{outcomes[0].rows:,}",
                f"{median(o.rows_per_s for o in outcomes) / 1e6:.3f}",
                f"{median(o.rows_per_cpu_s for o in outcomes) / 1e6:.3f}",
                f"{median(o.cores_busy for o in outcomes):.2f}",
                f"{median(one.broker_cpu_s for one in mine):.2f}",
                f"{median(o.first_batch_s for o in outcomes):.3f}",
                f"{median(o.rows / o.batches for o in outcomes):,.0f}",
            )
        console.print(table)


def show_writing(console: Console, rounds: Sequence[WriteRound]) -> None:
    """Print a table of the contenders that write, for each backlog and number of partitions."""
    columns = ("partitions", "rows", "M/s", "us CPU/record", "cores", "driver %", "broker CPU s")
    for case, part in _by_backlog(rounds):
        table = _table(f"writing {case}: median of {part[-1].number}", "contender", *columns)
        for name, partitions in dict.fromkeys((one.contender, one.partitions) for one in part):
            mine = [one for one in part if (one.contender, one.partitions) == (name, partitions)]
            outcomes = [one.outcome for one in mine]
            is_alone = outcomes[0].driver_cpu_s is None
            table.add_row(
                name,
                str(partitions),
                f"{outcomes[0].rows:,}",
                f"{median(o.rows_per_s for o in outcomes) / 1e6:.3f}",
                f"{1e6 / median(o.rows_per_cpu_s for o in outcomes):.3f}",
                f"{median(o.cores_busy for o in outcomes):.2f}",
                "" if is_alone else f"{median(map(_driver_percent, outcomes)):.1f}",
                f"{median(one.broker_cpu_s for one in mine):.2f}",
            )
        console.print(table)


def show_latency(console: Console, figures: Sequence[Latency]) -> None:
    """Print the latencies; each contender against the bare consumer that ran beside it."""
    title = 'produce to driver, ms; "over" is over the bare consumer beside it'
    columns = ("p50", "over", "p99", "over", "worst", "rows/batch")
    table = _table(title, "rate", "reader", *columns, left=2)
    for rate, reader, pairs in _latency_pairs(figures):
        for name, mine in ((BARE, [b for b, _ in pairs]), (reader, [o for _, o in pairs])):
            cells = []
            for part in LATENCY_OVER_BARE_MS:
                over = median(getattr(o, part) - getattr(b, part) for b, o in pairs)
                cells += [
                    f"{median(getattr(one, part) for one in mine):.2f}",
                    "" if name == BARE else f"{over:+.2f}",
                ]
            table.add_row(
                f"{rate}/s",
                name,
                *cells,
                f"{max(one.worst for one in mine):.1f}",
                f"{median(one.records / one.batches for one in mine):.1f}",
            )
    console.print(table)
    console.print(f"aim: p99 below {LATENCY_AIM_P99_MS:g} ms in all")


def show_partitions(console: Console, runs: Sequence[PartitionsRun]) -> None:
    """Print what reading costs with each number of partitions."""
    columns = ("readers", "started s", "M/s", "us CPU/record", "driver", "Ray", "rows/batch")
    title = f"{runs[0].rows:,} records through Ray: median of {runs[-1].number}"
    table = _table(title, "partitions", *columns)
    for count in sorted({run.partitions for run in runs}):
        mine = [run for run in runs if run.partitions == count]
        table.add_row(
            str(count),
            str(mine[0].readers),
            f"{median(run.started_s for run in mine):.2f}",
            f"{median(run.rows / run.wall_s for run in mine) / 1e6:.3f}",
            *(
                f"{median(getattr(run, name) / run.rows for run in mine) * 1e6:.3f}"
                for name in ("cpu_s", "driver_cpu_s", "ray_cpu_s")
            ),
            f"{median(run.rows / run.batches for run in mine):,.0f}",
        )
    console.print(table)


def show_memory(console: Console, figures: Sequence[ReaderMemory]) -> None:
    """Print what readers held."""
    columns = ("idle", "peak", "own", "object store", "over idle", "limit")
    table = _table("a reader's memory with a slow driver, MB", "reader", *columns)
    for figure in figures:
        peak = figure.peak
        sizes = (figure.idle.resident, peak.resident, peak.own, peak.shared)
        table.add_row(
            f"{figure.backend}, {figure.shape}, {figure.compression}",
            *(f"{size / 1e6:.0f}" for size in (*sizes, figure.over_idle, figure.limit)),
        )
    console.print(table)


def show_driver_cost(console: Console, costs: Sequence[DriverCost]) -> None:
    """Print what a batch costs the driver."""
    title = "the driver's CPU time for a batch, ms; a bare actor call returns the same batch"
    table = _table(title, "rows", "KB", "sabot_ray", "bare", "ratio", left=0)
    for rows in dict.fromkeys(cost.batch_rows for cost in costs):
        mine = [cost for cost in costs if cost.batch_rows == rows]
        table.add_row(
            f"{rows:,}",
            f"{mine[0].batch_bytes / 1e3:.0f}",
            f"{median(cost.cpu_s for cost in mine) * 1e3:.3f}",
            f"{median(cost.bare_cpu_s for cost in mine) * 1e3:.3f}",
            f"{median(cost.cpu_s / cost.bare_cpu_s for cost in mine):.2f}",
        )
    console.print(table)


def show_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Print the figures against their bars."""
    table = _table("bars", "what", "case", "found", "bar", "aim", left=2)
    for verdict in verdicts:
        colour = "green" if verdict.is_aimed else "yellow" if verdict.is_reached else "red"
        missed = "" if verdict.is_reached else " MISSED"
        table.add_row(
            verdict.what,
            verdict.case,
            f"[{colour}]{verdict.text(verdict.found)}[/{colour}]{missed}",
            verdict.bar_text,
            verdict.text(verdict.aim),
        )
    console.print(table)
