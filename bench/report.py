"""Result files (JSON lines) and the tables that are made of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.job import Outcome
from bench.latency import BARE, Latency
from bench.throughput import Round


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

#: Longest time to the first batch on the driver, in seconds: bar and aim.
FIRST_BATCH_S = (0.1, 0.03)
#: How much later than a bare consumer's a row may arrive, in milliseconds.
LATENCY_OVER_BARE_MS = {"p50": 2.0, "p99": 4.0}

_RATES: dict[str, Callable[[Outcome], float]] = {
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


def ratio(rounds: Iterable[Round], contender: str, against: str, measure: str) -> float:
    """Return the median of the rounds' ratios: neighbours in time are compared, whatever drifts."""
    rate = _RATES[measure]
    rates: dict[int, dict[str, float]] = {}
    for one in rounds:
        rates.setdefault(one.number, {})[one.contender] = rate(one.outcome)
    return median(found[contender] / found[against] for found in rates.values())


def show_throughput(console: Console, rounds: list[Round]) -> None:
    """Print a table of the contenders, and one of the bars, for each backlog."""
    for shape, compression in dict.fromkeys((one.shape, one.compression) for one in rounds):
        part = [one for one in rounds if (one.shape, one.compression) == (shape, compression)]
        contenders = list(dict.fromkeys(one.contender for one in part))
        title = (
            f"{shape}, {compression}: {part[0].outcome.rows:,} rows, median of {part[-1].number}"
        )
        table = Table(title=title, title_justify="left")
        table.add_column("contender")
        for name in ("M/s", "M/CPU s", "cores", "broker CPU s", "first s", "rows/batch"):
            table.add_column(name, justify="right")
        for contender in contenders:
            mine = [one for one in part if one.contender == contender]
            outcomes = [one.outcome for one in mine]
            table.add_row(
                contender,
                f"{median(o.rows_per_s for o in outcomes) / 1e6:.3f}",
                f"{median(o.rows_per_cpu_s for o in outcomes) / 1e6:.3f}",
                f"{median(o.cores_busy for o in outcomes):.2f}",
                f"{median(one.broker_cpu_s for one in mine):.2f}",
                f"{median(o.first_batch_s for o in outcomes):.3f}",
                f"{median(o.rows / o.batches for o in outcomes):,.0f}",
            )
        console.print(table)
        _show_bars(console, part, set(contenders))


def _show_bars(console: Console, rounds: list[Round], contenders: set[str]) -> None:
    table = Table()
    for name in ("ratio", "measure"):
        table.add_column(name)
    for name in ("found", "bar", "aim"):
        table.add_column(name, justify="right")
    for bar in BARS:
        if {bar.contender, bar.against} <= contenders:
            found = ratio(rounds, bar.contender, bar.against, bar.measure)
            table.add_row(
                f"{bar.contender} / {bar.against}",
                bar.measure,
                _judged(f"{found:.2f}", found >= bar.bar, found >= bar.aim),
                f">= {bar.bar:g}",
                f"{bar.aim:g}",
            )
    if table.row_count:
        console.print(table)


def show_first_batch(console: Console, times: list[float]) -> None:
    """Print the time to the first batch."""
    bar, aim = FIRST_BATCH_S
    found = median(times)
    judged = _judged(f"{found:.3f} s", found <= bar, found <= aim)
    console.print(
        f"first batch on the driver, reader running: {judged} (bar {bar:g}, aim {aim:g}), "
        f"median of {len(times)}"
    )


def show_latency(console: Console, figures: list[Latency]) -> None:
    """Print the latencies; each contender against the bare consumer that ran beside it."""
    table = Table(
        title='produce to driver, ms; "over" is over the bare consumer beside it',
        title_justify="left",
    )
    table.add_column("rate")
    table.add_column("reader")
    for name in ("p50", "over", "p99", "over", "worst", "rows/batch"):
        table.add_column(name, justify="right")
    pairs = list(zip(figures[::2], figures[1::2], strict=True))
    for rate, reader in dict.fromkeys((other.rate, other.reader) for _, other in pairs):
        mine = [(b, o) for b, o in pairs if (o.rate, o.reader) == (rate, reader)]
        bare = [b for b, _ in mine]
        own = [o for _, o in mine]
        cells = []
        for name, bar in LATENCY_OVER_BARE_MS.items():
            over = median(getattr(o, name) - getattr(b, name) for b, o in mine)
            cells += [
                f"{median(getattr(o, name) for o in own):.2f}",
                _judged(f"{over:+.2f}", over <= bar, over <= bar),
            ]
        table.add_row(f"{rate}/s", BARE, *_bare_cells(bare))
        table.add_row(
            f"{rate}/s",
            reader,
            *cells,
            f"{max(o.worst for o in own):.1f}",
            f"{median(o.records / o.batches for o in own):.1f}",
        )
    console.print(table)
    bars = ", ".join(f"{name} +{ms:g} ms" for name, ms in LATENCY_OVER_BARE_MS.items())
    console.print(f"bars over the bare consumer: {bars}")


def _bare_cells(figures: list[Latency]) -> list[str]:
    return [
        f"{median(f.p50 for f in figures):.2f}",
        "",
        f"{median(f.p99 for f in figures):.2f}",
        "",
        f"{max(f.worst for f in figures):.1f}",
        "1.0",
    ]


def _judged(text: str, reached: bool, aimed: bool) -> str:
    colour = "green" if aimed else "yellow" if reached else "red"
    return f"[{colour}]{text}[/{colour}]{'' if reached else ' MISSED'}"
