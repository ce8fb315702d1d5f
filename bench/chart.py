"""Draws a run's figures against their bars; ``python -m bench.chart FILE.jsonl`` draws it again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.report import Verdict

# Shades that also differ in brightness, for whoever does not see the colours.
_AIMED, _REACHED, _MISSED = "#1b7837", "#a6c96a", "#b2182b"
#: A figure so many times better than its bar ends there.
_MOST = 3.0


def draw(verdicts: Sequence[Verdict], title: str, path: Path) -> bool:
    """Write a PNG: how many times better than its bar each figure is.

    Returns:
        Whether it was drawn; False without matplotlib.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    figure, axes = plt.subplots(figsize=(11, 1.4 + 0.36 * len(verdicts)), layout="constrained")
    for row, verdict in enumerate(verdicts):
        colour = _AIMED if verdict.is_aimed else _REACHED if verdict.is_reached else _MISSED
        reached = _times_the_bar(verdict, verdict.found)
        axes.barh(row, reached, color=colour, height=0.7)
        missed = "" if verdict.is_reached else "   MISSED"
        label = f"{verdict.text(verdict.found)}   (bar {verdict.bar_text}){missed}"
        axes.text(reached + 0.02, row, label, va="center", fontsize=9)
        if verdict.aim != verdict.bar:
            aim = _times_the_bar(verdict, verdict.aim)
            axes.plot([aim, aim], [row - 0.35, row + 0.35], color="black", linestyle=":")
    axes.axvline(1.0, color="black", linewidth=1.5)
    names = [f"{verdict.what}  [{verdict.case}]" for verdict in verdicts]
    axes.set_yticks(range(len(verdicts)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set_ylim(len(verdicts) - 0.5, -0.5)
    # Room for the longest label.
    axes.set_xlim(0, max(_times_the_bar(verdict, verdict.found) for verdict in verdicts) + 1.0)
    axes.set_xlabel("times better than the bar asks for (line at 1: the bar; dotted: the aim)")
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    kinds = (("aim reached", _AIMED), ("bar reached", _REACHED), ("bar missed", _MISSED))
    axes.legend(
        handles=[Patch(color=colour, label=name) for name, colour in kinds],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.9 / (1.4 + 0.36 * len(verdicts))),
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def _times_the_bar(verdict: Verdict, value: float) -> float:
    if verdict.at_least:
        return min(value / verdict.bar, _MOST)
    # A latency may be below the bare consumer's.
    return min(verdict.bar / value, _MOST) if value > 0 else _MOST


def describe(facts: dict[str, object]) -> str:
    """Return a title for the figures of a run."""
    return f"{facts['date']}, commit {str(facts['commit'])[:10]}, {facts['cores']} x {facts['cpu']}"


def _main(source: Path) -> None:
    facts, *figures = map(json.loads, source.read_text().splitlines())
    verdicts = [
        Verdict(**{name: value for name, value in figure.items() if name != "kind"})
        for figure in figures
        if figure["kind"] == "verdict"
    ]
    if not draw(verdicts, describe(facts), source.with_suffix(".png")):
        raise SystemExit("matplotlib is missing: pip install --group bench")
    print(source.with_suffix(".png"))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
