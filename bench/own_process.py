"""Runs a part of a benchmark in a process of its own, where nothing else counts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def module(name: str, *arguments: object) -> list[str]:
    """Return the command that runs a module with the arguments."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def run(what: str, command: Sequence[str], given: str, timeout_s: float) -> list[str]:
    """Run a command to its end.

    Args:
        what: What it measures, for errors.
        command: The command.
        given: Its standard input.
        timeout_s: The longest time that it may take, in seconds.

    Returns:
        The lines of its standard output.

    Raises:
        RuntimeError: It failed; the message holds what it printed.
    """
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{what} failed:\n{done.stderr[-4000:]}")
    return done.stdout.splitlines()
