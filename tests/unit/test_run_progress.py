"""The progress bar of bounded reads."""

from __future__ import annotations

import contextlib
import io

import pytest

from sabot_ray.kafka.metadata import OffsetRange
from sabot_ray.runtime import progress
from sabot_ray.runtime.progress import RunProgress
from sabot_ray.runtime.reader_handle import PartitionProgress
from sabot_ray.types import SourceStats, TopicPartition

PARTITION = TopicPartition("t", 0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 120 columns."""
    monkeypatch.setattr(progress, "_QUIET_S", 0.0)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("SABOT_RAY_PROGRESS", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def show(stderr: io.StringIO, end_offset: int | None, stats: SourceStats) -> str:
    """Return what is shown of a partition of which 2500 offsets were read."""
    partition = PartitionProgress(OffsetRange(0, end_offset), 2500, 0)
    with contextlib.redirect_stderr(stderr), RunProgress({PARTITION: partition}) as shown:
        shown._updated -= 1.0
        partition.delivered_offset, partition.rows = 2500, 2000
        partition.delivered_stats = stats
        shown.update()
    return stderr.getvalue()


def test_bar_tells_how_far_it_is_and_what_was_passed_over(terminal: Terminal) -> None:
    stats = SourceStats(decode_errors=1200, failures=3, dead_letters=1203)
    text = show(terminal, 10_000, stats)
    assert "25% of 10,000 offsets" in text
    assert "rows/s, 1,203 skipped, 1,203 dead letters" in text


def test_bar_tells_of_nothing_that_was_passed_over_where_nothing_was(terminal: Terminal) -> None:
    text = show(terminal, 10_000, SourceStats(records=2500))
    assert "rows/s" in text
    assert "skipped" not in text


@pytest.mark.parametrize("why", ["unbounded", "empty", "off", "file"])
def test_no_bar_where_it_would_tell_nothing(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "off":
        monkeypatch.setenv("SABOT_RAY_PROGRESS", "0")
    stderr = io.StringIO() if why == "file" else terminal
    end_offset = {"unbounded": None, "empty": 0}.get(why, 10_000)
    assert show(stderr, end_offset, SourceStats()) == ""
